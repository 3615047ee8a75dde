"""Pictures of cells on a lent model: one batch at a time, each picture with its own block weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lora_lab.families import BASE
from lora_lab.host.base import PreviewRequest
from lora_lab.network import elements, files
from lora_lab.network.adapter import Adapter
from lora_lab.network.lora_file import by_site
from lora_lab.network.merging import merged
from lora_lab.network.reach import WIDEST
from lora_lab.network.sites import find_sites
from lora_lab.testing.cells import Cell, Look
from lora_lab.testing.watch import Watch

if TYPE_CHECKING:
    from lora_lab.families import Family
    from lora_lab.host.base import LoadedModel, PreviewResult
    from lora_lab.network.sites import Site


class Adapters:
    """The adapter of the LoRA file that a grid is at: read once, and kept until another file is asked for."""

    def __init__(self) -> None:
        self._held: tuple[Path, Adapter] | None = None

    def holds(self, path: Path) -> bool:
        """Is this file's adapter the one that is held?"""
        return self._held is not None and self._held[0] == path

    def on(self, model: LoadedModel, path: Path) -> Adapter:
        """The adapter of a file, on this model's modules.

        Raises:
            AdapterFileError: it cannot be read, or does not fit the model.
        """
        where = (model.unet, model.text_encoders, model.info.family, model.layout)
        adapter = self._held[1] if self._held and self._held[0] == path else None
        if adapter is None:
            sites = find_sites(*where, reach=WIDEST)
            tensors = as_the_webui_reads(sites, files.read(path).tensors)
            adapter = Adapter.from_tensors(sites, tensors, file=path)
            self._held = (path, adapter)
        elif not adapter.fits(model.unet, *model.text_encoders):
            adapter.rebind(find_sites(*where, reach=WIDEST))
        return adapter.to(model.device)


def as_the_webui_reads(sites: Sequence[Site], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A file without what the webui passes over: an attention of open_clip of which it does not have all four layers.

    Only where the live model has such attentions, so that the cells are what a prompt will draw there.
    """
    opened: dict[int, set[str]] = {}
    for site in sites:
        if site.attention is not None:
            opened.setdefault(id(site.attention), set()).add(site.name)
    held = by_site(tensors)
    passed = {name for group in opened.values() if not group <= held.keys() for name in group}
    return {key: tensor for key, tensor in tensors.items() if key.partition(".")[0] not in passed}


@dataclass(frozen=True)
class Acting:
    """The strengths of a batch, as `Adapter.scaled` takes them."""

    text_encoder: float
    per_sample: Tensor
    """(n, blocks of the adapter), the UNet's strengths within."""
    sites: dict[str, float | Tensor]
    """Of the layers that rules name."""

    @property
    def alike(self) -> bool:
        """Do all pictures have the same strengths?"""
        same = bool((self.per_sample == self.per_sample[:1]).all())
        return same and not any(isinstance(strength, Tensor) for strength in self.sites.values())


def acting(adapter: Adapter, cells: Sequence[Cell], family: Family) -> Acting:
    """The strengths of some cells, which share what their text encoders get (see `batches.together`)."""
    text = cells[0].weights.base
    rows = [[_of_block(cell, block) for block in adapter.blocks] for cell in cells]
    ruled = [(elements.rules(cell.weights.elements, family), cell) for cell in cells]
    sites: dict[str, float | Tensor] = {}
    if any(rules for rules, _ in ruled):
        for site in adapter.sites:
            found = [elements.weight_of(rules, site.name, family) for rules, _ in ruled]
            if any(number is not None for number in found):
                sites[site.name] = _at_site(site.block, found, cells)
    if any(site.startswith("lora_te") for site in sites):  # a rule for BASE: what it leaves alone is told here too
        text = cells[0].weights.text_encoder
        for site in adapter.sites:
            if site.block == BASE:
                sites.setdefault(site.name, cells[0].blocks.get(BASE, 1.0))
    return Acting(text, torch.tensor(rows), sites)


def _of_block(cell: Cell, block: str) -> float:
    """BASE is 1 here: the text encoders' strength is one number for all."""
    return 1.0 if block == BASE else cell.weights.unet * cell.blocks.get(block, 1.0)


def _at_site(block: str, found: Sequence[float | None], cells: Sequence[Cell]) -> float | Tensor:
    """The strength of one layer in each cell, its part's strength within but for the text encoders'."""
    if block == BASE:
        own = found[0]
        return cells[0].blocks.get(BASE, 1.0) if own is None else own
    numbers = [
        _of_block(cell, block) if own is None else cell.weights.unet * own
        for own, cell in zip(found, cells, strict=True)
    ]
    return numbers[0] if len(set(numbers)) == 1 else torch.tensor(numbers)


def make(model: LoadedModel, adapters: Adapters, cells: Sequence[Cell], look: Look, watch: Watch) -> PreviewResult:
    """The pictures of some cells of one LoRA, one prompt and one strength of the text encoders, in one batch.

    Raises:
        AdapterFileError: see `Adapters.on`.
        Interrupted: it was stopped.
    """
    request = PreviewRequest(
        prompts=tuple(cell.prompt for cell in cells), seeds=tuple(cell.seed for cell in cells), negative=look.negative,
        width=look.width, height=look.height, steps=look.steps, cfg_scale=look.cfg_scale, sampler=look.sampler,
        clip_skip=look.clip_skip,
    )  # fmt: skip
    with ExitStack() as stack:
        stack.enter_context(watch.over(model.unet))
        if not all(cell.weights.off for cell in cells):
            adapter = adapters.on(model, cells[0].lora)
            how = acting(adapter, cells, model.info.family)
            stack.enter_context(
                adapter.scaled(text_encoder=how.text_encoder, per_sample=how.per_sample, sites=how.sites)
            )
            stack.enter_context(adapter.attached())
            if how.alike:
                stack.enter_context(merged(adapter))
        return model.generate(request)
