"""What every tool of this room reports: what it made, how long it took, how exact it is, and its memory."""

from __future__ import annotations

import ctypes
import math
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Progress = Callable[[int, int, str], None]
"""Called with how many steps are done, of how many, and what is done now."""


def silent(done: int, of: int, what: str) -> None:
    """A progress that tells nobody."""


@dataclass(frozen=True)
class Part:
    """A group of sites, a block or the whole file: squared norms, which add up.

    Attributes:
        norm2: the squared Frobenius norm of the true delta.
        lost2: the squared norm of what the output leaves out, by rank and by rounding.
    """

    sites: int = 0
    norm2: float = 0.0
    lost2: float = 0.0

    def __add__(self, other: Part) -> Part:
        return Part(self.sites + other.sites, self.norm2 + other.norm2, self.lost2 + other.lost2)

    @property
    def error(self) -> float:
        """The share of the norm that is lost, 0 to 1."""
        return math.sqrt(self.lost2 / self.norm2) if self.norm2 else 0.0

    def to_json(self) -> dict[str, Any]:
        """As the command line prints it."""
        return {"sites": self.sites, "norm": math.sqrt(self.norm2), "error": self.error}


@dataclass(frozen=True)
class Outcome:
    """What a tool did, or with ``out`` None (a dry run) would do.

    Attributes:
        seconds: wall-clock time.
        error: the share of the deltas' Frobenius norm that the output lacks, 0 to 1.
        peak_mb: the most memory that the process held so far, in MB.
        size: of the output, in bytes.
        blocks: norm and error by block, IN00..OUT11 and BASE.
        notes: what the person should know: sites dropped, kept as they are, ranks capped, ...
        more: what only one tool tells, such as the ranks.
    """

    out: Path | None
    seconds: float
    error: float
    peak_mb: float
    size: int
    blocks: Mapping[str, Part] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As the command line prints it with `--json`."""
        return {
            "out": None if self.out is None else str(self.out),
            "seconds": round(self.seconds, 3),
            "error": self.error,
            "peak_mb": round(self.peak_mb, 1),
            "size": self.size,
            "blocks": {name: part.to_json() for name, part in self.blocks.items()},
            "notes": list(self.notes),
            **self.more,
        }


@dataclass
class Tally:
    """Counts while a tool works, and the outcome at its end."""

    blocks: dict[str, Part] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)

    def add(self, block: str, norm2: float, lost2: float) -> None:
        """Count one site."""
        self.blocks[block] = self.blocks.get(block, Part()) + Part(1, norm2, lost2)

    def outcome(self, out: Path | None, size: int, **more: object) -> Outcome:
        """The report of all that was counted."""
        whole = sum(self.blocks.values(), Part())
        seconds = time.perf_counter() - self.started
        blocks = dict(sorted(self.blocks.items(), key=lambda item: _order(item[0])))
        return Outcome(out, seconds, whole.error, peak_mb(), size, blocks, tuple(self.notes), more)


def _order(block: str) -> tuple[int, str]:
    """BASE, then the UNet from its input to its output."""
    words = ("BASE", "IN", "M", "OUT")
    word = block.rstrip("0123456789")
    return words.index(word) if word in words else len(words), block


def peak_mb() -> float:
    """The most memory that this process has held so far, in MB (10^6 bytes)."""
    if sys.platform == "win32":
        return _peak_windows() / 1e6
    status = Path("/proc/self/status")
    if status.is_file():  # Linux, where ru_maxrss begins with the size of the process that has started this one
        found = re.search(r"^VmHWM:\s*(\d+) kB", status.read_text(encoding="ascii", errors="replace"), re.MULTILINE)
        if found:
            return int(found[1]) * 1024 / 1e6
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def _peak_windows() -> int:
    """PeakWorkingSetSize of PROCESS_MEMORY_COUNTERS."""
    counters = (ctypes.c_size_t * 10)()  # two DWORDs share the first element; the peak is the second
    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined]
    kernel.GetCurrentProcess.restype = ctypes.c_void_p
    size = 8 + 8 * ctypes.sizeof(ctypes.c_size_t)
    kernel.K32GetProcessMemoryInfo(ctypes.c_void_p(kernel.GetCurrentProcess()), counters, size)
    return int(counters[1])
