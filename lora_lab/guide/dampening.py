"""What slows learning, and by about how much: the guide's table of dampeners, with numbers where there are any."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lora_lab.guide.facts import Facts
from lora_lab.guide.source import Source, guide

SOURCE: Source = guide("Learn dampening")


@dataclass(frozen=True)
class Dampener:
    """A setting that acts as a brake."""

    name: str
    usual: str
    least: str
    most: str
    arrows: str
    """The guide's own measure: each arrow is a small but noticeable loss."""
    effect: str
    """What it does to pictures."""


TABLE = (
    Dampener("resolution", "512", "512", "768", "3 for every 64 pixels more", "finer details"),
    Dampener("noise_offset", "0", "0", "1", "3 for every 0.1 more", "darker darks, brighter brights; too much burns"),
    Dampener("network_dim", "64", "1", "768", "1 for every 16 less", "how much it can hold"),
    Dampener("network_alpha", "as dim", "1", "as dim", "2 for every 16 less", "none besides"),
    Dampener("min_snr_gamma", "5", "1", "20", "1 for every 1 more", "a steadier loss"),
    Dampener("scale_weight_norms", "1", "0", "10", "not measured; more the lower it is", "combines better, less style"),
    Dampener("network_dropout", "0", "0", "0.95", "(1 - p) of the values act", "against overfitting"),
    Dampener("rank_dropout", "0", "0", "0.95", "(1 - p) of the ranks act", "against overfitting"),
    Dampener("module_dropout", "0", "0", "0.95", "(1 - p) of the layers act", "against overfitting"),
    Dampener("lr_warmup_steps", "0", "0", "all", "half of the warmup's steps are lost", "a gentle start"),
)


@dataclass(frozen=True)
class Brake:
    """One that acts in these settings."""

    name: str
    factor: float
    """What is left of the learning, 0..1; a rough measure."""
    text: str


STRONG = 0.35
"""Below this share of the learning more epochs are needed."""
ARROW = 0.93
"""One of the guide's arrows as a factor: small, but noticeable. It gives no number; this is ours."""


def brakes(f: Facts) -> Iterator[Brake]:
    """Those that act. Adaptive optimizers make up for alpha and rank by themselves, so these do not count there."""
    if not (f.adaptive or f.relative) and f.scale < 1 and f.get("algo") in ("lora", "locon", "loha", "lokr"):
        text = f"alpha / dim multiplies what is learnt by {f.scale:.3g}"
        # AdamW's step is as long whatever the gradient is: what is left is the factor in front of the weights.
        yield Brake("network_alpha", max(0.05, f.scale**0.5), text)
    for name in ("network_dropout", "rank_dropout", "module_dropout"):
        if p := f.number(name):
            yield Brake(name, 1 - p, f"{name} leaves out {p:.0%} at a time")
    if offset := f.number("noise_offset"):
        yield Brake("noise_offset", ARROW ** (30 * offset), f"noise_offset {offset:g} asks for more than the pictures")
    if f.number("min_snr_gamma") > 5:
        gamma = min(20.0, f.number("min_snr_gamma"))
        yield Brake("min_snr_gamma", ARROW ** (gamma - 5), f"min_snr_gamma {gamma:g} is above 5")
    if 0 < f.number("scale_weight_norms") < 1:
        norms = f.number("scale_weight_norms")
        yield Brake("scale_weight_norms", max(0.3, norms), f"scale_weight_norms {norms:g} cuts weights down early")
    if f.length.warmup and f.length.steps:
        share = min(1.0, f.length.warmup / f.length.steps)
        yield Brake("lr_warmup_steps", max(0.1, 1 - share / 2), f"the warmup takes {share:.0%} of the run")


def left(f: Facts) -> float:
    """Product of all factors: what is left of the learning."""
    product = 1.0
    for brake in brakes(f):
        product *= brake.factor
    return product
