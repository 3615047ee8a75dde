"""Extract ("distill") a LoRA from the difference of two checkpoints.

Every layer is compared truly, text encoders too; nothing is clamped; what a LoRA of this shape cannot hold is counted
as lost, block by block.
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from lora_lab.errors import CheckpointError, SettingsError
from lora_lab.families import Family
from lora_lab.surgery import places
from lora_lab.surgery.checkpoints import CheckpointReader
from lora_lab.surgery.compress import Compression, Compressor, dim_metadata, note_dropped
from lora_lab.surgery.lowrank import energy_of
from lora_lab.surgery.metadata import card, recipe, source_entry
from lora_lab.surgery.outcome import Outcome, Progress, Tally, silent
from lora_lab.surgery.places import Place, block_of
from lora_lab.surgery.precision import rounded
from lora_lab.surgery.spool import IN_MEMORY, Heap, Spool


@dataclass(frozen=True)
class ExtractRequest:
    """What to extract.

    Attributes:
        base: the checkpoint that the LoRA is to be used on.
        tuned: the checkpoint that the LoRA is to turn it into.
        out: the LoRA to write.
        how: ranks and precision.
        convs: residual blocks and samplers too (LoCon), whose 3x3 convolutions follow `how.conv_rule`.
        outside: the layers outside the blocks too: input and output convolutions, time and label embeddings.
        norms: norms too, whole, as LyCORIS saves them.
        biases: biases of layers too, whole, as `diff_b`; the webui does not read them beside a LoRA.
        force: overwrite the output.
        dry_run: compute everything, write nothing.
    """

    base: Path
    tuned: Path
    out: Path
    how: Compression
    convs: bool = False
    outside: bool = False
    norms: bool = False
    biases: bool = False
    force: bool = False
    dry_run: bool = False


def extract(request: ExtractRequest, progress: Progress = silent) -> Outcome:
    """Do it.

    Raises:
        CheckpointError: a file that is no checkpoint, of another family, with other shapes, or that does not differ.
        SettingsError: both checkpoints are the same file.
        OutputError: see :func:`lora_lab.network.streams.check_output`.
    """
    if request.base.exists() and request.tuned.exists() and request.base.samefile(request.tuned):
        raise SettingsError("base and tuned are the same file", file=request.base, remedy="give two checkpoints")
    with ExitStack() as stack:
        base = stack.enter_context(CheckpointReader(request.base))
        tuned = stack.enter_context(CheckpointReader(request.tuned))
        common = _common(base, tuned)
        spool = stack.enter_context(
            Spool(
                request.out, force=request.force, inputs=[request.base, request.tuned],
                expect=_expected(request, base, common.sites),
            )
        )  # fmt: skip
        heap = stack.enter_context(Heap(request.out.parent))
        tally = Tally()
        work = _Work(request, base, tuned, spool, tally, Compressor(request.how, spool, heap, tally, base.family))
        for number, site in enumerate(common.sites):
            progress(number, len(common.sites), site)
            work.take(site)
        progress(len(common.sites), len(common.sites), "writing")
        return work.finish(common)


@dataclass(frozen=True)
class _Common:
    """The sites that both checkpoints have in the same shape, and those in different ones."""

    sites: list[str]
    misfits: list[str]


def _common(base: CheckpointReader, tuned: CheckpointReader) -> _Common:
    if base.family is not tuned.family:
        raise CheckpointError(
            f"this is {tuned.family.value}, the base {base.path.name} is {base.family.value}",
            file=tuned.path,
            remedy="give two checkpoints of one family",
        )
    both = [site for site in base.places if site in tuned.places]
    sites = [site for site in both if base.places[site].shape == tuned.places[site].shape]
    misfits = [site for site in both if site not in set(sites)]
    if not both:
        one, other = (min(reader.places, default="none") for reader in (base, tuned))
        raise CheckpointError(
            f"the two have no layer in common: {one} here, {other} there",
            file=tuned.path,
            remedy="give two checkpoints of one family",
        )
    if len(misfits) > len(sites):
        site = misfits[0]
        raise CheckpointError(
            f"the layers have other shapes: {site} is {list(tuned.places[site].shape)}, "
            f"in {base.path.name} {list(base.places[site].shape)}",
            file=tuned.path,
            remedy="give two checkpoints of one architecture",
        )
    return _Common(sites, misfits)


def _expected(request: ExtractRequest, base: CheckpointReader, sites: list[str]) -> int:
    """Bytes that the output, and what waits beside it, will take on the disk, as far as the request says it."""
    how, total, how_large = request.how, 0, 0
    for site in sites:
        place = base.places[site]
        group = _group(site, place)
        if len(place.shape) == 1 or not wanted(request, group):
            continue
        rule = how.rule_for(block_of(site, base.family), place.shape)
        most = int(rule.value) if rule.kind == "fixed" else rule.most
        cost = sum(_matrix(place)) * min(most or 0, *_matrix(place))
        total, how_large = total + cost * how.dtype.itemsize, how_large + cost * 4
    if not how.shared:
        return total
    return (how.max_bytes or total) + max(0, how_large - IN_MEMORY)


def wanted(request: ExtractRequest, group: str) -> bool:
    """Whether a request takes a group of layers."""
    asked = {"convs": request.convs, "outside": request.outside, "norms": request.norms}
    return {"layers": True, **asked}.get(group, False)


@dataclass
class _Work:
    """One extraction on its way."""

    request: ExtractRequest
    base: CheckpointReader
    tuned: CheckpointReader
    spool: Spool
    tally: Tally
    to: Compressor
    taken: int = 0
    left: dict[str, float] = field(default_factory=dict)
    rounding2: float = 0.0

    @property
    def family(self) -> Family:
        """Of both."""
        return self.base.family

    def take(self, site: str) -> None:
        """One layer or norm: weight and bias."""
        place, other = self.base.places[site], self.tuned.places[site]
        group = _group(site, place)
        mine, theirs = self.base.bias(place), self.tuned.bias(other)
        if mine is not None and theirs is not None and mine.shape == theirs.shape:
            wanted = self.request.norms if group == "norms" else self.request.biases and self._wanted(group)
            suffix = "b_norm" if group == "norms" else "diff_b"
            self._whole(site, suffix, *self._difference(site, mine, theirs), wanted)
        self._weight(site, group, *self._difference(site, self.base.weight(place), self.tuned.weight(other)))

    def _wanted(self, group: str) -> bool:
        return wanted(self.request, group)

    def _weight(self, site: str, group: str, change: Tensor, energy: float) -> None:
        if group == "norms":
            return self._whole(site, "w_norm", change, energy, self.request.norms)
        if not self._wanted(group):
            return self._leave(site, energy, group)
        if energy:
            self.taken += 1
            self.to.add_matrix(site, change)
        elif f"{site}.diff_b" in self.spool.specs:
            self.to.add_nothing(site, tuple(change.shape))

    def _whole(self, site: str, suffix: str, change: Tensor, energy: float, wanted: bool) -> None:
        """A small tensor that is kept as it is, or left out."""
        if not wanted:
            return self._leave(site, energy, "norms" if suffix == "w_norm" else "biases")
        if energy or suffix == "w_norm":
            stored = rounded(change, self.request.how.dtype, f"{site}.{suffix}")
            self.spool.put(f"{site}.{suffix}", stored)
            self.taken += 1
            self.tally.add(block_of(site, self.family), energy, energy_of(change - stored.float()))

    def _leave(self, site: str, energy: float, group: str) -> None:
        if energy:
            self.left[group] = self.left.get(group, 0.0) + energy
            self.tally.add(block_of(site, self.family), energy, energy)

    def _difference(self, site: str, base: Tensor, tuned: Tensor) -> tuple[Tensor, float]:
        """What changed, and the sum of its squares, which is finite where every number is."""
        change = tuned - base
        energy = energy_of(change)
        if not math.isfinite(energy):
            broken = self.tuned if bool(torch.isfinite(base).all()) else self.base
            raise CheckpointError(
                f"{site} holds NaN or infinite numbers", file=broken.path, remedy="get the checkpoint again"
            )
        if self._wanted(_group(site, self.base.places[site])) and tuned.dim() > 1:
            # What the base was rounded to is what the LoRA will be used on: only the tuned one's rounding hurts.
            stored = self.tuned.file.specs[self.tuned.places[site].key].dtype
            self.rounding2 += energy_of(tuned) * ROUNDING[stored] if stored in ROUNDING else 0.0
        return change, energy

    def finish(self, common: _Common) -> Outcome:
        """Notes, metadata, and the file.

        Raises:
            CheckpointError: no layer differs.
        """
        if not self.taken:
            where = ", ".join(sorted(self.left))
            raise CheckpointError(
                "the two checkpoints do not differ" + (f" but in {where}, which were not asked for" if where else ""),
                file=self.request.tuned,
                remedy="ask for those too" if where else "give two different checkpoints",
            )
        self.to.finish()
        self._notes(common)
        metadata = card(self.family, self.request.out.stem) | dim_metadata(self.to.ranks)
        metadata["ss_sd_model_name"] = self.base.path.name
        metadata |= recipe(
            "extract",
            base=source_entry(self.base.file),
            tuned=source_entry(self.tuned.file),
            error=self.tally.outcome(None, 0).error,
        )
        size = sum(spec.nbytes for spec in self.spool.specs.values())
        if not self.request.dry_run:
            size = self.spool.write(metadata)
        return self.tally.outcome(None if self.request.dry_run else self.request.out, size, ranks=self.to.ranks)

    def _notes(self, common: _Common) -> None:
        notes, whole = self.tally.notes, sum(part.norm2 for part in self.tally.blocks.values())
        note_dropped(self.tally, self.to.ranks)
        for group, energy in sorted(self.left.items()):
            notes.append(f"{(energy / whole) ** 0.5:.1%} of the difference lies in {GROUPS[group]}, left out")
        if common.misfits:
            site = common.misfits[0]
            shapes = [list(reader.places[site].shape) for reader in (self.base, self.tuned)]
            inpainting = " (an inpainting model's input layer)" if any(shape[1:2] == [9] for shape in shapes) else ""
            notes.append(f"{len(common.misfits)} layers of other shapes are left out, such as {site}{inpainting}")
        for reader in (self.base, self.tuned):
            if reader.has_ema:
                notes.append(f"{reader.path.name} also holds averaged (EMA) weights, which are not looked at")
        if self.base.dtype != self.tuned.dtype:
            names = [str(reader.dtype)[6:] for reader in (self.base, self.tuned)]
            notes.append(f"stored in {names[0]} (base) and {names[1]} (tuned): a part of the difference is rounding")
        share = (self.rounding2 / whole) ** 0.5
        if share > 1e-4:
            notes.append(f"the tuned weights' own rounding is about {share:.2%} of the difference")
        capped = [s for s, rank in self.to.ranks.items() if rank and rank >= min(_matrix(self.base.places[s]))]
        if capped:
            notes.append(f"{len(capped)} layers are smaller than the rank and hold their difference exactly")


GROUPS = {
    "convs": "residual blocks and samplers",
    "outside": "layers outside the blocks",
    "norms": "norms",
    "biases": "biases",
    "embeddings": "token and position embeddings",
}
"""What the groups of layers are called in a sentence."""

ROUNDING = {torch.float16: 2.0**-20 * 0.045, torch.bfloat16: 2.0**-14 * 0.045}
"""The mean square of a number's relative rounding error: a unit in the last place of 2^-10 (2^-7), evenly spread,
over a mantissa whose logarithm is evenly spread."""


def _matrix(place: Place) -> tuple[int, int]:
    rest = 1
    for side in place.shape[1:]:
        rest *= side
    return place.shape[0], rest


def _group(site: str, place: Place) -> str:
    """Which group of the request a site belongs to."""
    if len(place.shape) == 1:
        return "norms"
    if places.is_lierla(site):
        return "layers"
    if places.is_resnet_or_sampler(site):
        return "convs"
    return "outside" if site.startswith("lora_unet_") else "embeddings"
