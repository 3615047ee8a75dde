"""What a rule is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from lora_lab.guide.facts import Facts
from lora_lab.guide.source import Source

Severity = Literal["warning", "note"]
When = Literal["before", "during", "after"]


@dataclass(frozen=True)
class Fired:
    """What a rule says of these facts."""

    text: str
    """What is so, in a sentence without its full stop."""
    remedy: str = ""
    """What to do, likewise."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Settings that do it; empty where only a person can."""


@dataclass(frozen=True)
class Rule:
    """One thing to look out for."""

    id: str
    title: str
    """A few words."""
    why: str
    """A sentence without its full stop."""
    source: Source
    fires: Callable[[Facts], Fired | None]
    severity: Severity = "note"
    settings: tuple[str, ...] = ()
    """Settings that it speaks of."""
    when: When = "before"
    instead_of: tuple[str, ...] = ()
    """Pieces of sentences of `training/checks` that need not be heard beside it: here they have a button."""


@dataclass(frozen=True)
class Finding:
    """A rule that has fired."""

    rule: Rule
    fired: Fired

    @property
    def button(self) -> str:
        """What the button that does it says; empty where there is none."""
        pieces = [f"{name} {_told(value)}" for name, value in self.fired.changes.items()]
        return "set " + ", ".join(pieces) if pieces else ""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "rule": self.rule.id, "severity": self.rule.severity, "what": self.fired.text, "why": self.rule.why,
            "do": self.fired.remedy, "changes": dict(self.fired.changes), "source": str(self.rule.source),
        }  # fmt: skip


def _told(value: Any) -> str:  # noqa: ANN401 - a setting's value
    if value is None or value == "":
        return "empty"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value)) or "empty"
    return f"{value:g}" if isinstance(value, float) else str(value)
