"""Look into adapters: spectrum and effective rank by site, and what two files differ in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lora_lab.surgery.adapters import AdapterReader, SiteEntry
from lora_lab.surgery.checkpoints import CheckpointReader
from lora_lab.surgery.lowrank import LowRank, energy_of, factor_all, factor_product
from lora_lab.surgery.outcome import Progress, silent
from lora_lab.surgery.places import block_of


@dataclass(frozen=True)
class SiteSpectrum:
    """One site's delta.

    Attributes:
        s: its singular values at strength 1, largest first.
        effective_rank: exp of the entropy of the shares of S (Roy and Vetterli, "The effective rank", EUSIPCO 2007).
        rank_99: the fewest singular values that hold 99 % of the Frobenius norm.
    """

    site: str
    block: str
    rank: int | None
    s: tuple[float, ...]
    norm: float
    effective_rank: float
    rank_99: int


def spectrum(site: str, block: str, rank: int | None, low: LowRank) -> SiteSpectrum:
    """The numbers of one site from its singular values."""
    shares = low.s / low.s.sum() if low.rank else low.s
    entropy = -float((shares * shares.clamp_min(1e-300).log()).sum())
    sums = low.s.square().cumsum(0)
    rank_99 = int((sums < 0.99**2 * low.energy).sum()) + 1 if low.rank else 0
    values = tuple(float(x) for x in low.s)
    effective = math.exp(entropy) if low.rank else 0.0
    return SiteSpectrum(site, block, rank, values, math.sqrt(low.energy), effective, rank_99)


def spectra(path: Path, base: Path | None = None, progress: Progress = silent) -> list[SiteSpectrum]:
    """The spectrum of every site that has one (not norms); a kind that needs the checkpoint's weight wants ``base``.

    Raises:
        AdapterFileError, CheckpointError: a file that cannot be read, or a base that is needed and not given.
    """
    found = []
    with AdapterReader(path) as reader:
        weights = CheckpointReader(base) if base else None
        try:
            for number, entry in enumerate(reader):
                progress(number, len(reader.sites), entry.name)
                low = _low(reader, entry, weights)
                if low is not None:
                    found.append(spectrum(entry.name, block_of(entry.name, reader.family), entry.rank, low))
        finally:
            if weights:
                weights.file.close()
    return found


def _low(reader: AdapterReader, entry: SiteEntry, base: CheckpointReader | None) -> LowRank | None:
    product = reader.factors(entry)
    if product is not None:
        return factor_product(*product)
    weight: Tensor | None = None
    if base is not None and entry.needs_base and entry.name in base.places:
        weight = base.weight(base.places[entry.name])
    delta = reader.delta(entry, weight).weight
    return None if delta is None or delta.dim() < 2 else factor_all(delta.flatten(1))


@dataclass(frozen=True)
class Difference:
    """What two adapters differ in.

    Attributes:
        only_a, only_b: sites that one of them has alone.
        distance: the Frobenius norm of the difference of all deltas, as a share of A's norm.
        cosine: of the angle between all deltas; 1 is the same direction.
        blocks: the share of each block's norm in A that differs.
        metadata: keys with other texts.
    """

    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    distance: float
    cosine: float
    blocks: Mapping[str, float]
    metadata: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As the command line prints it."""
        return {
            "only_a": list(self.only_a),
            "only_b": list(self.only_b),
            "distance": self.distance,
            "cosine": self.cosine,
            "blocks": dict(self.blocks),
            "metadata": list(self.metadata),
        }


def compare(a: Path, b: Path, progress: Progress = silent) -> Difference:
    """Compare the deltas of two adapters of one family, whatever their kinds and ranks.

    Raises:
        AdapterFileError: a file that cannot be read, or a kind whose delta depends on a checkpoint.
    """
    with AdapterReader(a) as first, AdapterReader(b, None) as second:
        both = [name for name in first.sites if name in second.sites]
        sums: dict[str, Tensor] = {}
        for number, name in enumerate(both):
            progress(number, len(both), name)
            block = block_of(name, first.family)
            sums[block] = sums.get(block, torch.zeros(3, dtype=torch.float64)) + _inner(first, second, name)
        for reader, other, place in ((first, second, 0), (second, first, 2)):
            for name, entry in reader.sites.items():
                if name not in other.sites:
                    block = block_of(name, reader.family)
                    alone = torch.zeros(3, dtype=torch.float64)
                    alone[place] = (reader.norm(entry) or 0.0) ** 2
                    sums[block] = sums.get(block, torch.zeros(3, dtype=torch.float64)) + alone
        keys = {*first.metadata, *second.metadata}
        return Difference(
            tuple(sorted(set(first.sites) - set(both))),
            tuple(sorted(set(second.sites) - set(both))),
            *_numbers(torch.stack([*sums.values()]).sum(0)),
            {block: _numbers(numbers)[0] for block, numbers in sums.items()},
            tuple(sorted(key for key in keys if first.metadata.get(key) != second.metadata.get(key))),
        )


def _inner(first: AdapterReader, second: AdapterReader, name: str) -> Tensor:
    """||A||^2, <A, B>, ||B||^2 of one site, as a tensor of three."""
    pair = [reader.factors(reader.sites[name]) for reader in (first, second)]
    if pair[0] is not None and pair[1] is not None and pair[0][0].shape[0] == pair[1][0].shape[0]:
        (up_a, down_a), (up_b, down_b) = ((x.double() for x in factors) for factors in (pair[0], pair[1]))
        if down_a.shape[1] == down_b.shape[1]:
            sides = ((up_a, down_a), (up_b, down_b))
            grams = [((u.T @ v) * (d @ e.T)).sum() for (u, d), (v, e) in ((sides[0], sides[0]), sides, (sides[1],) * 2)]
            return torch.stack(grams)
    deltas = [reader.delta(reader.sites[name]).weight for reader in (first, second)]
    a, b = (torch.zeros(1) if d is None else d.flatten() for d in deltas)
    if prod(a.shape) != prod(b.shape):
        return torch.tensor([energy_of(a), 0.0, energy_of(b)], dtype=torch.float64)
    return torch.tensor([energy_of(a), float(a.double() @ b.double()), energy_of(b)], dtype=torch.float64)


def _numbers(sums: Tensor) -> tuple[float, float]:
    """Distance as a share of A's norm, and cosine."""
    aa, ab, bb = (float(x) for x in sums)
    distance = math.sqrt(max(0.0, aa - 2 * ab + bb) / aa) if aa else (1.0 if bb else 0.0)
    return distance, ab / math.sqrt(aa * bb) if aa and bb else 0.0
