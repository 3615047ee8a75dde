"""What each setting is: one table that the widgets, ``--help``, the docs and the checks all read. No torch here.

A setting is a dataclass field made by `setting(...)`; `spec_of` turns it into a `FieldSpec`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["bool", "int", "float", "text", "folder", "choice", "list", "paths", "size", "lines", "numbers"]
"""How a value is read and which widget fits: `size` is a number or two, `lines` text of several lines, `list` words,
`paths` files, one per line, `numbers` a text of numbers with commas between, or the name of a curve."""

Group = Literal[
    "dataset", "buckets", "captions", "latents", "network", "kinds", "blocks", "learning", "noise", "speed", "output",
    "previews", "start",
]
"""Which part of the form a setting stands in."""

SAME = "same"
"""Said of kohya's default where it is ours too."""


@dataclass(frozen=True)
class FieldSpec:
    """One setting: its type, default, limits and explanation."""

    name: str
    kind: Kind
    optional: bool
    """None (an empty box) is allowed, and means what the help says."""
    default: Any
    help: str
    group: Group
    unit: str = ""
    cost: str = ""
    """What a larger value (or switching it on) costs, in a few words."""
    choices: tuple[str, ...] = ()
    open: bool = False
    """The choices are those that are known; others are taken too, and checked before the start."""
    minimum: float | None = None
    maximum: float | None = None
    kohya_default: Any = SAME
    """What kohya's scripts take when nothing is said, where that differs from ours; None is off or empty."""
    aliases: tuple[str, ...] = ()
    """Other names that are understood: kohya's GUI, old spellings."""

    @property
    def text(self) -> str:
        """Help with unit, cost and the difference from kohya, as a tooltip or ``--help`` shows it."""
        parts = [self.help]
        if self.unit:
            parts.append(f"Unit: {self.unit}.")
        if self.cost:
            parts.append(f"Cost: {self.cost}.")
        if self.kohya_default != SAME:
            default = "off" if self.kohya_default in (None, False, 0) else self.kohya_default
            parts.append(f"kohya's own default: {'on' if default is True else default}.")
        return " ".join(parts)


def setting(default: Any, text: str, *, kind: Kind, group: Group, **details: Any) -> Any:  # noqa: ANN401 - a field
    """A dataclass field that carries its row of the table.

    Args:
        default: our default; None makes the setting optional.
        text: help in one or two plain sentences.
        kind: see `Kind`.
        group: which part of the form it stands in.
        details: the other fields of `FieldSpec` (unit, cost, choices, open, minimum, maximum, kohya_default, aliases).
    """
    row = {"help": text, "kind": kind, "group": group, "optional": default is None, **details}
    return dataclasses.field(default=default, metadata=row)


def spec_of(field: dataclasses.Field[Any]) -> FieldSpec:
    """The table's row of a field made by `setting`."""
    row: Mapping[str, Any] = field.metadata
    return FieldSpec(name=field.name, default=field.default, **row)
