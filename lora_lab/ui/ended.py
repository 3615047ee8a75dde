"""How a long piece of work has ended, for the tab's poll: told once to each window."""

from __future__ import annotations

from dataclasses import dataclass

from lora_lab.ui.words import esc, tag
from lora_lab.workflow.tasks import Task, tasks


@dataclass(frozen=True)
class Ending:
    """Work that is over."""

    task: Task
    mark: str
    """What the window knows from now on."""
    told: str
    """HTML of an error, or that it was stopped; empty if it is done and `task.result` is there."""


def ended(kind: str, known: str, stopped: str) -> Ending | None:
    """The latest work of a kind, if it is over and the window does not know it yet.

    Args:
        kind: as given to `tasks().start`.
        known: `Ending.mark` of what the window shows.
        stopped: the sentence for work that was stopped.
    """
    task = tasks().latest(kind)
    status = task.status() if task else None
    if task is None or status is None or status.active or (mark := f"{status.id} {status.state}") == known:
        return None
    if status.error is not None:
        return Ending(task, mark, tag("p", esc(str(status.error)), "lora-lab-error"))
    return Ending(task, mark, tag("p", esc(stopped), "lora-lab-muted") if status.state == "stopped" else "")
