"""What an operation is: a frozen dataclass whose fields are its options, and a pure function from tags to tags.

The fields carry their own help, so that one table makes the widgets, the command line and the docs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, ClassVar, Literal

from lora_lab.errors import UserError
from lora_lab.tagging import names

Tags = tuple[str, ...]
Pairs = tuple[tuple[str, str], ...]
Kind = Literal["text", "number", "switch", "tags", "pairs", "choice"]
Need = Literal["counts", "tokens", "scores"]


class OperationError(UserError):
    """An operation, a filter or a recipe that cannot be meant."""


@dataclass(frozen=True)
class Context:
    """What an operation may know beyond the caption's tags."""

    counts: Mapping[str, int] = field(default_factory=dict)
    """Key of a tag -> captions of the dataset that have it."""
    tokens: Callable[[str], int] | None = None
    """Caption -> tokens of the text encoder, without begin and end. None of them reaches over a blank."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Key of a tag -> the tagger's probability for this picture."""


PLAIN = Context()


@dataclass(frozen=True)
class Option:
    """A field of an operation, as a form shows it."""

    name: str
    kind: Kind
    default: Any
    """The field's default; None where a value must be given."""
    help: str
    choices: tuple[str, ...] = ()
    leading: bool = False
    """Does the command line take it without its name?"""


def option(kind: Kind, text: str, default: Any = MISSING, *, choices: Tags = (), leading: bool = False) -> Any:  # noqa: ANN401
    """A dataclass field with its help.

    Args:
        kind: how it is read and shown.
        text: one line of help.
        default: MISSING where a value must be given.
        choices: for ``choice``.
        leading: the command line takes it without its name.
    """
    about = {"kind": kind, "help": text, "choices": choices, "leading": leading}
    return field(metadata=about) if default is MISSING else field(default=default, metadata=about)


@dataclass(frozen=True)
class Operation(ABC):
    """One way of changing captions. Values with equal fields are equal; nothing is ever changed in place."""

    name: ClassVar[str]
    """As on the command line and in recipes."""
    title: ClassVar[str]
    """On its button."""
    about: ClassVar[str]
    """What it does, and when one wants it: one to three sentences."""
    example: ClassVar[Mapping[str, Any]]
    """Values of its fields, for docs and tests."""

    @property
    def needs(self) -> frozenset[Need]:
        """What it reads of the context."""
        return frozenset()

    def check(self) -> None:  # noqa: B027 - some have nothing to refuse
        """Refuse what cannot be meant.

        Raises:
            OperationError: the reason.
        """

    @abstractmethod
    def apply(self, tags: Sequence[str], context: Context = PLAIN) -> list[str]:
        """The new tags of one caption.

        Args:
            tags: of one caption, in their order, without commas.
            context: what `needs` names.
        """

    @classmethod
    def options(cls) -> tuple[Option, ...]:
        """Its fields, in their order."""
        return tuple(_option(f) for f in fields(cls))

    def to_json(self) -> dict[str, Any]:
        """``operation`` and every field that is not at its default."""
        values: dict[str, Any] = {"operation": self.name}
        for each in self.options():
            value = getattr(self, each.name)
            if value != each.default:
                values[each.name] = _plain(value)
        return values

    def told(self) -> str:
        """A line for lists: ``add: blue sky``."""
        said = [_said(getattr(self, o.name)) for o in self.options() if getattr(self, o.name) != o.default]
        return f"{self.name}: {'; '.join(said)}" if said else self.name


def _option(f: Field[Any]) -> Option:
    about = f.metadata
    default = None if f.default is MISSING else f.default
    return Option(f.name, about["kind"], default, about["help"], about["choices"], about["leading"])


def _plain(value: Any) -> Any:  # noqa: ANN401 - JSON
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def _said(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(" > ".join(v) if isinstance(v, tuple) else str(v) for v in value)
    return {True: "on", False: "off"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def unique(tags: Iterable[str], among: frozenset[str] | set[str] | None = None) -> list[str]:
    """The tags without those whose key came before.

    Args:
        tags: in their order.
        among: keys to look at; None for all.
    """
    seen: set[str] = set()
    kept = []
    for tag in tags:
        key = names.key(tag)
        if among is None or key in among:
            if key in seen:
                continue
            seen.add(key)
        kept.append(tag)
    return kept


def require(tags: Tags, what: str) -> None:
    """Refuse an option without tags.

    Raises:
        OperationError: there are none.
    """
    if not any(tag.strip() for tag in tags):
        raise OperationError(f"{what} is empty", remedy="give at least one tag")
