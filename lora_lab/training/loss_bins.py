"""The loss apart by timestep: little noise and much noise have losses of their own, which one average mixes."""

from __future__ import annotations

import torch
from torch import Tensor

from lora_lab.training.events import BIN, BINS, LossBins


class BinnedLoss:
    """Sums and counts of what was trained since it was last asked, on the losses' device, so that nothing waits."""

    def __init__(self) -> None:
        """Nothing was trained yet."""
        self._found: Tensor | None = None

    def add(self, timesteps: Tensor, losses: Tensor) -> None:
        """Take in items.

        Args:
            timesteps: (b,), 0 to 999.
            losses: (b,), before they are weighed by their timesteps; what is no number is left out.
        """
        losses = losses.detach().float()
        if self._found is None:
            self._found = torch.zeros(2, BINS, device=losses.device)
        places = (timesteps.to(losses.device) // BIN).long()
        good = losses.isfinite()
        rows = torch.stack([torch.where(good, losses, 0.0), good.float()])
        self._found.index_add_(1, places, rows)

    def take(self, step: int) -> LossBins | None:
        """The means since it was last asked, after that step; None if there is nothing."""
        if self._found is None:
            return None
        sums, counts = self._found.tolist()
        self._found = None
        filled = [i for i in range(BINS) if counts[i]]
        losses = {str(i * BIN): sums[i] / counts[i] for i in filled}
        return LossBins(step, losses, {str(i * BIN): int(counts[i]) for i in filled}) if filled else None
