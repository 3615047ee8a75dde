"""A run's events as lines and a bar."""

from __future__ import annotations

from lora_lab.cli.output import Output, clock
from lora_lab.training.events import (
    Event,
    PreviewMade,
    Progress,
    RunEnded,
    RunStarted,
    SnapshotSaved,
    StepDone,
    Validated,
    Warned,
)


class Follow:
    """Call it with each event."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._steps = 0

    def __call__(self, event: Event) -> None:
        """Print what the event says."""
        out = self._output
        if isinstance(event, RunStarted):
            self._steps = event.steps
            out.line(
                f"{event.name} on {event.checkpoint}: {event.pictures} pictures, {event.epochs} epochs, "
                f"{event.steps} steps, {event.sites} sites, {event.parameters:,} numbers to learn"
            )
        elif isinstance(event, Progress):
            out.progress(event.stage, event.done, event.total)
        elif isinstance(event, StepDone):
            rates = " ".join(f"{name} {rate:.2g}" for name, rate in event.learning_rates.items())
            more = f"loss {event.loss_average:.4f}  lr {rates}  {event.seconds_per_step:.2f} s/step  "
            out.progress("step", event.step, self._steps, more + f"{clock(event.seconds_left)} left")
        elif isinstance(event, Validated):
            out.line(f"step {event.step}: loss on held-out pictures {event.loss:.5f}")
        elif isinstance(event, PreviewMade):
            out.line(f"step {event.step}: preview {event.path}")
        elif isinstance(event, SnapshotSaved):
            out.line(f"epoch {event.epoch}: saved {event.path}")
        elif isinstance(event, Warned):
            out.warn(f"note: {event.text}")
        elif isinstance(event, RunEnded):
            out.line(f"{event.reason} after {event.step} steps in {clock(event.seconds)}")
