"""When a run's state is written: at the end of each epoch, every few minutes between, and when it ends early."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from lora_lab.training.record import state
from lora_lab.training.record.state import Standing, State, StateWriter

if TYPE_CHECKING:
    from lora_lab.training.setup import Session

SECONDS = 180.0
"""Between two states, where the settings name no number of steps."""


class StateKeeper:
    """Copies the state at the right moments and has it written beside the training."""

    def __init__(self, session: Session, folder: Path) -> None:
        self._session = session
        self._folder = folder
        self._every = session.origin.settings.save_state_every_n_steps
        self._told: deque[str] = deque()
        self._writer = StateWriter(folder, self._told.append)
        self._last_step = 0
        self._last_time = time.monotonic()

    def after_step(self, step: int, epochs_done: int, validations: list[float]) -> None:
        """Write if it is time. Called after each optimizer step, with the model still lent."""
        waited = time.monotonic() - self._last_time >= SECONDS
        if step % self._every == 0 if self._every else waited:
            self.put(step, epochs_done, validations)

    def put(self, step: int, epochs_done: int, validations: list[float]) -> None:
        """Write now, in the background."""
        session = self._session
        origin = session.origin
        info = origin.checkpoint
        standing = Standing(
            session_id=origin.run.session_id, started_at=origin.run.started_at, seed=origin.plan.seed, step=step,
            steps=origin.plan.steps, epochs_done=epochs_done, steps_per_epoch=origin.plan.steps_per_epoch,
            dataset=session.material.fingerprint, checkpoint=identity(info.name, info.family.value, info.short_hash),
            losses=session.average.window, validations=tuple(validations),
        )  # fmt: skip
        parameters = tuple(p.detach().to("cpu", copy=True) for p in session.adapter.parameters())
        self._writer.put(State(standing, parameters, session.stepper.state()))
        self._last_step, self._last_time = step, time.monotonic()

    def warnings(self) -> list[str]:
        """What there is to say since the last call."""
        return [self._told.popleft() for _ in range(len(self._told))]

    def close(self, *, finished: bool) -> None:
        """Write what waits; a run that has reached its end needs no state any more."""
        self._writer.close()
        if finished:
            state.remove(self._folder)


def identity(name: str, family: str, short_hash: str | None) -> dict[str, str | None]:
    """By what a checkpoint is known again in another process."""
    return {"name": name, "family": family, "short_hash": short_hash}
