"""The person's own command at the end of all runs: a program and its words, never a shell. No torch here."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lora_lab.errors import OutputError, SettingsError

FILE = "at_the_end.json"
"""In our data folder: what is run once when the last run has ended, ``{"command": "...", "on": true}``."""
SECONDS = 3600
"""So long the command may take."""


def parse_command(text: str) -> list[str]:
    """The words of a command line: quotation marks hold words together, nothing else has a meaning.

    Raises:
        SettingsError: it is empty, a quotation mark is open, or there is no such program.
    """
    try:
        # On Windows a backslash is part of a path, so that quotation marks are left in and taken off here.
        words = shlex.split(text, posix=os.name != "nt")
    except ValueError as error:
        what = f"the command {text!r} cannot be read, {str(error).lower()}"
        raise SettingsError(what, remedy="close the quotation mark") from error
    words = [w[1:-1] if os.name == "nt" and len(w) > 1 and w[0] == w[-1] and w[0] in "\"'" else w for w in words]
    if not words:
        raise SettingsError("the command is empty", remedy="give a program and its words")
    if shutil.which(words[0]) is None:
        what = f"there is no program {words[0]!r}"
        raise SettingsError(what, remedy="give its whole path; a shell's own words need the shell: sh -c '...'")
    return words


def run_command(words: list[str], tell: Callable[[str], None]) -> None:
    """Run it and wait. What goes wrong is told: the runs are over, and nothing of them is lost."""
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, timeout=SECONDS, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        tell(f"note: the command at the end, {shlex.join(words)}, did not run: {error}")
        return
    if done.returncode:
        tell(f"note: the command at the end, {shlex.join(words)}, ended with status {done.returncode}")


@dataclass(frozen=True)
class AtTheEnd:
    """What the person wants when the last run has ended."""

    command: str = ""
    on: bool = False


class Afterwards:
    """The command of a queue of runs, kept in a file of our data folder, so that it outlives a restart."""

    def __init__(self, folder: Path, tell: Callable[[str], None]) -> None:
        """
        Args:
            folder: our data folder.
            tell: gets a sentence when the command fails.
        """
        self._path = folder / FILE
        self._tell = tell
        self._lock = threading.Lock()

    @property
    def path(self) -> Path:
        """The file that a person may write where the page may not."""
        return self._path

    def read(self) -> AtTheEnd:
        """What the file says; nothing if there is none or it cannot be read."""
        try:
            values = json.loads(self._path.read_text(encoding="utf-8"))
            return AtTheEnd(str(values.get("command", "")), values.get("on") is True)
        except (OSError, ValueError, AttributeError):
            return AtTheEnd()

    def write(self, wanted: AtTheEnd) -> None:
        """Keep it.

        Raises:
            SettingsError: it is on and cannot be run.
            OutputError: the file cannot be written.
        """
        if wanted.on:
            parse_command(wanted.command)
        text = json.dumps({"command": wanted.command, "on": wanted.on}, ensure_ascii=False, indent=1) + "\n"
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise OutputError(f"the command cannot be kept, {error.strerror}", file=self._path) from error

    def __call__(self) -> None:
        """The last run has ended: run the command, once. It is switched off before, so that no other queue runs it."""
        with self._lock:
            wanted = self.read()
            if not wanted.on:
                return
            try:
                words = parse_command(wanted.command)
                self.write(AtTheEnd(wanted.command))
            except (SettingsError, OutputError) as error:
                self._tell(f"the command at the end was not run: {error}")
                return
        run_command(words, self._tell)
