"""What a person wants of a run that may live in another process: one word in its folder, read at each turn.

No torch here. A run that nobody has spoken to has no such file.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

from lora_lab.errors import HostBusyError, OutputError, SettingsError
from lora_lab.training.record.folder_lock import in_use

Wish = Literal["go", "pause", "stop"]

FILE = "wish"
EVERY = 0.5
"""Seconds between two looks at the file."""


def put(folder: Path, wish: Wish) -> None:
    """Ask a run that is under way, in whatever process, to pause, to go on, or to stop and keep what it has.

    Args:
        folder: of the run.
        wish: `go` takes an earlier wish back.

    Raises:
        HostBusyError: no living process trains in this folder.
        OutputError: the folder cannot be written to.
    """
    if not in_use(folder):
        remedy = f"go on with it: lora-lab train --resume {folder.name}" if wish == "go" else "see lora-lab runs"
        raise HostBusyError("this run is not under way", file=folder, remedy=remedy)
    try:
        if wish == "go":
            clear(folder)
        else:
            (folder / FILE).write_text(wish, encoding="utf-8")
    except OSError as error:
        what = f"the run cannot be asked to {wish}, {error.strerror or error}"
        raise OutputError(what, file=folder / FILE, remedy="make room, or stop it where it was started") from error


def read(folder: Path) -> Wish:
    """What was asked for last; anything that is no such word is none."""
    try:
        with (folder / FILE).open("rb") as file:
            text = file.read(16)
    except OSError:
        return "go"
    word = text.strip()
    return "pause" if word == b"pause" else "stop" if word == b"stop" else "go"


def clear(folder: Path) -> None:
    """Nothing is asked for any more."""
    (folder / FILE).unlink(missing_ok=True)


def folder_named(runs: Path, run_id: str) -> Path:
    """The run's folder of that name, or the only one whose name holds it.

    Raises:
        SettingsError: there is none, or more than one.
    """
    try:
        names = sorted(path.name for path in runs.iterdir() if path.is_dir())
    except OSError:
        names = []
    fitting = [name for name in names if name == run_id] or [name for name in names if run_id and run_id in name]
    if len(fitting) != 1:
        what = f"there is no run {run_id!r}" if not fitting else f"{len(fitting)} runs are named like {run_id!r}"
        raise SettingsError(what, file=runs, remedy="see lora-lab runs")
    return runs / fitting[0]


class Wishes:
    """Looks at the wish of one run, twice a second at most."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._looked = -EVERY
        self._now: Wish = "go"

    @property
    def now(self) -> Wish:
        """What is wished for."""
        if time.monotonic() - self._looked >= EVERY:
            self._now, self._looked = read(self._folder), time.monotonic()
        return self._now
