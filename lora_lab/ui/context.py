"""What the panels are given: the host, the queue of runs, and what a person may type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lora_lab.errors import DatasetError
from lora_lab.training import jobs
from lora_lab.training.prepare import check_allowed

if TYPE_CHECKING:
    from lora_lab.host.base import Host


@dataclass(frozen=True)
class UiContext:
    """One for a tab. Holds nothing of a browser window: what a person types lives in the page."""

    host: Host
    queue: Callable[[], jobs.JobQueue] = jobs.queue
    listens: bool = False
    """The page is open to a network, whatever the host says."""

    @property
    def open_to_others(self) -> bool:
        """May people elsewhere use this page? Then it runs no command of theirs."""
        return self.listens or bool(self.host.paths().allowed_roots)

    @property
    def in_webui(self) -> bool:
        """Are there other tabs (txt2img) to send things to?"""
        return self.host.kind == "webui"

    def folder(self, typed: str, what: str) -> Path:
        """A folder that a person has typed or pasted, quotation marks and blanks around it taken off.

        Args:
            typed: as in the text box.
            what: its name in the error, such as "the folder of your pictures".

        Raises:
            DatasetError: nothing was typed, or there is no such folder.
            OutputError: a host that listens to a network does not allow it.
        """
        text = typed.strip().strip('"').strip()
        if not text:
            raise DatasetError(f"{what} is not given", remedy="type or paste its path")
        check_allowed(text, self.host.paths())
        path = Path(text).expanduser()
        if not path.is_dir():
            raise DatasetError("there is no such folder", file=text, remedy="check the path")
        return path
