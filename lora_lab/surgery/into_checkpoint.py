"""Merge adapters into a checkpoint, so that it draws what the prompt with them draws, and take them out again.

Adapters apply one after the other, as the webui does it: a kind whose delta depends on the weight (DoRA, OFT, ...)
sees what the ones before it left. All is computed in float32 and rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lora_lab.errors import AdapterFileError, CheckpointError, OutputError, SettingsError
from lora_lab.network.deltas import Kind
from lora_lab.network.header import TensorSpec
from lora_lab.network.streams import TensorFile, TensorWriter, check_output
from lora_lab.surgery.adapters import SiteEntry
from lora_lab.surgery.adding import Product, added, energy, stacked
from lora_lab.surgery.checkpoints import CheckpointReader
from lora_lab.surgery.extract import ROUNDING
from lora_lab.surgery.lowrank import energy_of
from lora_lab.surgery.metadata import RECIPE, read_recipe, recipe, source_entry
from lora_lab.surgery.outcome import Outcome, Progress, Tally, silent
from lora_lab.surgery.places import Place, block_of
from lora_lab.surgery.precision import rounded
from lora_lab.surgery.uses import AdapterUse, OpenUse, open_uses

MODEL = ("model.diffusion_model.", "cond_stage_model.", "conditioner.", "first_stage_model.", "model_ema.")
"""What a save precision applies to; schedules and the like keep theirs."""

VAE = "first_stage_model."


@dataclass(frozen=True)
class MergeRequest:
    """What to merge into what.

    Attributes:
        dtype: what the model is saved in; None keeps each tensor's own.
        vae: a VAE to bake in, by ldm's names, with or without `first_stage_model.`.
    """

    base: Path
    uses: tuple[AdapterUse, ...]
    out: Path
    dtype: torch.dtype | None = None
    vae: Path | None = None
    force: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class _Task:
    """One adapter's change of one tensor, or of some rows of it."""

    opened: OpenUse
    entry: SiteEntry
    place: Place
    bias: str | None = None
    """The suffix of the bias's own tensor; None for the weight."""


def merge_into_checkpoint(request: MergeRequest, progress: Progress = silent) -> Outcome:
    """Do it.

    Raises:
        CheckpointError: no checkpoint that we know, or a VAE that does not fit.
        AdapterFileError: an adapter of another family or shape, or one that fits nowhere.
        SettingsError: no adapter, or unknown blocks.
        OutputError: see :func:`lora_lab.network.streams.check_output`.
    """
    with ExitStack() as stack:
        base = stack.enter_context(CheckpointReader(request.base))
        opened = open_uses(stack, request.uses, base.family) if request.uses or not request.vae else []
        vae = _open_vae(stack, request.vae, base) if request.vae else {}
        work = _Work(base, request, Tally(), sign=1.0)
        work.plan(opened)
        metadata = dict(base.file.metadata)
        details: dict[str, Any] = {"base": source_entry(base.file)}
        details["adapters"] = [one.to_json() for one in opened]
        details["vae"] = request.vae.name if request.vae else None
        if read_recipe(metadata):
            details["before"] = read_recipe(metadata)
        metadata |= recipe("merge_into_checkpoint", **details)
        return work.write(metadata, vae, progress)


def unmerge(
    source: Path, adapters: tuple[Path, ...], out: Path, *, force: bool = False, dry_run: bool = False,
    progress: Progress = silent,
) -> Outcome:
    """Take out what :func:`merge_into_checkpoint` put in, by the recipe in the file.

    Args:
        adapters: the files that were merged, in any order; they are known by their contents.

    Raises:
        CheckpointError: no recipe in the file, or one with a kind whose delta depends on the weight.
        AdapterFileError: an adapter of the recipe is not among the files, or a file is not of the recipe.
    """
    with ExitStack() as stack:
        merged = stack.enter_context(CheckpointReader(source))
        wanted = read_recipe(merged.file.metadata)
        if wanted is None or wanted["tool"] != "merge_into_checkpoint":
            raise CheckpointError(
                "the file has no recipe of a merge", file=source, remedy="only what LoRA Lab merged can be taken out"
            )
        opened = _by_recipe(stack, wanted["adapters"], adapters, merged)
        request = MergeRequest(source, (), out, None, None, force, dry_run)
        work = _Work(merged, request, Tally(), sign=-1.0)
        work.plan(opened)
        for one in opened:
            for entry in one.reader:
                if entry.needs_base:
                    raise CheckpointError(
                        f"{one.use.path.name} holds {entry.kind.value} sites, whose change depends on the weight",
                        file=source,
                        remedy="go back to the checkpoint from before the merge",
                    )
        if wanted.get("vae"):
            work.tally.notes.append(f"the VAE {wanted['vae']} stays in")
        metadata = {key: text for key, text in merged.file.metadata.items() if key != RECIPE}
        if wanted.get("before"):
            before = dict(wanted["before"])
            metadata |= recipe(before.pop("tool"), **before)
        return work.write(metadata, {}, progress)


def _by_recipe(
    stack: ExitStack, lines: list[dict[str, Any]], paths: tuple[Path, ...], merged: CheckpointReader
) -> list[OpenUse]:
    """The recipe's uses, with the given files in their places, last first."""
    hashes: dict[str, Path] = {}
    for path in paths:
        with TensorFile(path, AdapterFileError) as file:
            hashes[file.data_hash()] = path
    missing = [line["name"] for line in lines if line["hash"] not in hashes]
    if missing:
        raise AdapterFileError(
            f"the recipe names {missing[0]}, which is not among the files given",
            file=merged.path,
            remedy="give the very files that were merged",
        )
    extra = [path for digest, path in hashes.items() if digest not in {line["hash"] for line in lines}]
    if extra:
        raise AdapterFileError("this adapter was not merged", file=extra[0], remedy="leave it out")
    uses = [
        AdapterUse(
            hashes[line["hash"]], line["unet"], line["text_encoder"], line["blocks"],
            elements=line.get("elements", ""),
        )
        for line in reversed(lines)
    ]  # fmt: skip
    return open_uses(stack, uses, merged.family)


def _open_vae(stack: ExitStack, path: Path, base: CheckpointReader) -> dict[str, tuple[TensorFile, str]]:
    """Where each tensor of the new VAE is, by the checkpoint's key."""
    file = stack.enter_context(TensorFile(path, CheckpointError))
    found = {VAE + key.removeprefix(VAE): (file, key) for key in file}
    old = {key: spec for key, spec in base.file.specs.items() if key.startswith(VAE)}
    common = {key: place for key, place in found.items() if key in old}
    wrong = [key for key in old if key not in found or found[key][0].specs[found[key][1]].shape != old[key].shape]
    if not common or wrong:
        example = wrong[0] if wrong else "nothing"
        raise CheckpointError(
            f"no VAE for this checkpoint: {example} is missing or has another shape",
            file=path,
            remedy="give a VAE of the same family by ldm's names",
        )
    return common


def _plain(held: Tensor, products: list[Product], dtype: torch.dtype) -> tuple[Tensor, float, float]:
    """As :meth:`_Work._summed` for products."""
    stored, lost = added(held.reshape(held.shape[0], -1), products, dtype)
    return stored.reshape(held.shape), energy(products), lost


@dataclass
class _Work:
    """One merge on its way."""

    base: CheckpointReader
    request: MergeRequest
    tally: Tally
    sign: float
    tasks: dict[str, list[_Task]] = field(default_factory=dict)

    def plan(self, opened: list[OpenUse]) -> None:
        """Find each site's tensors.

        Raises:
            AdapterFileError: no site of an adapter has a place in the checkpoint.
        """
        for one in opened:
            lost = [entry.name for entry in one.reader if entry.name not in self.base.places]
            if len(lost) == len(one.reader.sites):
                raise AdapterFileError(
                    f"no site of the adapter is in the checkpoint: {lost[0]} here, {min(self.base.places)} there",
                    file=one.use.path,
                    remedy="give a checkpoint of the same family",
                )
            if lost:
                self.tally.notes.append(f"{one.use.path.name}: {len(lost)} sites have no layer here, such as {lost[0]}")
            if one.reader.others:
                self.tally.notes.append(
                    f"{one.use.path.name}: {len(one.reader.others)} tensors are no part of a site, "
                    f"such as {one.reader.others[0]}"
                )
            for entry in one.reader:
                if entry.name in self.base.places and one.strength(entry) != 0:
                    self._plan_site(one, entry, self.base.places[entry.name])

    def _plan_site(self, one: OpenUse, entry: SiteEntry, place: Place) -> None:
        self.tasks.setdefault(place.key, []).append(_Task(one, entry, place))
        suffix = "b_norm" if entry.kind is Kind.NORM else "diff_b"
        if suffix not in entry.keys:
            return
        if place.bias in self.base.file:
            self.tasks.setdefault(place.bias, []).append(_Task(one, entry, place, suffix))
        else:
            self.tally.notes.append(f"{one.use.path.name}: the layer of {entry.name} has no bias to change")

    def write(
        self, metadata: Mapping[str, str], vae: Mapping[str, tuple[TensorFile, str]], progress: Progress
    ) -> Outcome:
        """Stream the checkpoint through."""
        request, file = self.request, self.base.file
        if not self.tasks and not vae:
            raise SettingsError("nothing would change", remedy="give strengths other than 0")
        sources = [request.base, *(use.path for use in request.uses)]
        specs = {key: TensorSpec(self._dtype(key, spec), spec.shape) for key, spec in file.specs.items()}
        size = sum(spec.nbytes for spec in specs.values())
        check_output(request.out, size, force=request.force, inputs=sources)
        if request.dry_run:
            for key in self.tasks:
                self._changed(key, specs[key].dtype)
            return self.tally.outcome(None, size)
        with TensorWriter(request.out, specs, metadata, force=request.force) as out:
            for number, key in enumerate(specs):
                progress(number, len(specs), key)
                self._one(out, key, specs[key], vae)
        progress(len(specs), len(specs), "done")
        return self.tally.outcome(request.out, out.size)

    def _dtype(self, key: str, spec: TensorSpec) -> torch.dtype:
        wanted = self.request.dtype
        return wanted if wanted and spec.dtype.is_floating_point and key.startswith(MODEL) else spec.dtype

    def _one(
        self, out: TensorWriter, key: str, spec: TensorSpec, vae: Mapping[str, tuple[TensorFile, str]]
    ) -> None:
        if key in self.tasks:
            return out.put(key, self._changed(key, spec.dtype))
        source, name = vae.get(key, (self.base.file, key))
        if source.specs[name] == spec:
            return out.copy(key, source, name)
        out.put(key, rounded(source.read(name), spec.dtype, key))

    def _changed(self, key: str, dtype: torch.dtype) -> Tensor:
        """A tensor of the checkpoint with all its changes, rounded once."""
        held = self.base.file.read(key)
        products = self._products(key, held)
        stored, moved, lost = self._summed(key, held, dtype) if products is None else _plain(held, products, dtype)
        if not math.isfinite(moved + lost):
            return self._refused(key, dtype)
        if self.sign < 0:  # what the merged file was rounded to cannot be known, only how much that is
            lost += energy_of(held) * ROUNDING.get(held.dtype, 0.0)
        block = block_of(self.tasks[key][0].entry.name, self.base.family)
        self.tally.add(block, moved, lost)
        return stored

    def _products(self, key: str, held: Tensor) -> list[Product] | None:
        """All changes of a tensor as products of factors that fit it; None where one is something else."""
        found = []
        for task in self.tasks[key]:
            factors = None if task.bias else task.opened.reader.factors(task.entry)
            first, end = task.place.rows or (0, held.shape[0])
            if factors is None or (factors[0].shape[0], factors[1].shape[1]) != (end - first, held[0].numel()):
                return None
            found.append(Product(first, factors[0] * (self.sign * task.opened.strength(task.entry)), factors[1]))
        return stacked(found)

    def _summed(self, key: str, held: Tensor, dtype: torch.dtype) -> tuple[Tensor, float, float]:
        """Changes of any kind, one after the other; the squared norms of what they moved, and of what rounding took.

        Raises:
            AdapterFileError: one has another shape.
        """
        before = held.float()
        after = before.clone()
        for task in self.tasks[key]:
            rows = after if task.place.rows is None else after[task.place.rows[0] : task.place.rows[1]]
            change = self._change(task, rows)
            if change.shape != rows.shape:
                raise AdapterFileError(
                    f"{task.entry.name} changes {list(change.shape)}, the layer has {list(rows.shape)}",
                    file=task.opened.use.path,
                    remedy="use it with the family that it was trained for",
                )
            rows.add_(change, alpha=self.sign * task.opened.strength(task.entry))
        moved = energy_of(after - before)
        stored = after.to(dtype)
        return stored, moved, 0.0 if stored is after else energy_of(after.sub_(stored))

    def _refused(self, key: str, dtype: torch.dtype) -> Tensor:
        """Name the tensor that is broken before the merge, or too large for the precision after it."""
        rounded(self.base.file.read(key, torch.float32), dtype, key)
        raise OutputError(f"{key} is too large for {str(dtype)[6:]}", remedy="save as bf16 or float")

    def _change(self, task: _Task, weight: Tensor) -> Tensor:
        if task.bias is not None:
            return task.opened.reader.tensors(task.entry)[task.bias].float()
        found = task.opened.reader.delta(task.entry, weight).weight
        assert found is not None
        return found
