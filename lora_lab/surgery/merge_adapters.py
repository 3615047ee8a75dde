"""Merge adapters into one.

    concat  exact for LoRA and LoCon: the ranks add up, nothing is lost but rounding
    add     exact at the rank of one, for LoRAs that share all their downs or all their ups (LoRA-FA)
    svd     the sum of all deltas, of any kinds, cut to a rank, a rule, a size or an error
    ties    as svd, of the trimmed deltas that agree in sign (arXiv 2306.01708)
    dare    as svd, of deltas thinned at random (arXiv 2311.03099)

Strengths may be negative, and go by block. Norms and whole ("full") deltas of all inputs are summed as they are.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from lora_lab.errors import AdapterFileError, SettingsError
from lora_lab.network.deltas import Kind
from lora_lab.surgery.adapters import SiteEntry
from lora_lab.surgery.checkpoints import CheckpointReader
from lora_lab.surgery.compress import Compression, Compressor, dim_metadata, note_dropped
from lora_lab.surgery.lowrank import energy_of
from lora_lab.surgery.metadata import card, recipe
from lora_lab.surgery.mixing import dare, ties
from lora_lab.surgery.outcome import Outcome, Progress, Tally, silent
from lora_lab.surgery.places import block_of
from lora_lab.surgery.precision import rounded
from lora_lab.surgery.ranks import RankRule
from lora_lab.surgery.spool import Heap, Spool
from lora_lab.surgery.uses import AdapterUse, OpenUse, open_uses

Method = Literal["concat", "add", "svd", "ties", "dare"]

WHOLE = (Kind.FULL, Kind.NORM)
"""Kinds that are summed as they are."""


@dataclass(frozen=True)
class MixRequest:
    """What to merge, and how.

    Attributes:
        how: ranks and precision; concat and add take only its precision.
        density: the share of entries that ties and dare keep, above 0 and at most 1.
        base: the checkpoint, where a kind's delta depends on the weight (DoRA, IA3, OFT, GLoRA).
        keep_dtype: store in the precision of the first adapter instead of `how.dtype`.
        seed: of dare.
    """

    uses: tuple[AdapterUse, ...]
    out: Path
    method: Method = "svd"
    how: Compression = Compression(RankRule("fixed", 32))
    density: float = 0.5
    base: Path | None = None
    keep_dtype: bool = True
    seed: int = 0
    force: bool = False
    dry_run: bool = False

    def __post_init__(self) -> None:
        """Check the words and numbers.

        Raises:
            SettingsError: an unknown method, or a density outside 0..1.
        """
        if self.method not in get_args(Method):
            raise SettingsError(f"'{self.method}' is no way of merging", remedy=f"choose {', '.join(get_args(Method))}")
        if not 0 < self.density <= 1:
            raise SettingsError(f"the density {self.density:g} makes no sense", remedy="give a share above 0, up to 1")


def merge_adapters(request: MixRequest, progress: Progress = silent) -> Outcome:
    """Do it.

    Raises:
        SettingsError: no adapter, or everything at strength 0.
        AdapterFileError: other families, shapes that differ, or a kind that the method cannot take.
        OutputError: see :func:`lora_lab.network.streams.check_output`.
    """
    with ExitStack() as stack:
        opened = open_uses(stack, request.uses)
        base = stack.enter_context(CheckpointReader(request.base)) if request.base else None
        inputs = [use.path for use in request.uses] + ([request.base] if request.base else [])
        dtype = None if request.keep_dtype else request.how.dtype
        expect = sum(one.reader.stored_bytes(dtype) for one in opened) if request.method == "concat" else 0
        spool = stack.enter_context(Spool(request.out, force=request.force, inputs=inputs, expect=expect))
        heap = stack.enter_context(Heap(request.out.parent))
        family, tally = opened[0].reader.family, Tally()
        how = replace(request.how, dtype=opened[0].reader.dtype) if request.keep_dtype else request.how
        mix = _Mix(request, opened, base, tally, Compressor(how, spool, heap, tally, family))
        names = sorted({name for one in opened for name in one.reader.sites})
        for number, name in enumerate(names):
            progress(number, len(names), name)
            mix.take(name)
        progress(len(names), len(names), "writing")
        return mix.finish(spool)


@dataclass
class _Mix:
    """One merge on its way."""

    request: MixRequest
    opened: Sequence[OpenUse]
    base: CheckpointReader | None
    tally: Tally
    to: Compressor

    def take(self, name: str) -> None:
        """Merge one site."""
        parts = [(one, one.reader.sites[name]) for one in self.opened if name in one.reader.sites]
        parts = [(one, entry) for one, entry in parts if one.strength(entry) != 0]
        if not parts:
            return
        if all(entry.kind in WHOLE for _, entry in parts):
            return self._sum_whole(name, parts)
        products = [self._product(one, entry) for one, entry in parts]
        shape = self._shape(parts)
        if self.request.method in ("concat", "add"):
            return self._exactly(name, shape, parts, products)
        whole = [product for product in products if product is not None]
        if self.request.method == "svd" and len(whole) == len(parts):
            up, down = torch.cat([p[0] for p in whole], 1), torch.cat([p[1] for p in whole], 0)
            return self.to.add_product(name, up, down, shape)
        deltas = [self._delta(one, entry, shape) for one, entry in parts]
        if self.request.method == "ties":
            mixed = ties(deltas, self.request.density)
        elif self.request.method == "dare":
            mixed = dare(deltas, self.request.density, f"{self.request.seed}/{name}")
        else:
            mixed = torch.stack(deltas).sum(0)
        self.to.add_matrix(name, mixed)

    def _product(self, one: OpenUse, entry: SiteEntry) -> tuple[Tensor, Tensor] | None:
        """A site's factors with the strength folded in, half of it into each."""
        found = one.reader.factors(entry)
        if found is None:
            return None
        root = abs(one.strength(entry)) ** 0.5
        return found[0] * (root if one.strength(entry) > 0 else -root), found[1] * root

    def _shape(self, parts: Sequence[tuple[OpenUse, SiteEntry]]) -> tuple[int, ...]:
        """The shape of the layer's weight, which all parts must share."""
        shapes = [self._one_shape(one, entry) for one, entry in parts]
        if any(prod(shape) != prod(shapes[0]) or shape[0] != shapes[0][0] for shape in shapes):
            wrong = next(n for n, shape in enumerate(shapes) if shape != shapes[0])
            raise AdapterFileError(
                f"{parts[0][1].name} is for a layer {list(shapes[wrong])} here, {list(shapes[0])} in "
                f"{parts[0][0].use.path.name}",
                file=parts[wrong][0].use.path,
                remedy="merge adapters of one architecture",
            )
        return max(shapes, key=len)

    def _one_shape(self, one: OpenUse, entry: SiteEntry) -> tuple[int, ...]:
        up, down = entry.shapes.get("lora_up.weight"), entry.shapes.get("lora_down.weight")
        if up is not None and down is not None and "lora_mid.weight" not in entry.shapes:
            return one.reader.shape(entry, up[0], prod(down[1:]))
        if self.base is not None and entry.name in self.base.places:
            return self.base.places[entry.name].shape
        delta = one.reader.delta(entry).weight
        assert delta is not None
        return one.reader.shape(entry, delta.shape[0], prod(delta.shape[1:]))

    def _delta(self, one: OpenUse, entry: SiteEntry, shape: tuple[int, ...]) -> Tensor:
        weight = None
        if self.base is not None and entry.needs_base and entry.name in self.base.places:
            weight = self.base.weight(self.base.places[entry.name])
        found = one.reader.delta(entry, weight).weight
        assert found is not None
        return found.reshape(shape) * one.strength(entry)

    def _sum_whole(self, name: str, parts: Sequence[tuple[OpenUse, SiteEntry]]) -> None:
        """Norms and whole deltas, biases with them."""
        sums: dict[str, Tensor] = {}
        for one, entry in parts:
            for suffix, tensor in one.reader.tensors(entry).items():
                part = tensor.float() * one.strength(entry)
                sums[suffix] = sums[suffix] + part if suffix in sums else part
        for suffix, total in sums.items():
            stored = rounded(total, self.to.how.dtype, f"{name}.{suffix}")
            self.to.spool.put(f"{name}.{suffix}", stored)
            lost = energy_of(total - stored.float())
            self.tally.add(block_of(name, self.to.family), energy_of(total), lost)

    def _exactly(
        self,
        name: str,
        shape: tuple[int, ...],
        parts: Sequence[tuple[OpenUse, SiteEntry]],
        products: Sequence[tuple[Tensor, Tensor] | None],
    ) -> None:
        whole = [product for product in products if product is not None]
        if len(whole) != len(parts):
            one, entry = parts[[product is None for product in products].index(True)]
            raise AdapterFileError(
                f"the site {name} ({entry.kind.value}) is no product of two factors",
                file=one.use.path,
                remedy="merge with the method svd",
            )
        if self.request.method == "concat":
            up, down = torch.cat([p[0] for p in whole], 1), torch.cat([p[1] for p in whole], 0)
            return self.to.add_exact(name, up, down, shape)
        self.to.add_exact(name, *self._added(name, parts), shape)

    def _added(self, name: str, parts: Sequence[tuple[OpenUse, SiteEntry]]) -> tuple[Tensor, Tensor]:
        """The sum at one rank, exact because one factor is the same in all."""
        raw = [(one.reader.factors(entry), one.strength(entry)) for one, entry in parts]
        factors = [(pair[0], pair[1], strength) for pair, strength in raw if pair is not None]
        first = factors[0]
        if all(torch.equal(down, first[1]) for _, down, _ in factors):
            return torch.stack([up * strength for up, _, strength in factors]).sum(0), first[1]
        if all(torch.equal(up, first[0]) for up, _, _ in factors):
            return first[0], torch.stack([down * strength for _, down, strength in factors]).sum(0)
        raise AdapterFileError(
            f"adding the factors of {name} would add products of one's up with another's down",
            file=parts[1][0].use.path,
            remedy="merge with concat, which is exact, or svd",
        )

    def finish(self, spool: Spool) -> Outcome:
        """Metadata, notes, and the file.

        Raises:
            SettingsError: nothing came together.
        """
        self.to.finish()
        if not spool.specs:
            raise SettingsError("nothing is left", remedy="give strengths other than 0")
        note_dropped(self.tally, self.to.ranks)
        lost = sum(len(one.reader.others) for one in self.opened)
        if lost:
            self.tally.notes.append(f"{lost} tensors are no part of a site and are left out")
        metadata = self._metadata()
        size = sum(spec.nbytes for spec in spool.specs.values())
        if not self.request.dry_run:
            size = spool.write(metadata)
        out = None if self.request.dry_run else self.request.out
        return self.tally.outcome(out, size, ranks=self.to.ranks)

    def _metadata(self) -> dict[str, str]:
        lines = [one.to_json() for one in self.opened]
        metadata = card(self.to.family, self.request.out.stem) | dim_metadata(self.to.ranks)
        metadata["modelspec.merged_from"] = ", ".join(line["name"] for line in lines)
        tags = [_tags(one.reader.metadata.get("ss_tag_frequency", "")) for one in self.opened]
        if any(tags):
            metadata["ss_tag_frequency"] = json.dumps({name: tag for found in tags for name, tag in found.items()})
        return metadata | recipe("merge_adapters", method=self.request.method, adapters=lines)


def _tags(text: str) -> dict[str, Any]:
    """Tag counts by folder, as kohya writes them; nothing where they cannot be read."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return {k: dict(Counter(v)) for k, v in found.items() if isinstance(v, dict)} if isinstance(found, dict) else {}
