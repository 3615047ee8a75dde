"""What a check of a dataset finds: one value for each thing, with the file, the reason and the remedy."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Problem:
    """One thing that will hurt, or that is good to know."""

    file: str
    """File or folder."""
    rule: str
    """Short name of the check, e.g. ``broken-picture``."""
    why: str
    """What is wrong, one sentence."""
    remedy: str
    """What to do."""
    severity: Severity = "warning"
    """``error``: it cannot be used and is skipped; ``warning``: it is used and will hurt; ``note``: good to know."""

    def to_json(self) -> dict[str, str]:
        """Plain values."""
        return asdict(self)


def told(path: Path) -> str:
    """A path that can be printed: a name that is no Unicode (Linux allows any bytes) gets question marks."""
    return os.fsencode(path).decode("utf-8", "replace")
