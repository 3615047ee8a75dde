"""Deltas in, a LoRA out: the rank rules, the budget, the rounding, and the account of what is lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor

from lora_lab.errors import OutputError, SettingsError
from lora_lab.families import Family
from lora_lab.network import header
from lora_lab.network.header import TensorSpec
from lora_lab.surgery.lowrank import LowRank, energy_of, factor, factor_product, product_norm
from lora_lab.surgery.outcome import Tally
from lora_lab.surgery.places import block_of
from lora_lab.surgery.precision import rounded
from lora_lab.surgery.ranks import RankRule, Spectrum, factor_by, share_bytes, share_error, spectrum_of
from lora_lab.surgery.spool import Heap, Spool

SHARED_RANK = 128
"""The most singular values of a site that take part in sharing a budget, unless the rule says how many."""


@dataclass(frozen=True)
class Compression:
    """How deltas become a LoRA.

    Attributes:
        rule: for linear layers and 1x1 convolutions. With a budget, its fixed rank is the most a site may get.
        conv_rule: for larger convolutions; None means the same rule.
        block_rules: rules of single blocks (IN00..OUT11, BASE), before both others.
        max_bytes: the largest file allowed; the ranks are then shared out to lose the least.
        max_error: the largest share of the whole norm that may be lost, 0 to 1; the file is then the smallest.
        dtype: what the factors are stored in.
    """

    rule: RankRule | None = None
    conv_rule: RankRule | None = None
    block_rules: Mapping[str, RankRule] = field(default_factory=dict)
    max_bytes: int | None = None
    max_error: float | None = None
    dtype: torch.dtype = torch.float16

    def __post_init__(self) -> None:
        """Check what excludes what.

        Raises:
            SettingsError: a size and an error at once, neither a rule nor a budget, or an error outside 0..1.
        """
        if self.max_bytes is not None and self.max_error is not None:
            raise SettingsError("a file size and an error exclude each other", remedy="give one of them")
        if self.rule is None and not self.shared:
            raise SettingsError("no rank is given", remedy="give a rank, a rule, a file size or an error")
        caps = [rule for rule in (self.rule, self.conv_rule) if rule is not None]
        if self.shared and (self.block_rules or any(rule.kind != "fixed" for rule in caps)):
            raise SettingsError("a budget shares the ranks out itself", remedy="leave the rules out, or the budget")
        if self.max_error is not None and not 0 < self.max_error < 1:
            raise SettingsError(f"the error {self.max_error:g} makes no sense", remedy="give a share between 0 and 1")

    @property
    def shared(self) -> bool:
        """Whether a budget decides about all sites together."""
        return self.max_bytes is not None or self.max_error is not None

    def rule_for(self, block: str, shape: tuple[int, ...]) -> RankRule:
        """The rule of a site."""
        own = self.conv_rule if prod(shape[2:]) > 1 and self.conv_rule is not None else self.rule
        own = own or RankRule("fixed", SHARED_RANK)
        return self.block_rules.get(block, own)


@dataclass
class Compressor:
    """Takes the deltas of one file, site by site, and puts the LoRA's tensors into a spool.

    With a budget the factors wait in a heap beside the output until all sites are known.
    """

    how: Compression
    spool: Spool
    heap: Heap
    tally: Tally
    family: Family
    ranks: dict[str, int] = field(default_factory=dict)
    _waiting: dict[str, tuple[Spectrum, tuple[int, ...]]] = field(default_factory=dict)

    def add_matrix(self, site: str, delta: Tensor) -> None:
        """Take a delta in the shape of its layer's weight, float32."""
        matrix = delta.flatten(1)
        rule = self._rule(site, tuple(delta.shape))
        if self.how.shared:
            return self._wait(site, factor(matrix, int(rule.value)), tuple(delta.shape), energy_of(matrix))
        low, rank = factor_by(matrix, rule)
        stored = self._store(site, *low.cut(rank), tuple(delta.shape))
        lost = energy_of(matrix if stored is None else matrix - stored[0] @ stored[1])
        self.tally.add(block_of(site, self.family), low.energy, lost)

    def add_product(self, site: str, up: Tensor, down: Tensor, shape: tuple[int, ...]) -> None:
        """Take a delta `up @ down` of a layer whose weight has this shape."""
        rule = self._rule(site, shape)
        low = factor_product(up, down)
        if self.how.shared:
            return self._wait(site, low, shape, low.energy, int(rule.value))
        stored = self._store(site, *low.cut(rule.of(low.s, low.energy)), shape)
        lost = low.energy
        if stored is not None:
            lost = product_norm(torch.cat([up, -stored[0]], 1), torch.cat([down, stored[1]], 0)) ** 2
        self.tally.add(block_of(site, self.family), low.energy, lost)

    def add_exact(self, site: str, up: Tensor, down: Tensor, shape: tuple[int, ...]) -> None:
        """Take a delta `up @ down` and store these very factors."""
        norm2 = product_norm(up, down) ** 2
        stored = self._store(site, up, down, shape)
        assert stored is not None
        lost = product_norm(torch.cat([up, -stored[0]], 1), torch.cat([down, stored[1]], 0)) ** 2
        self.tally.add(block_of(site, self.family), norm2, lost)

    def add_nothing(self, site: str, shape: tuple[int, ...]) -> None:
        """Take a layer that has not changed, but for its bias, see `_store`."""
        self._store(site, torch.zeros(shape[0], 0), torch.zeros(0, prod(shape[1:])), shape)

    def _rule(self, site: str, shape: tuple[int, ...]) -> RankRule:
        return self.how.rule_for(block_of(site, self.family), shape)

    def _store(self, site: str, up: Tensor, down: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor] | None:
        """Put a site's tensors; the factors as they will be read, or None for rank 0.

        A site whose bias is kept gets zeros of rank 1 instead: a bias alone is no adapter to any reader.
        """
        if up.shape[1] == 0 and f"{site}.diff_b" in self.spool.specs:
            up, down = torch.zeros(shape[0], 1), torch.zeros(1, prod(shape[1:]))
        rank = up.shape[1]
        self.ranks[site] = rank
        if rank == 0:
            return None
        up, down = rounded(up, self.how.dtype, f"{site} (up)"), rounded(down, self.how.dtype, f"{site} (down)")
        names = lora_specs(site, rank, shape, self.how.dtype)
        tensors = (up, down, torch.tensor(float(rank)))
        for (name, spec), tensor in zip(names.items(), tensors, strict=True):
            self.spool.put(name, tensor.reshape(spec.shape))
        return up.float(), down.float()

    def _wait(self, site: str, low: LowRank, shape: tuple[int, ...], energy: float, most: int | None = None) -> None:
        rank = min(low.rank, most or low.rank)
        up, down = low.cut(rank)
        self.heap.put(f"{site}.up", up)
        self.heap.put(f"{site}.down", down)
        cost = (shape[0] + prod(shape[1:])) * self.how.dtype.itemsize
        spectrum = spectrum_of(low, cost)
        self._waiting[site] = Spectrum(spectrum.s[:rank], energy, cost), shape

    def finish(self) -> None:
        """Share the budget out, where there is one.

        Raises:
            OutputError: the file size asked for does not hold a single rank.
        """
        if not self.how.shared:
            return
        spectra = {site: spectrum for site, (spectrum, _) in self._waiting.items()}
        if self.how.max_bytes is not None:
            ranks = share_bytes(spectra, self.how.max_bytes - self._overhead())
        else:
            assert self.how.max_error is not None
            ranks = share_error(spectra, self.how.max_error)
        if not any(ranks.values()):
            raise OutputError("the file size is too small for a single rank", file=self.spool.path, remedy="allow more")
        for site, (spectrum, shape) in self._waiting.items():
            up, down = self.heap.get(f"{site}.up")[:, : ranks[site]], self.heap.get(f"{site}.down")[: ranks[site]]
            stored = self._store(site, up, down, shape)
            lost = max(0.0, spectrum.energy - sum(s * s for s in spectrum.s[: ranks[site]]))
            if stored is not None:
                lost += product_norm(torch.cat([up, -stored[0]], 1), torch.cat([down, stored[1]], 0)) ** 2
            self.tally.add(block_of(site, self.family), spectrum.energy, lost)

    def _overhead(self) -> int:
        """An upper bound of the output's bytes that are not factors: its head, with room for metadata."""
        specs = dict(self.spool.specs)
        for site, (spectrum, shape) in self._waiting.items():
            specs |= lora_specs(site, len(spectrum.s), shape, self.how.dtype)
        head, _ = header.build(specs, {})
        fixed = sum(spec.nbytes for spec in self.spool.specs.values()) + 4 * len(self._waiting)
        biased = (found.cost for site, (found, _) in self._waiting.items() if f"{site}.diff_b" in self.spool.specs)
        return len(head) + fixed + sum(biased) + METADATA_ROOM


METADATA_ROOM = 16 << 10
"""Bytes kept free for metadata when a file size is asked for."""


def lora_specs(site: str, rank: int, shape: tuple[int, ...], dtype: torch.dtype) -> dict[str, TensorSpec]:
    """The tensors of a LoRA site with its kohya names: up, down, alpha (in float32, which holds every rank)."""
    ones = (1,) * (len(shape) - 2)
    return {
        f"{site}.lora_up.weight": TensorSpec(dtype, (shape[0], rank, *ones)),
        f"{site}.lora_down.weight": TensorSpec(dtype, (rank, *shape[1:])),
        f"{site}.alpha": TensorSpec(torch.float32, ()),
    }


def dim_metadata(ranks: Mapping[str, int]) -> dict[str, str]:
    """kohya's `ss_network_dim`, `ss_network_alpha` and module for a LoRA of these ranks; "Dynamic" where they
    differ, as kohya's resize writes it."""
    kept = {rank for rank in ranks.values() if rank}
    dim = str(kept.pop()) if len(kept) == 1 else "Dynamic"
    return {"ss_network_module": "networks.lora", "ss_network_dim": dim, "ss_network_alpha": dim}


def note_dropped(tally: Tally, ranks: Mapping[str, int]) -> None:
    """Say how many sites have no place in the file because nothing of them was kept."""
    empty = [site for site, rank in ranks.items() if rank == 0]
    if empty:
        tally.notes.append(f"{len(empty)} sites are left out, nothing of them was kept, such as {empty[0]}")
