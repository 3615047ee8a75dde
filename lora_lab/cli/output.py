"""What a verb prints: lines for people, a progress bar on standard error, or one line of JSON."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from lora_lab.errors import LoraLabError

BAR = 28


class Output:
    """Where a verb tells what it does."""

    def __init__(self, *, json: bool) -> None:
        self._json = json
        self._bar = sys.stderr.isatty() and not json
        self._drawn = False
        self._silent = False
        self._told = 0.0
        self.status = 0
        """Exit status of a verb that has a result to tell and was not done all the same."""

    @property
    def silent(self) -> bool:
        """Is nothing printed?"""
        return self._silent

    def silence(self) -> None:
        """Print nothing from here on: another process of the same run tells it all."""
        self._silent = True
        self._bar = False

    def line(self, text: str = "") -> None:
        """A line for people; nothing with ``--json``."""
        self._wipe()
        if not self._json and not self._silent:
            print(text, flush=True)

    def warn(self, text: str) -> None:
        """Something to know, on standard error, also with ``--json``."""
        self._wipe()
        if not self._silent:
            print(text, file=sys.stderr, flush=True)

    def progress(self, stage: str, done: int, total: int, more: str = "") -> None:
        """Draw the bar. Without a terminal a line every ten seconds says the same; with ``--json`` nothing does."""
        now = time.monotonic()
        share = done / total if total else 0.0
        text = f"{stage} {done}/{total} {more}".rstrip()
        if self._bar:
            filled = round(share * BAR)
            print(f"\r\033[K{'━' * filled}{'╌' * (BAR - filled)} {text}", end="", file=sys.stderr, flush=True)
            self._drawn = True
        elif not self._json and not self._silent and now - self._told >= 10:
            print(text, file=sys.stderr, flush=True)
            self._told = now

    def result(self, values: dict[str, Any]) -> None:
        """The last line with ``--json``."""
        self._wipe()
        if self._json and not self._silent:
            print(json.dumps(values, ensure_ascii=False), flush=True)

    def error(self, error: LoraLabError) -> None:
        """One clear line on standard error; with ``--json`` the same as an object on standard output."""
        self._wipe()
        if self._silent:
            return
        if self._json:
            print(json.dumps(error.to_json(), ensure_ascii=False), flush=True)
        else:
            print(f"lora-lab: {error}", file=sys.stderr, flush=True)

    def _wipe(self) -> None:
        if self._drawn:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
            self._drawn = False


def clock(seconds: float) -> str:
    """``75`` to ``1:15``."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
