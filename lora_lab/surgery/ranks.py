"""How many singular values to keep: one rule for each site, or one budget shared by all of them.

The definitions are the ones people know from kohya's resize_lora.py and LyCORIS's extract, without the former's
one too many and the latter's one too few; ``S`` are all singular values of a site's delta, largest first.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from lora_lab.errors import SettingsError
from lora_lab.surgery.lowrank import LowRank, factor, factor_all

RuleKind = Literal["fixed", "threshold", "ratio", "sv_ratio", "sv_cumulative", "sv_fro", "error"]

ALIASES = {"rank": "fixed", "dim": "fixed", "quantile": "sv_cumulative", "fro": "sv_fro", "percentile": "sv_cumulative"}
"""LyCORIS's and our own words for the same rules."""

MEANING: dict[str, str] = {
    "fixed": "this many",
    "threshold": "those above this value",
    "ratio": "those above this share of the largest, 0 to 1",
    "sv_ratio": "those above the largest divided by this, 1 or more",
    "sv_cumulative": "the fewest whose sum is this share of the sum of all, 0 to 1",
    "sv_fro": "the fewest whose Frobenius norm is this share of the delta's, 0 to 1",
    "error": "the fewest that leave at most this share of the delta's Frobenius norm out, 0 to 1",
}


@dataclass(frozen=True)
class RankRule:
    """One rule, its number, and the most singular values that it may keep (None: as many as there are)."""

    kind: RuleKind
    value: float
    most: int | None = None

    def __post_init__(self) -> None:
        """Check the number.

        Raises:
            SettingsError: a rank that is no whole number above 0, a share outside 0..1, ...
        """
        good = math.isfinite(self.value) and {
            "fixed": self.value >= 1 and self.value == int(self.value),
            "threshold": self.value >= 0,
            "sv_ratio": self.value >= 1,
        }.get(self.kind, 0 < self.value <= 1 or (self.kind == "error" and self.value == 0))
        if not good:
            raise SettingsError(
                f"the rank rule {self.kind}={self.value:g} makes no sense", remedy=f"it means: {MEANING[self.kind]}"
            )
        if self.most is not None and self.most < 1:
            raise SettingsError(f"the largest rank is {self.most}", remedy="give 1 or more")

    def of(self, s: Tensor, energy: float) -> int:
        """The rank, given all singular values that are not zero; ``energy`` is the sum of all squares."""
        return min(self._count(s, energy), int(s.numel()), self.most or int(s.numel()))

    def _count(self, s: Tensor, energy: float) -> int:
        if s.numel() == 0:
            return 0
        if self.kind == "fixed":
            return int(self.value)
        if self.kind == "threshold":
            return int((s > self.value).sum())
        if self.kind == "ratio":
            return int((s > self.value * s[0]).sum())
        if self.kind == "sv_ratio":
            return int((s > s[0] / self.value).sum())
        if self.kind == "sv_cumulative":
            return _fewest(s.cumsum(0), self.value * float(s.sum()))
        share = self.value**2 if self.kind == "sv_fro" else 1 - self.value**2
        return _fewest(s.square().cumsum(0), share * energy)

    def settled(self, s: Tensor, energy: float) -> bool:
        """Whether more of the singular values, all below these, could not change the answer."""
        if self.kind == "sv_cumulative":
            return False
        found = self._count(s, energy)
        return found < s.numel() or (self.most is not None and found >= self.most) or self.kind == "fixed"


def _fewest(sums: Tensor, wanted: float) -> int:
    """The least count whose sum reaches ``wanted``, but for the rounding of the sums."""
    return int((sums < wanted * (1 - 1e-12)).sum()) + 1


def parse(text: str, most: int | None = None) -> RankRule:
    """`32` or `sv_fro=0.97` as a rule.

    Raises:
        SettingsError: an unknown rule, or a number that is none or makes no sense.
    """
    name, _, number = text.partition("=") if "=" in text else ("fixed", "=", text)
    kind = ALIASES.get(name.strip(), name.strip())
    known = ", ".join(f"{k} ({MEANING[k]})" for k in get_args(RuleKind))
    if kind not in get_args(RuleKind):
        raise SettingsError(f"'{name.strip()}' is no rank rule", remedy=f"choose one of {known}")
    try:
        value = float(number)
    except ValueError:
        raise SettingsError(f"'{number}' is no number for {kind}", remedy=f"it means: {MEANING[kind]}") from None
    return RankRule(kind, value, most)  # type: ignore[arg-type]


def factor_by(matrix: Tensor, rule: RankRule, seed: int = 0) -> tuple[LowRank, int]:
    """As much of a matrix's factors as the rule needs, and the rank that it asks for."""
    side = min(matrix.shape)
    rank = min(side, int(rule.value) if rule.kind == "fixed" else 32)
    if rule.kind == "sv_cumulative":
        low = factor_all(matrix)
        return low, rule.of(low.s, low.energy)
    while True:
        low = factor(matrix, rank, seed)
        if low.complete or rule.settled(low.s, low.energy) or rank >= side:
            return low, rule.of(low.s, low.energy)
        rank = min(side, 2 * rank)


@dataclass(frozen=True)
class Spectrum:
    """What sharing a budget needs to know of a site: its singular values, its whole energy, and what one more
    rank costs in bytes."""

    s: Sequence[float]
    energy: float
    cost: int


def share_bytes(spectra: Mapping[str, Spectrum], budget: int) -> dict[str, int]:
    """The ranks that leave the least out in all, within a number of bytes.

    Greedy by gain per byte, which is optimal but for the last rank, since a site's gains only fall.
    """
    ranks = dict.fromkeys(spectra, 0)
    for name in _by_gain(spectra):
        if spectra[name].cost <= budget:
            budget -= spectra[name].cost
            ranks[name] += 1
    return ranks


def share_error(spectra: Mapping[str, Spectrum], error: float) -> dict[str, int]:
    """The ranks that cost the fewest bytes and leave at most this share of the whole norm out, 0 to 1."""
    ranks = dict.fromkeys(spectra, 0)
    left = sum(spectrum.energy for spectrum in spectra.values())
    wanted = left * max(error, 1e-7) ** 2
    for name in _by_gain(spectra):
        if left <= wanted:
            break
        left -= spectra[name].s[ranks[name]] ** 2
        ranks[name] += 1
    return ranks


def _by_gain(spectra: Mapping[str, Spectrum]) -> list[str]:
    """A site's name for each of its singular values, from the largest gain per byte to the smallest."""
    runs = [[(-((value**2) / x.cost), name) for value in x.s] for name, x in spectra.items()]
    return [name for _, name in heapq.merge(*runs)]


def spectrum_of(low: LowRank, cost: int) -> Spectrum:
    """The spectrum of factors."""
    return Spectrum([float(x) for x in low.s], low.energy, cost)
