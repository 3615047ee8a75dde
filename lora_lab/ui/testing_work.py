"""A grid in the making, as the page sees it: the task's work fills a `Watch`, the poll reads it. No torch at import."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lora_lab.testing.cells import GridPlan
from lora_lab.testing.events import CellMade, GridEstimated, GridEvent, GridStarted, GridTold
from lora_lab.workflow.tasks import Task, tasks

if TYPE_CHECKING:
    from lora_lab.host.base import Host
    from lora_lab.testing.events import GridResult

KIND = "grid"
Place = tuple[int, int]
"""Row (-1: the base picture) and column."""


@dataclass(frozen=True)
class Shown:
    """A finished cell."""

    path: Path
    tag: str
    """What a prompt would say for the same."""


class Watch:
    """What is there of a grid; changed by the thread that makes it, read by the page."""

    def __init__(self, plan: GridPlan) -> None:
        self.plan = plan
        self.result: GridResult | None = None
        """Once it is over, whole or stopped."""
        self._cells: dict[Place, Shown] = {}
        self._told: list[str] = []
        self._lock = threading.Lock()
        self._revision = 0

    @property
    def revision(self) -> int:
        """Grows with everything that is new."""
        return self._revision

    @property
    def cells(self) -> dict[Place, Shown]:
        """A copy."""
        with self._lock:
            return dict(self._cells)

    @property
    def told(self) -> tuple[str, ...]:
        """Sentences to show."""
        with self._lock:
            return tuple(self._told)

    def hear(self, event: GridEvent, task: Task) -> None:
        """An event of the grid."""
        with self._lock:
            self._revision += 1
            if isinstance(event, GridTold):
                self._told.append(event.text)
            elif isinstance(event, CellMade):
                place = (-1 if event.row is None else event.row, event.column)
                self._cells[place] = Shown(event.made.path, event.made.cell.tag)
            elif isinstance(event, GridEstimated):
                minutes, seconds = divmod(round(event.seconds), 60)
                self._told.append(f"{event.cells} pictures more, at most about {minutes}:{seconds:02d} minutes.")
        if isinstance(event, GridStarted):
            task.progress("pictures", event.kept, event.cells)
        elif isinstance(event, CellMade):
            task.progress("pictures", event.done, event.total)


def begin(plan: GridPlan, host: Host) -> Watch:
    """Make a grid in the background; a stop keeps what is done.

    Raises:
        HostBusyError: another one is being made.
    """
    watch = Watch(plan)
    tasks().start(KIND, "Making a grid of previews", partial(_work, watch, host))
    return watch


def _work(watch: Watch, host: Host, task: Task) -> Watch:
    from lora_lab.errors import Interrupted
    from lora_lab.testing.grid import run_grid

    task.result = watch  # the page looks at it from the start

    def listen(event: GridEvent) -> None:
        with suppress(Interrupted):  # `stop` is asked before each call of the UNet, and lets go in good order
            watch.hear(event, task)

    watch.result = run_grid(host, watch.plan, listen, lambda: task.stopping)
    return watch


def latest() -> tuple[Task, Watch] | None:
    """The newest grid of this process, under way or over."""
    task = tasks().latest(KIND)
    return (task, task.result) if task is not None and isinstance(task.result, Watch) else None
