"""Which layers of a live model take a piece of an adapter: by a reach, such as kohya's LierLa or C3Lier.

A layer counts by where it hangs and what it is, never by its class alone: the webui patches classes, and others
derive from them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from lora_lab.errors import CheckpointError
from lora_lab.families import Family, Layout, Part
from lora_lab.network import blocks, names
from lora_lab.network.attention import OpenedAttention, layers
from lora_lab.network.reach import LIERLA, Reach

SiteKind = Literal["linear", "conv1x1", "conv", "norm"]
"""`conv` is a convolution with a larger kernel (3x3), `norm` a layer or group norm."""

TEXT_PARTS: tuple[Part, ...] = ("text_encoder", "text_encoder_2")
PARTS: tuple[Part, ...] = ("unet", *TEXT_PARTS)


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
    """Channels in; a norm has as many in as out."""
    out_features: int
    kernel: tuple[int, int] = (1, 1)
    """Height and width of a convolution's kernel."""
    attention: OpenedAttention | None = None
    """open_clip's attention that must be open for `module`, one of its views, to be called."""

    @property
    def anchor(self) -> nn.Module:
        """A module of the live model itself: `module`, or what it is a view of."""
        return self.module if self.attention is None else self.attention.attention

    @property
    def words_first(self) -> bool:
        """Are the layer's rows ordered as (t, b, c), as open_clip does, and not as (b, t, c)?"""
        return ".resblocks." in f".{self.path}"

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
    reach: Reach = LIERLA,
) -> tuple[Site, ...]:
    """All sites, in an order that does not depend on the layout: UNet by block, then text encoders by layer.

    Args:
        unet: ldm's `UNetModel` or diffusers' `UNet2DConditionModel`.
        text_encoders: transformers' `CLIPTextModel` or open_clip's `CLIP`: one for SD1 and SD2, two for SDXL.
        family: decides the names.
        layout: of the UNet's module paths.
        parts: which networks are wanted; None takes all that are given. One that the reach leaves out has no sites.
        reach: which layers of them.

    Returns:
        SD1: 192 sites of the UNet (160 linear, 32 convolutions) and 72 of the text encoder; with C3Lier 278 and 72.
        SD2: 192 and 138; SDXL: 722, 72 and 192.

    Raises:
        CheckpointError: a wanted part has no layer that could take a piece.
    """
    roots: dict[Part, nn.Module] = {"unet": unet, **dict(zip(TEXT_PARTS, text_encoders, strict=False))}
    found: list[Site] = []
    for part in PARTS:
        if part not in roots or (parts is not None and part not in parts):
            continue
        some = list(_sites_of(roots[part], part, family, layout, reach))
        if not some and reach.takes_part(part):
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


def _sites_of(root: nn.Module, part: Part, family: Family, layout: Layout, reach: Reach) -> Iterator[Site]:
    unused = _unused(root, part, family)
    for path, module, attention in layers(root):
        sizes = _sizes(module)
        if sizes is None or path.startswith(unused):
            continue
        name = names.disk_name(path, part, family, layout)
        if name and reach.takes(name, part, family, sizes[0]):
            block = blocks.block_of_name(name, family)
            yield Site(name, part, block, path, module, *sizes, attention=attention)


def _unused(root: nn.Module, part: Part, family: Family) -> tuple[str, ...]:
    """SD2 takes its text states before the last block, so that block of open_clip's is never run."""
    blocks_of = getattr(getattr(root, "transformer", None), "resblocks", None)
    if part == "unet" or family is not Family.SD2 or blocks_of is None:
        return ()
    return (f"transformer.resblocks.{len(blocks_of) - 1}.",)


def _sizes(module: nn.Module) -> tuple[SiteKind, int, int, tuple[int, int]] | None:
    if isinstance(module, nn.Linear):
        return "linear", module.in_features, module.out_features, (1, 1)
    if isinstance(module, nn.Conv2d) and module.groups == 1:
        kernel = (module.kernel_size[0], module.kernel_size[1])
        return "conv1x1" if kernel == (1, 1) else "conv", module.in_channels, module.out_channels, kernel
    if isinstance(module, nn.GroupNorm) and module.affine:
        return "norm", module.num_channels, module.num_channels, (1, 1)
    if isinstance(module, nn.LayerNorm) and module.elementwise_affine:
        width = module.normalized_shape[0]
        return "norm", width, width, (1, 1)
    return None
