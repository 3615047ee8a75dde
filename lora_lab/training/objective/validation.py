"""Loss on held-out pictures, always at the same noise and timesteps, so that its numbers can be compared."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from lora_lab.training import objective
from lora_lab.training.step import Measure, alphas_of, denoising_losses
from lora_lab.training.text.conditioning import sized

if TYPE_CHECKING:
    from lora_lab.dataset.dataset import Batch, BatchPlan, Dataset
    from lora_lab.host.base import LoadedModel
    from lora_lab.training.learning.precision import Precision
    from lora_lab.training.settings import TrainSettings
    from lora_lab.training.text.conditioning import CaptionEncoder

TIMESTEPS = (200, 400, 600, 800)
"""kohya's validation timesteps."""


class Validation:
    """Mean squared error over the held-out pictures at `TIMESTEPS`, not weighed by min-SNR. Done in turns.

    The noise depends on the picture and the timestep alone, so it is the same throughout a run, and for other runs
    with the same pictures.
    """

    def __init__(
        self, dataset: Dataset, encoder: CaptionEncoder, precision: Precision, settings: TrainSettings
    ) -> None:
        self._dataset = dataset
        self._encoder = encoder
        self._precision = precision
        self._settings = settings
        self._plans: list[BatchPlan] = list(dataset.epoch(1))[: settings.max_validation_steps]
        self._pending: deque[tuple[BatchPlan, int]] = deque()
        self._losses: list[float] = []

    @property
    def total(self) -> int:
        """Forward passes of a whole check."""
        return len(self._plans) * len(TIMESTEPS)

    @property
    def done(self) -> int:
        """Forward passes done of this check."""
        return self.total - len(self._pending)

    @property
    def finished(self) -> bool:
        """Is the check complete?"""
        return not self._pending

    @property
    def loss(self) -> float:
        """Mean over pictures and timesteps of a finished check."""
        return sum(self._losses) / max(1, len(self._losses))

    def begin(self) -> None:
        """Start a new check."""
        self._losses = []
        self._pending = deque((plan, t) for plan in self._plans for t in TIMESTEPS)

    def turn(self, model: LoadedModel, over: Callable[[], bool]) -> None:
        """Go on with a lent model (adapter attached) until `over` says so, at least one pass."""
        while self._pending:
            plan, timestep = self._pending.popleft()
            self._losses += self._measure(model, self._dataset.load(plan), timestep)
            if over():
                return

    def _measure(self, model: LoadedModel, batch: Batch, timestep: int) -> list[float]:
        shape = tuple(batch.latents.shape[1:])
        generators = [objective.generator_for("validation", key, timestep) for key in batch.item_keys]
        noise = torch.stack([torch.randn(shape, generator=g) for g in generators])
        draw = objective.Draw(noise, torch.full((len(generators),), timestep, dtype=torch.int64))
        with torch.no_grad(), self._precision.context(model.device):
            told = sized(self._encoder(model, batch.captions), batch)
            how = Measure(alphas_of(model, self._settings), masks=batch.masks)
            losses = denoising_losses(model, batch.latents, draw, told, how)
        return [float(loss) for loss in losses]
