"""Learning rate schedules as pure functions of the step, equal to those of transformers. No torch here."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

Factor = Callable[[int], float]
"""From the number of optimizer steps already done to what the base learning rate is multiplied by."""


@dataclass(frozen=True)
class Shape:
    """The numbers of a schedule."""

    steps: int
    """Optimizer steps of the whole run."""
    warmup: int = 0
    """Steps over which the rate rises from 0."""
    cycles: int = 1
    """Restarts of cosine_with_restarts."""


def constant(shape: Shape) -> Factor:
    """The base rate throughout."""
    return lambda step: 1.0


def constant_with_warmup(shape: Shape) -> Factor:
    """A straight rise over the warmup, then the base rate."""
    return lambda step: step / max(1, shape.warmup) if step < shape.warmup else 1.0


def cosine(shape: Shape) -> Factor:
    """After the warmup half a cosine wave down to 0 at the last step (SGDR without restarts, arXiv 1608.03983)."""

    def factor(step: int) -> float:
        if step < shape.warmup:
            return step / max(1, shape.warmup)
        return max(0.0, 0.5 * (1 + math.cos(math.pi * _progress(step, shape))))

    return factor


def cosine_with_restarts(shape: Shape) -> Factor:
    """After the warmup `cycles` half waves, each from the full rate down to 0 (SGDR, arXiv 1608.03983)."""

    def factor(step: int) -> float:
        if step < shape.warmup:
            return step / max(1, shape.warmup)
        progress = _progress(step, shape)
        if progress >= 1:
            return 0.0
        return max(0.0, 0.5 * (1 + math.cos(math.pi * ((shape.cycles * progress) % 1.0))))

    return factor


def _progress(step: int, shape: Shape) -> float:
    return (step - shape.warmup) / max(1, shape.steps - shape.warmup)


def schedule(name: str, shape: Shape) -> Factor:
    """The schedule with kohya's `name` (a choice of the setting lr_scheduler)."""
    kinds = {f.__name__: f for f in (constant, constant_with_warmup, cosine, cosine_with_restarts)}
    return kinds[name](shape)
