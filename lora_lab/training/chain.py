"""Stages as they run: each goes on with the LoRA of the one before. No torch here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lora_lab.errors import LoraLabError
from lora_lab.training.events import Event, RunEnded
from lora_lab.training.settings import TrainSettings

if TYPE_CHECKING:
    from lora_lab.training.run import Listener, Run


class Chain:
    """Runs that follow one another. A stage that fails, or is stopped, is the last; what the others made stays."""

    def __init__(self, stages: tuple[TrainSettings, ...], start: Callable[[TrainSettings], Run]) -> None:
        """
        Args:
            stages: from `settings.stages.expand`.
            start: makes and starts a run.
        """
        self._left = list(stages)
        self._start = start
        self._listeners: tuple[Listener, ...] = ()
        self.runs: tuple[Run, ...] = ()
        """Those that were started, the newest last."""
        self.error: LoraLabError | None = None
        """Why the next stage could not be started."""

    def begin(self) -> Run:
        """Start the first stage.

        Raises:
            LoraLabError: it cannot be run like this.
        """
        return self._next(None)

    def listen(self, listener: Listener) -> None:
        """As `Run.listen`, to the newest stage and all that follow."""
        self._listeners = (*self._listeners, listener)
        for run in self.runs[-1:]:
            run.listen(listener)

    def stop(self) -> None:
        """Stop the stage that is under way; none follows."""
        self._left.clear()
        self.last.stop()

    def goes_on(self, ended: RunEnded) -> bool:
        """Does another stage follow the one that has ended so?"""
        return ended.reason == "finished" and ended.lora is not None and bool(self._left)

    @property
    def last(self) -> Run:
        """The newest run: the last one, once it has ended and no other was started."""
        return self.runs[-1]

    def _next(self, lora: Path | None) -> Run:
        settings = self._left.pop(0)
        if lora is not None:
            settings = settings.replace(network_weights=str(lora))
        run = self._start(settings)
        run.chain = self
        self.runs = (*self.runs, run)
        for listener in self._listeners:
            run.listen(listener)
        run.listen(self._heard)
        return run

    def _heard(self, event: Event) -> None:
        """A stage has ended: start the next one, in the thread of the one before, so that no run is lost between."""
        if not isinstance(event, RunEnded) or not self.goes_on(event):
            return
        before = self.last
        try:
            self._next(event.lora)
        except LoraLabError as error:
            self.error = error
            before.warn(f"The next stage was not started: {error}")
