"""What the tab and the command line see of a run: a frozen snapshot, built up from its events. No torch here."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lora_lab.training.events import (
    Event,
    LossBins,
    Norms,
    PreviewMade,
    Progress,
    RunEnded,
    RunStarted,
    SnapshotSaved,
    StepDone,
    Validated,
    Warned,
)

State = Literal["waiting", "preparing", "running", "finished", "stopped", "interrupted", "failed"]

POINTS = 400
"""A loss chart has at most so many points; a page with more is slow to draw."""


@dataclass(frozen=True)
class LossPoint:
    """One step of the chart."""

    step: int
    loss: float
    average: float


@dataclass(frozen=True)
class RunStatus:
    """A run as it is now."""

    id: str
    name: str
    folder: Path
    """Of the run: settings, events, log, previews."""
    state: State = "waiting"
    started: RunStarted | None = None
    progress: Progress | None = None
    """The stage it is in, before, between or after the steps; None while it steps."""
    last: StepDone | None = None
    losses: tuple[LossPoint, ...] = ()
    """Thinned to at most 400 points, the newest always among them."""
    validations: tuple[Validated, ...] = ()
    bins: tuple[LossBins, ...] = ()
    """Of each epoch."""
    norms: Norms | None = None
    """The newest."""
    previews: tuple[PreviewMade, ...] = ()
    snapshots: tuple[SnapshotSaved, ...] = ()
    warnings: tuple[str, ...] = ()
    ended: RunEnded | None = None
    stopping: bool = False
    """It was asked to stop and has not ended yet."""
    revision: int = 0
    """Grows with every event: a poll that knows this one needs no new picture of the page."""
    stride: int = field(default=1, repr=False)
    """Every so many steps a loss is kept."""

    @property
    def active(self) -> bool:
        """Waiting or under way."""
        return self.ended is None

    @property
    def paused(self) -> bool:
        """It was asked to pause, and does."""
        return self.ended is None and self.progress is not None and self.progress.stage == "paused"

    @property
    def step(self) -> int:
        """Steps done."""
        return self.last.step if self.last else 0

    @property
    def steps(self) -> int:
        """Steps planned; 0 while that is not known."""
        return self.started.steps if self.started else 0

    @property
    def share(self) -> float:
        """Done, from 0 to 1: of the steps, or of the stage before them."""
        if self.ended is not None:
            return 1.0
        if self.last is None and self.progress is not None and self.progress.total:
            return self.progress.done / self.progress.total
        return self.step / self.steps if self.steps else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Of training, pictures not counted; None while unknown."""
        return self.last.seconds_left if self.last and self.ended is None else None


def after(status: RunStatus, event: Event) -> RunStatus:
    """The status once `event` has happened."""
    return dataclasses.replace(_after(status, event), revision=status.revision + 1)


def _after(status: RunStatus, event: Event) -> RunStatus:
    if isinstance(event, StepDone):
        return _after_step(status, event)
    if isinstance(event, Progress):
        return dataclasses.replace(status, progress=event, state="running" if status.started else "preparing")
    if isinstance(event, RunStarted):
        return dataclasses.replace(status, started=event, state="running")
    if isinstance(event, Validated):
        return dataclasses.replace(status, validations=(*status.validations, event))
    if isinstance(event, LossBins):
        return dataclasses.replace(status, bins=(*status.bins, event))
    if isinstance(event, Norms):
        return dataclasses.replace(status, norms=event)
    if isinstance(event, PreviewMade):
        return dataclasses.replace(status, previews=(*status.previews, event))
    if isinstance(event, SnapshotSaved):
        return dataclasses.replace(status, snapshots=(*status.snapshots, event))
    if isinstance(event, Warned):
        return dataclasses.replace(status, warnings=(*status.warnings, event.text))
    return dataclasses.replace(status, ended=event, state=event.reason, progress=None, stopping=False)


def _after_step(status: RunStatus, event: StepDone) -> RunStatus:
    """Keep every `stride`-th loss and the newest; when there are too many, keep every second of them."""
    point = LossPoint(event.step, event.loss, event.loss_average)
    kept = tuple(p for p in status.losses if p.step % status.stride == 0)
    losses, stride = (*kept, point), status.stride
    while len(losses) > POINTS:
        stride *= 2
        losses = (*(p for p in losses[:-1] if p.step % stride == 0), point)
    return dataclasses.replace(
        status, last=event, losses=losses, stride=stride, progress=None, state="running"
    )
