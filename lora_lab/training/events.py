"""What a run tells while it runs: small frozen values that the tab, the command line and the log all read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

StopReason = Literal["finished", "stopped", "interrupted", "failed"]
BIN, BINS = 100, 10
"""Timesteps of a bin of `LossBins`, and their number."""


@dataclass(frozen=True)
class RunStarted:
    """All is checked and planned; no step is done yet."""

    name: str
    checkpoint: str
    steps: int
    epochs: int
    steps_per_epoch: int
    pictures: int
    sites: int
    parameters: int
    """Trainable numbers of the adapter."""


@dataclass(frozen=True)
class Progress:
    """A stage before or between the steps (`caching latents`, `saving`), `done` of `total` pieces."""

    stage: str
    done: int
    total: int


@dataclass(frozen=True)
class StepDone:
    """One optimizer update."""

    step: int
    """1-based."""
    epoch: int
    """1-based."""
    loss: float
    loss_average: float
    """Mean over the last epoch's worth of steps, as kohya logs it."""
    learning_rates: dict[str, float]
    """For each group (`unet`, `text_encoder`): the rate in force; for adaptive optimizers d * lr."""
    seconds_per_step: float
    seconds_left: float
    memory_mb: float
    share: float = 1.0
    """Of the time, that the run had the model and did not wait for pictures: 0 to 1."""


@dataclass(frozen=True)
class Validated:
    """Loss on the held-out pictures at fixed noise and timesteps."""

    step: int
    loss: float


@dataclass(frozen=True)
class LossBins:
    """The loss of an epoch's items apart by timestep, before they are weighed by it (min_snr_gamma and the like)."""

    step: int
    losses: dict[str, float]
    """Mean of each bin of 100 timesteps, by its first one: "0", "100", to "900"; those alone that had items."""
    counts: dict[str, int]
    """Items of each."""


@dataclass(frozen=True)
class Norms:
    """How far the adapter has moved the weights of each block: the norm of what it adds, at strength 1."""

    step: int
    blocks: dict[str, float]
    """By block: BASE (the text encoders), IN00.., M00, OUT00..; those alone whose kind can be measured at once."""


@dataclass(frozen=True)
class PreviewMade:
    """A picture generated with the adapter as it is now."""

    step: int
    path: Path
    prompt: str


@dataclass(frozen=True)
class SnapshotSaved:
    """A LoRA file was written whole."""

    step: int
    epoch: int
    path: Path
    final: bool


@dataclass(frozen=True)
class Warned:
    """Something the person should know; the run goes on."""

    text: str


@dataclass(frozen=True)
class RunEnded:
    """The last event. The live model is given back by now."""

    reason: StopReason
    step: int
    seconds: float
    lora: Path | None
    """The final file (or the one kept when it was stopped); None when nothing could be kept."""
    loss_average: float | None
    val_loss_first: float | None = None
    val_loss_last: float | None = None
    error: str = ""
    """The sentence of what went wrong, for `failed`."""
    previews: tuple[Path, ...] = field(default=())


Event = (
    RunStarted | Progress | StepDone | Validated | LossBins | Norms | PreviewMade | SnapshotSaved | Warned | RunEnded
)
