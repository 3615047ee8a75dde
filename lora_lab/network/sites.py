"""Which layers of a live model take a piece of an adapter: kohya's LierLa sites.

Linear layers and 1x1 convolutions of the UNet's transformers, linear layers of the text encoders' attention and MLP.
A layer counts by where it hangs and what it is, never by its class alone: the webui patches classes, and others
derive from them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from lora_lab.errors import CheckpointError
from lora_lab.families import BASE, Family, Layout, Part
from lora_lab.network import blocks, names

SiteKind = Literal["linear", "conv1x1"]

TEXT_PARTS: tuple[Part, ...] = ("text_encoder", "text_encoder_2")
PARTS: tuple[Part, ...] = ("unet", *TEXT_PARTS)

_IN_TRANSFORMER = re.compile(
    r"(proj_in|proj_out|transformer_blocks\.\d+\.(attn[12]\.to_(q|k|v|out\.0)|ff\.net\.(0\.proj|2)))"
)
_IN_TEXT_ENCODER = re.compile(r"text_model\.encoder\.layers\.\d+\.(self_attn\.(q|k|v|out)_proj|mlp\.fc[12])")


@dataclass(frozen=True)
class Site:
    """A layer of the live model that takes a piece of an adapter."""

    name: str
    """On disk, e.g. ``lora_unet_down_blocks_0_attentions_0_proj_in``."""
    part: Part
    block: str
    """IN00..IN11, M00, OUT00..OUT11 or BASE."""
    path: str
    """Dotted, below the part's root module, as the live model has it."""
    module: nn.Module
    """The live layer itself: hook it, never change it."""
    kind: SiteKind
    in_features: int
    out_features: int

    @property
    def device(self) -> torch.device:
        """Where the layer's weight is now."""
        weight = self.module.weight
        assert isinstance(weight, torch.Tensor)
        return weight.device


def find_sites(
    unet: nn.Module,
    text_encoders: Sequence[nn.Module],
    family: Family,
    layout: Layout,
    parts: frozenset[Part] | None = None,
) -> tuple[Site, ...]:
    """All sites, in an order that does not depend on the layout: UNet by block, then text encoders by layer.

    Args:
        unet: ldm's `UNetModel` or diffusers' `UNet2DConditionModel`.
        text_encoders: transformers' `CLIPTextModel`: one for SD1, two for SDXL.
        family: decides the names.
        layout: of the UNet's module paths.
        parts: which networks are wanted; None takes all that are given.

    Returns:
        SD1: 192 sites of the UNet (160 linear, 32 convolutions) and 72 of the text encoder.

    Raises:
        CheckpointError: a wanted part has no layer that could take a piece.
    """
    roots: dict[Part, nn.Module] = {"unet": unet, **dict(zip(TEXT_PARTS, text_encoders, strict=False))}
    found: list[Site] = []
    for part in PARTS:
        if part not in roots or (parts is not None and part not in parts):
            continue
        some = list(_sites_of(roots[part], part, family, layout))
        if not some:
            where = f"{part.replace('_', ' ')} ({type(roots[part]).__name__})"
            raise CheckpointError(
                f"no layer of the {where} takes a LoRA by {family.value}'s names in {layout} layout",
                remedy="load a checkpoint of a family that is supported",
            )
        found += sorted(some, key=_order)
    return tuple(found)


def _order(site: Site) -> tuple[tuple[int, str], list[tuple[int, str]]]:
    """By block, then by name with numbers as numbers, so that layer 10 comes after layer 9."""
    words = [(int(word), "") if word.isdigit() else (-1, word) for word in site.name.split("_")]
    return blocks.order(site.block), words


def _sites_of(root: nn.Module, part: Part, family: Family, layout: Layout) -> Iterator[Site]:
    for path, module in root.named_modules():
        sizes = _sizes(module)
        if sizes is None:
            continue
        name = names.disk_name(path, part, family, layout)
        block = name and _block(name, part, family)
        if name and block:
            yield Site(name, part, block, path, module, *sizes)


def _sizes(module: nn.Module) -> tuple[SiteKind, int, int] | None:
    if isinstance(module, nn.Linear):
        return "linear", module.in_features, module.out_features
    if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1:
        return "conv1x1", module.in_channels, module.out_channels
    return None


def _block(name: str, part: Part, family: Family) -> str | None:
    """The block of a site; None for a layer that a plain LoRA leaves alone."""
    found = names.module_path(name, family, "ldm")
    if found is None:
        return None
    path = found[1]
    if part != "unet":
        return BASE if _IN_TEXT_ENCODER.fullmatch(path) else None
    hangs = re.fullmatch(r"(input_blocks\.\d+|middle_block|output_blocks\.\d+)\.1\.(.+)", path)
    return blocks.block_of(path) if hangs and _IN_TRANSFORMER.fullmatch(hangs[2]) else None
