"""What a file of settings holds: while it is read, and as it is handed on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lora_lab.training.settings import TrainSettings

MayLook = Callable[[Path], bool]
"""May a path that a file names be opened? A host that listens to a network allows its own folders only."""

NAMES_TOLD = 12
"""More names than this are counted instead of listed in one line."""


def always(path: Path) -> bool:
    """`MayLook` on a person's own machine."""
    return True


@dataclass(frozen=True)
class Left:
    """A key of a file that was not taken, and why: a sentence without its full stop."""

    name: str
    why: str


@dataclass
class Reading:
    """What a file says in kohya's words, and what was noticed on the way. Grows while the file is read."""

    values: dict[str, Any] = field(default_factory=dict)
    """Option of kohya's scripts -> text, number, switch, list or None."""
    left: list[Left] = field(default_factory=list)
    refused: list[Left] = field(default_factory=list)
    """What would make the run another one than the file asks for."""
    remarks: list[str] = field(default_factory=list)
    """Sentences without their full stop."""
    origin: str = "kohya's options"
    checkpoint: str = ""
    ours_unsaid: frozenset[str] = frozenset()
    """Settings that such a file never tells: they keep our default, the rest take kohya's."""
    may_look: MayLook = always

    def leave(self, name: str, why: str) -> None:
        """Take an option out, and say why."""
        self.values.pop(name, None)
        self.left.append(Left(name, why))

    def refuse(self, name: str, why: str) -> None:
        """As `leave`, where a run without it would be another one than the file asks for."""
        self.values.pop(name, None)
        self.refused.append(Left(name, why))

    def remark(self, text: str) -> None:
        """Something to know; told once."""
        if text not in self.remarks:
            self.remarks.append(text)


@dataclass(frozen=True)
class SettingsFile:
    """What a file held."""

    settings: TrainSettings
    values: tuple[str, ...] = ()
    """Names of the settings that the file gives."""
    left: tuple[Left, ...] = ()
    """Keys without a setting here; the run goes without them."""
    refused: tuple[Left, ...] = ()
    """Settings whose value in the file cannot be had: a run would be another one than the file asks for."""
    remarks: tuple[str, ...] = ()
    """What was translated, and what in the file does not go together: sentences with their full stop."""
    origin: str = "a file of LoRA Lab"
    checkpoint: str = ""
    """What the file trains on, as it says it; empty where it does not."""
    preset: bool = False
    """A file without dataset and names: those of the form stay."""

    @property
    def skipped(self) -> tuple[str, ...]:
        """Names of the keys that were not taken."""
        return tuple(sorted({item.name for item in (*self.refused, *self.left)}))

    @property
    def note(self) -> str:
        """One line on what was not taken, empty when all was."""
        return f"Not taken over from the file: {listed(self.skipped)}." if self.skipped else ""

    def by_reason(self) -> list[tuple[tuple[str, ...], str]]:
        """(names, why), those together that share a reason; what was refused first."""
        groups: dict[str, list[str]] = defaultdict(list)
        for item in (*self.refused, *self.left):
            if item.name not in groups[item.why]:
                groups[item.why].append(item.name)
        return [(tuple(names), why) for why, names in groups.items()]


def listed(names: tuple[str, ...] | list[str]) -> str:
    """``a, b and c``, or the first few and how many more; long names are cut, since a file may hold anything."""
    short = [name if len(name) <= 48 else name[:47] + "…" for name in (" ".join(n.split()) or "''" for n in names)]
    if len(short) <= NAMES_TOLD:
        return ", ".join(short)
    return f"{', '.join(short[: NAMES_TOLD - 2])} and {len(short) - NAMES_TOLD + 2:,} more"
