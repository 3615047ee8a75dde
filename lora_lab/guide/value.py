"""One recommended value with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lora_lab.guide.source import Source


@dataclass(frozen=True)
class Value:
    """A setting as it is recommended."""

    name: str
    value: Any
    """As `TrainSettings.from_mapping` reads it: a plain value, lists for lists."""
    why: str
    """One line without its full stop."""
    source: Source
