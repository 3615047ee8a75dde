"""Learning rate schedules as pure functions of the step, equal to those of transformers. No torch here."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from lora_lab.errors import SettingsError

Factor = Callable[[int], float]
"""From the number of optimizer steps already done to what the base learning rate is multiplied by."""
POLYNOMIAL_END = 1e-7
"""The rate at which transformers' polynomial schedule ends."""
TIMESCALE = 10_000
"""Of inverse_sqrt where neither a timescale nor a warmup is given."""


@dataclass(frozen=True)
class Shape:
    """The numbers of a schedule."""

    steps: int
    """Optimizer steps of the whole run."""
    warmup: int = 0
    """Steps over which the rate rises from 0."""
    cycles: int = 1
    """Restarts of cosine_with_restarts; half waves of cosine_with_min_lr and warmup_stable_decay."""
    power: float = 1.0
    """Of polynomial: 1 is a straight line, 2 falls early."""
    rate: float = 1e-4
    """The highest base rate; polynomial ends at a fixed rate, whose share of it counts."""
    timescale: int = 0
    """Steps of inverse_sqrt at which the rate is back to full; 0 takes the warmup, or 10,000."""
    low: float = 0.0
    """Share of the base rate that is left at the end (cosine_with_min_lr, warmup_stable_decay)."""
    decay: int = 0
    """Steps of the fall at the end (warmup_stable_decay)."""
    rules: str = ""
    """Of piecewise_constant, as `parse_rules` reads them."""
    gentle: bool = False
    """Adafactor's warmup_init: a far lower beginning."""


def constant(shape: Shape) -> Factor:
    """The base rate throughout."""
    return lambda step: 1.0


def constant_with_warmup(shape: Shape) -> Factor:
    """A straight rise over the warmup, then the base rate."""
    return lambda step: _rise(step, shape) if step < shape.warmup else 1.0


def linear(shape: Shape) -> Factor:
    """After the warmup a straight line down to 0 at the last step."""
    return lambda step: _rise(step, shape) if step < shape.warmup else max(0.0, 1 - _progress(step, shape))


def cosine(shape: Shape) -> Factor:
    """After the warmup half a cosine wave down to 0 at the last step (SGDR without restarts, arXiv 1608.03983)."""
    return lambda step: _rise(step, shape) if step < shape.warmup else _wave(_progress(step, shape), 0.5, 0.0)


def cosine_with_restarts(shape: Shape) -> Factor:
    """After the warmup `cycles` half waves, each from the full rate down to 0 (SGDR, arXiv 1608.03983)."""

    def factor(step: int) -> float:
        if step < shape.warmup:
            return _rise(step, shape)
        progress = _progress(step, shape)
        return 0.0 if progress >= 1 else _wave((shape.cycles * progress) % 1.0, 0.5, 0.0)

    return factor


def cosine_with_min_lr(shape: Shape) -> Factor:
    """As cosine, but `low` of the base rate is left; `cycles` half waves, the second one back up."""
    waves = shape.cycles / 2
    return lambda step: _rise(step, shape) if step < shape.warmup else _wave(_progress(step, shape), waves, shape.low)


def polynomial(shape: Shape) -> Factor:
    """After the warmup (1 - progress) ** power, down to a rate of 1e-7."""
    end = min(1.0, POLYNOMIAL_END / shape.rate)

    def factor(step: int) -> float:
        if step < shape.warmup:
            return _rise(step, shape)
        left: float = max(0.0, 1 - _progress(step, shape)) ** shape.power
        return (1 - end) * left + end

    return factor


def inverse_sqrt(shape: Shape) -> Factor:
    """After the warmup the rate falls with the root of the steps, and never to 0 (arXiv 2106.04560, appendix)."""
    scale = shape.timescale or shape.warmup or TIMESCALE
    shift = scale - shape.warmup
    return lambda step: _rise(step, shape) if step < shape.warmup else 1 / math.sqrt((step + shift) / scale)


def warmup_stable_decay(shape: Shape) -> Factor:
    """A rise, the full rate, and a cosine fall over the last `decay` steps (arXiv 2404.06395, section 4)."""
    stable = shape.steps - shape.warmup - shape.decay

    def factor(step: int) -> float:
        if step < shape.warmup:
            return _rise(step, shape) * (1 - shape.low) + shape.low
        if step < shape.warmup + stable:
            return 1.0
        if step < shape.steps:
            return _wave((step - shape.warmup - stable) / max(1, shape.decay), shape.cycles / 2, shape.low)
        return shape.low

    return factor


def piecewise_constant(shape: Shape) -> Factor:
    """Stairs: each factor until its step, the last one to the end."""
    stairs, last = parse_rules(shape.rules)
    return lambda step: next((factor for until, factor in stairs if step < until), last)


def parse_rules(text: str) -> tuple[tuple[tuple[int, float], ...], float]:
    """``1:100,0.5:200,0.1`` (diffusers' step_rules): factor 1 up to step 100, 0.5 up to step 200, then 0.1.

    Raises:
        SettingsError: not written like that.
    """
    *stairs, last = text.strip().strip("\"'").split(",")
    try:
        found = {int(until): float(factor) for factor, until in (stair.split(":") for stair in stairs)}
        final = float(last)
    except ValueError:
        found, final = {}, math.nan
    if not all(map(math.isfinite, (*found.values(), final))) or any(n < 0 for n in (*found, *found.values(), final)):
        what = f"step_rules is {text!r}"
        raise SettingsError(what, remedy="write factor:step pairs and the last factor, such as 1:100,0.5:200,0.1")
    return tuple(sorted(found.items())), final


def adafactor(shape: Shape) -> Factor:
    """Adafactor's relative steps (arXiv 1804.04235, section 9): the rate itself, whatever the base rate is.

    With scale_parameter (its default) each layer's is multiplied by the size of its weights, which no curve knows.
    """
    return lambda step: min(1e-6 * (step + 1) if shape.gentle else 1e-2, 1 / math.sqrt(step + 1))


def _rise(step: int, shape: Shape) -> float:
    return step / max(1, shape.warmup)


def _progress(step: int, shape: Shape) -> float:
    return (step - shape.warmup) / max(1, shape.steps - shape.warmup)


def _wave(progress: float, waves: float, low: float) -> float:
    """From 1 down to `low` and up again, so many whole waves long."""
    return max(0.0, 0.5 * (1 + math.cos(math.pi * waves * 2 * progress)) * (1 - low) + low)


SCHEDULES: Mapping[str, Callable[[Shape], Factor]] = MappingProxyType(
    {
        f.__name__: f
        for f in (
            constant, constant_with_warmup, linear, cosine, cosine_with_restarts, cosine_with_min_lr, polynomial,
            inverse_sqrt, warmup_stable_decay, piecewise_constant, adafactor,
        )  # fmt: skip
    }
)
"""All by kohya's names, the choices of the setting lr_scheduler."""


def schedule(name: str, shape: Shape) -> Factor:
    """The schedule of that name, a key of `SCHEDULES`."""
    return SCHEDULES[name](shape)
