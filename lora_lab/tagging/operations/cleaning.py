"""Operations that make fewer and clearer tags: groups into one, what the trigger absorbs, implied ones, spelling."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from typing import Any, ClassVar, Literal

from lora_lab.tagging import names
from lora_lab.tagging.filters import Look, parse
from lora_lab.tagging.operations.base import (
    PLAIN,
    Context,
    Operation,
    OperationError,
    Pairs,
    Tags,
    option,
    require,
    unique,
)
from lora_lab.tagging.patterns import matcher

COUNTS = re.compile(r"\d+\+?(girl|boy|other|people|animal)s?|multiple (girls|boys|others)|solo( focus)?|no humans")
"""Keys of tags that say how many are in the picture."""


@dataclass(frozen=True)
class Consolidate(Operation):
    """A group of tags for one thing into one tag."""

    name: ClassVar[str] = "consolidate"
    title: ClassVar[str] = "Consolidate"
    about: ClassVar[str] = (
        "Where tags of a group are, one tag takes the place of the first, and the others go. A tagger often says one "
        "thing in several ways; one name for one thing, on every picture that shows it, is what can be prompted later."
    )
    example: ClassVar[dict[str, Any]] = {"group": ("boots", "red footwear", "red boots"), "into": "red boots"}

    group: Tags = option("tags", "the tags that mean the same; * stands for any letters", leading=True)
    into: str = option("text", "the tag that stays", leading=True)
    where: Literal["any", "all"] = option(
        "choice", "any: one of the group is enough; all: only where every one is", "any", choices=("any", "all")
    )

    def check(self) -> None:
        """See `Operation.check`."""
        require(self.group, "the group")
        require((self.into,), "the tag that stays")
        if "," in self.into:
            raise OperationError("the tag that stays has a comma", remedy="give one tag")

    def apply(self, tags: Sequence[str], context: Context = PLAIN) -> list[str]:
        """See `Operation.apply`."""
        member = matcher(self.group)
        if not any(map(member, tags)) or (self.where == "all" and not self._complete(tags)):
            return list(tags)
        target = names.key(self.into)
        return unique((self.into if member(tag) or names.key(tag) == target else tag for tag in tags), {target})

    def _complete(self, tags: Sequence[str]) -> bool:
        return all(any(map(matcher((pattern,)), tags)) for pattern in self.group)


@dataclass(frozen=True)
class Prune(Operation):
    """Tags that the trigger is to absorb."""

    name: ClassVar[str] = "prune"
    title: ClassVar[str] = "Prune into the trigger"
    about: ClassVar[str] = (
        "Takes out tags so that what they name melts into the trigger: it comes with the trigger alone, and can hardly "
        "be prompted away. Tags that stay remain switches: hair and clothes that are tagged can be changed in a "
        "prompt, and must be prompted. Prune what is always the same and never to change; keep the rest."
    )
    example: ClassVar[dict[str, Any]] = {"tags": ("blue eyes", "mole under eye"), "trigger": "mika"}

    tags: Tags = option("tags", "what the trigger is to absorb; * stands for any letters", leading=True)
    trigger: str = option("text", "only in captions that have this trigger, which stays; empty for all", "")

    def check(self) -> None:
        """See `Operation.check`."""
        require(self.tags, "what to prune")

    def apply(self, tags: Sequence[str], context: Context = PLAIN) -> list[str]:
        """See `Operation.apply`."""
        trigger = names.key(self.trigger)
        if trigger and not any(names.key(tag) == trigger for tag in tags):
            return list(tags)
        gone = matcher(self.tags)
        return [tag for tag in tags if not gone(tag) or names.key(tag) == trigger]


@dataclass(frozen=True)
class Duplicates(Operation):
    """Each tag once."""

    name: ClassVar[str] = "duplicates"
    title: ClassVar[str] = "Remove duplicates"
    about: ClassVar[str] = "Keeps each tag once, where it comes first; 'Long_Hair' and 'long hair' are the same tag."
    example: ClassVar[dict[str, Any]] = {}

    def apply(self, tags: Sequence[str], context: Context = PLAIN) -> list[str]:
        """See `Operation.apply`."""
        return unique(tags)


@dataclass(frozen=True)
class Implications(Operation):
    """Tags that another tag says already."""

    name: ClassVar[str] = "implications"
    title: ClassVar[str] = "Remove implied tags"
    about: ClassVar[str] = (
        "Takes out a tag where a more exact one is there: 'boots' beside 'red boots'. Never for 'no ...' tags and "
        "numbers of people. Pairs tell it of more: katana=sword takes out 'sword' beside 'katana'."
    )
    example: ClassVar[dict[str, Any]] = {"pairs": (("katana", "sword"),), "keep": ("mika",)}

    pairs: Pairs = option("pairs", "exact=implied: more that is implied", (), leading=True)
    endings: bool = option("switch", "a tag is implied by any that ends in it", True)
    keep: Tags = option("tags", "never taken out (triggers)", ())

    def check(self) -> None:
        """See `Operation.check`."""
        if not self.pairs and not self.endings:
            raise OperationError("nothing is implied", remedy="turn endings on, or give pairs")
        try:
            TopologicalSorter({a: set(b) for a, b in _implied(self.pairs).items()}).prepare()
        except CycleError as error:
            what = f"pairs imply each other: {' > '.join(error.args[1])}"
            raise OperationError(what, remedy="take one of them away, or both tags would go") from error

    def apply(self, tags: Sequence[str], context: Context = PLAIN) -> list[str]:
        """See `Operation.apply`."""
        implied = _implied(self.pairs)
        gone: set[str] = set()
        for tag in tags:
            key = names.key(tag)
            gone.update(implied.get(key, ()))
            if self.endings:
                gone.update(_endings(key))
        kept = matcher(self.keep)
        return [t for t in tags if names.key(t) not in gone or kept(t) or COUNTS.fullmatch(names.key(t))]


@dataclass(frozen=True)
class Spelling(Operation):
    """How tags are spelled."""

    name: ClassVar[str] = "spelling"
    title: ClassVar[str] = "Spelling"
    about: ClassVar[str] = (
        "Blanks or underscores, brackets plain or with backslashes, small letters. Captions for training are plain, "
        "with blanks; backslashes belong into prompts. Faces such as ^_^ keep their underscore."
    )
    example: ClassVar[dict[str, Any]] = {"to": "spaces", "keep": ("mika_v2",)}

    to: Literal["spaces", "underscores", "plain", "escaped", "lowercase"] = option(
        "choice", "what to change tags to", choices=("spaces", "underscores", "plain", "escaped", "lowercase"),
        leading=True,
    )  # fmt: skip
    keep: Tags = option("tags", "never changed (triggers)", ())

    def apply(self, tags: Sequence[str], context: Context = PLAIN) -> list[str]:
        """See `Operation.apply`."""
        kept = matcher(self.keep)
        return [tag if kept(tag) else _spelled(self.to, tag) for tag in tags]


@dataclass(frozen=True)
class OnOff(Operation):
    """A tag exactly where it belongs."""

    name: ClassVar[str] = "on-off"
    title: ClassVar[str] = "On/off tag"
    about: ClassVar[str] = (
        "Puts a tag on every caption that a condition holds for, and takes it off all others. What is to be switched "
        "in a prompt must be tagged exactly where it can be seen, and there must be pictures of both kinds."
    )
    example: ClassVar[dict[str, Any]] = {"tag": "winter outfit", "when": "scarf OR coat"}

    tag: str = option("text", "the tag that is switched", leading=True)
    when: str = option("text", "where it is on: a filter on the caption's other tags", leading=True)
    keep: int = option("number", "new ones go behind so many leading tags; -1 for the end", -1)

    def check(self) -> None:
        """See `Operation.check`."""
        require((self.tag,), "the tag")
        if "," in self.tag:
            raise OperationError("the tag has a comma", remedy="switch one tag at a time")
        beyond = parse(self.when).asks - {"tags"}
        if beyond:
            remedy = "ask for tags here, and narrow the rest down by the step's own filter"
            raise OperationError(f"the condition asks for {sorted(beyond)[0]}", remedy=remedy)

    def apply(self, tags: Sequence[str], context: Context = PLAIN) -> list[str]:
        """See `Operation.apply`."""
        key = names.key(self.tag)
        others = [tag for tag in tags if names.key(tag) != key]
        if not parse(self.when).matches(Look(tuple(others))):
            return others
        if len(others) < len(tags):
            return unique(tags, {key})
        place = len(others) if self.keep < 0 else min(self.keep, len(others))
        return [*others[:place], self.tag, *others[place:]]


@lru_cache(maxsize=64)
def _implied(pairs: Pairs) -> Mapping[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for exact, implied in pairs:
        found.setdefault(names.key(exact), set()).update(names.key(tag) for tag in names.split(implied))
    return {key: frozenset(tags) for key, tags in found.items()}


@lru_cache(maxsize=65_536)
def _endings(key: str) -> Tags:
    """``long red hair`` to ``red hair`` and ``hair``: what it implies. Nothing, if it denies something."""
    words = key.split(" ")
    if words[0] in ("no", "without", "missing"):
        return ()
    return tuple(" ".join(words[i:]) for i in range(1, len(words)))


@lru_cache(maxsize=65_536)
def _spelled(to: str, tag: str) -> str:
    if to == "spaces":
        return names.spaced(tag) or tag
    if to == "underscores":
        return names.underscored(tag)
    if to == "lowercase":
        return tag.lower()
    plain = names.unescape(tag)
    return names.escape(plain) if to == "escaped" else plain
