"""Long work that is no training (tagging, checking, making pictures): a thread each, watched from anywhere. No torch.

    task = tasks().start("tagging", "Tagging pictures", work)     # work(task) -> result
    task.status()           a frozen snapshot for the tab
    task.stop(); task.wait()

Like the queue of runs, the registry belongs to this module, which the webui's 'Reload UI' does not import again.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from lora_lab.errors import HostBusyError, Interrupted, LoraLabError

TaskState = Literal["running", "done", "stopped", "failed"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TaskStatus:
    """A task at one moment."""

    id: str
    kind: str
    title: str
    state: TaskState
    stage: str
    """What it does just now; empty at first."""
    done: int
    total: int
    """Pieces of the stage; 0 while unknown."""
    seconds_left: float | None
    """Of the stage, from the pace so far; None before the first piece."""
    error: LoraLabError | None
    """Why it failed."""
    stopping: bool

    @property
    def active(self) -> bool:
        """Is it under way?"""
        return self.state == "running"

    @property
    def share(self) -> float:
        """Of the stage, 0..1."""
        return min(1.0, self.done / self.total) if self.total else 0.0


class Task:
    """One piece of long work; its function gets the task, calls `progress`, and looks at `stopping`."""

    def __init__(self, number: int, kind: str, title: str, about: Any = None) -> None:  # noqa: ANN401 - see below
        self.id = f"task{number}"
        self.kind = kind
        self.title = title
        self.about = about
        """What it works on, for whoever shows how far it is."""
        self.result: Any = None
        """What the work answered, once it is done."""
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._state: TaskState = "running"
        self._stage, self._done, self._total = "", 0, 0
        self._began = time.monotonic()
        self._error: LoraLabError | None = None

    @property
    def stopping(self) -> bool:
        """Was it asked to stop?"""
        return self._stop.is_set()

    def progress(self, stage: str, done: int, total: int) -> None:
        """Tell how far it is.

        Raises:
            Interrupted: it was asked to stop; let it through, after putting things in order.
        """
        with self._lock:
            if stage != self._stage:
                self._began = time.monotonic()
            self._stage, self._done, self._total = stage, done, total
        if self.stopping:
            raise Interrupted(f"{self.title.lower()} was stopped")

    def stop(self) -> None:
        """Ask it to stop; it does at its next `progress`."""
        self._stop.set()

    def wait(self, timeout: float | None = None) -> TaskStatus:
        """Until it has ended, or for `timeout` seconds."""
        self._ended.wait(timeout)
        return self.status()

    def status(self) -> TaskStatus:
        """A snapshot."""
        with self._lock:
            pace = (time.monotonic() - self._began) / self._done if self._done else None
            left = None if pace is None else max(0.0, pace * (self._total - self._done))
            return TaskStatus(
                self.id, self.kind, self.title, self._state, self._stage, self._done, self._total, left, self._error,
                self.stopping,
            )  # fmt: skip

    def run(self, work: Callable[[Task], Any]) -> None:
        """The thread's function: the work, and what came of it."""
        state: TaskState = "done"
        error: LoraLabError | None = None
        try:
            self.result = work(self)
        except Interrupted:
            state = "stopped"
        except LoraLabError as caught:
            state, error = "failed", caught
        except Exception as caught:  # the thread's edge: told in one line, logged whole
            log.exception("%s failed", self.title)
            what = f"{self.title.lower()} failed by an error of ours, {type(caught).__name__}: {caught}"
            state, error = "failed", LoraLabError(what, remedy="please report it with the log")
        with self._lock:
            self._state, self._error = state, error
        self._ended.set()


class Tasks:
    """All tasks of this process; of each kind one is under way at most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tasks: list[Task] = []
        self._numbers = itertools.count(1)

    def start(self, kind: str, title: str, work: Callable[[Task], Any], about: Any = None) -> Task:  # noqa: ANN401
        """Begin in a thread of its own.

        Args:
            kind: a word for what must not run twice at once, such as ``tagging``.
            title: for people, such as ``Tagging 20 pictures``.
            work: gets the task; its answer becomes `Task.result`.
            about: becomes `Task.about`.

        Raises:
            HostBusyError: one of this kind is under way.
        """
        with self._lock:
            if any(task.kind == kind and task.status().active for task in self._tasks):
                raise HostBusyError(f"{title.lower()} has to wait: one is under way", remedy="wait for it, or stop it")
            task = Task(next(self._numbers), kind, title, about)
            self._tasks = [t for t in self._tasks if t.kind != kind] + [task]
        threading.Thread(target=task.run, args=(work,), name=f"lora-lab-{task.id}", daemon=True).start()
        return task

    def latest(self, kind: str) -> Task | None:
        """The one of this kind that was started last."""
        with self._lock:
            return next((task for task in self._tasks if task.kind == kind), None)

    def find(self, task_id: str) -> Task | None:
        """The task with this id, if no later one of its kind has replaced it."""
        with self._lock:
            return next((task for task in self._tasks if task.id == task_id), None)

    def stop_all(self) -> None:
        """Ask all of them to stop."""
        with self._lock:
            for task in self._tasks:
                task.stop()

    def active(self) -> tuple[TaskStatus, ...]:
        """Those under way, the newest last."""
        with self._lock:
            found = [task.status() for task in self._tasks]
        return tuple(status for status in found if status.active)


@lru_cache(maxsize=1)
def tasks() -> Tasks:
    """The one registry of this process."""
    return Tasks()
