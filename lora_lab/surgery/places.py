"""Where a site of an adapter lies in a checkpoint file, under which name it is saved, and in which block.

A checkpoint in the original layout holds `model.diffusion_model.<ldm path>` and text encoders of two makes; a LoRA
names its UNet sites by diffusers' paths in SD1 and SD2 and by ldm's in SDXL, dots turned to underscores
(docs/files.md). OpenCLIP keeps query, key and value in one tensor: a site is then a third of its rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lora_lab.errors import CheckpointError
from lora_lab.families import BASE, Family
from lora_lab.network import blocks, names
from lora_lab.network.header import TensorSpec

UNET = "model.diffusion_model."
CLIP = {
    Family.SD1: (("cond_stage_model.transformer.", "lora_te_"),),
    Family.SDXL: (("conditioner.embedders.0.transformer.", "lora_te1_"),),
}
"""Text encoders in transformers' naming: prefix in the checkpoint, prefix of the sites."""

OPENCLIP = {
    Family.SD2: ("cond_stage_model.model.transformer.resblocks.", "lora_te_", 23),
    Family.SDXL: ("conditioner.embedders.1.model.transformer.resblocks.", "lora_te2_", 32),
}
"""OpenCLIP's encoders, and how many of their layers the family uses: SD2 stops before the last one."""

OPENCLIP_LAYERS = {
    "attn.out_proj": "self_attn_out_proj",
    "mlp.c_fc": "mlp_fc1",
    "mlp.c_proj": "mlp_fc2",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
}

RESNET_LAYERS = (
    *("in_layers_0", "in_layers_2", "emb_layers_1", "out_layers_0", "out_layers_3", "skip_connection"),
    *("norm1", "conv1", "time_emb_proj", "norm2", "conv2", "conv_shortcut"),
)
"""Inside a residual block, in ldm's words and in diffusers'."""

_KERNEL_3 = re.compile(r"(_conv[12]?|_op|in_layers_2|out_layers_3|_conv_in|_conv_out|input_blocks_0_0|_out_2)$")


@dataclass(frozen=True)
class Place:
    """A site's weight in a checkpoint: the key, and which rows of it (None: all)."""

    key: str
    rows: tuple[int, int] | None
    shape: tuple[int, ...]

    @property
    def bias(self) -> str:
        """The key of the layer's bias, whether it has one or not."""
        return self.key.removesuffix("weight") + "bias"


def canonical(site: str, family: Family) -> str:
    """The name under which kohya's trainers save a site, given any name that files have for it."""
    site = site.replace("oft_unet_", "lora_unet_", 1)
    path = names.dotted(site.removeprefix("lora_unet_")) if site.startswith("lora_unet_") else None
    if path is None:
        return site
    other = names.to_ldm(path, family) if names.disk_layout(family) == "ldm" else names.to_diffusers(path)
    return "lora_unet_" + (other or path).replace(".", "_")


def block_of(site: str, family: Family) -> str:
    """IN00..IN11, M00, OUT00..OUT11, BASE for the text encoders, or OTHER outside the blocks."""
    if not site.startswith("lora_unet_"):
        return BASE
    path = names.dotted(site.removeprefix("lora_unet_")) or ""
    return blocks.block_of(names.to_ldm(path, family) or path)


def is_lierla(site: str) -> bool:
    """Whether a plain LoRA has the site: linear layers and 1x1 convolutions of transformers and text encoders."""
    if site.startswith("lora_unet_"):
        return "_transformer_blocks_" in site or site.endswith(("_proj_in", "_proj_out"))
    return "_self_attn_" in site or "_mlp_" in site


def is_resnet_or_sampler(site: str) -> bool:
    """Whether a LoRA with convolutions (C3Lier, LoCon) has the site besides."""
    inner = tuple("_" + name for name in RESNET_LAYERS)
    sampler = re.search(r"(_op|samplers_0_conv|blocks_\d+_[12]_conv)$", site) is not None
    return site.startswith("lora_unet_") and (site.endswith(inner) or sampler)


def layer_shape(site: str, out: int, rest: int, family: Family) -> tuple[int, ...]:
    """The shape of a layer's weight, from its name and the numbers of its outputs and of all else.

    Kinds such as LoHa save a convolution flat; SD1's and kohya's SD2 `proj_in`, `proj_out` are 1x1 convolutions.
    """
    if site.startswith("lora_unet_") and _KERNEL_3.search(site) and rest % 9 == 0:
        return out, rest // 9, 3, 3
    flat_conv = site.endswith(("_conv_shortcut", "_skip_connection")) or (
        family is not Family.SDXL and site.endswith(("_proj_in", "_proj_out"))
    )
    return (out, rest, 1, 1) if site.startswith("lora_unet_") and flat_conv else (out, rest)


def places(specs: Mapping[str, TensorSpec], family: Family) -> dict[str, Place]:
    """Every layer and norm of a checkpoint's UNet and text encoders: the site's name and where its weight is."""
    found: dict[str, Place] = {}
    for key, spec in specs.items():
        if key.endswith((".weight", ".in_proj_weight")):
            for site, rows in _sites(key, spec.shape, family):
                shape = spec.shape if rows is None else (rows[1] - rows[0], *spec.shape[1:])
                found[site] = Place(key, rows, shape)
    return found


def _sites(key: str, shape: tuple[int, ...], family: Family) -> Iterable[tuple[str, tuple[int, int] | None]]:
    path = key.removesuffix(".weight").replace(".", "_")
    if key.startswith(UNET):
        site = "lora_unet_" + path.removeprefix(UNET.replace(".", "_"))
        return [(canonical(site, family), None)]
    for prefix, short in CLIP.get(family, ()):
        if key.startswith(prefix):
            rest = key.removeprefix(prefix).removesuffix(".weight")
            rest = rest if rest.startswith("text_model.") else "text_model." + rest
            return [(short + rest.replace(".", "_"), None)]
    if family in OPENCLIP and key.startswith(OPENCLIP[family][0]):
        return _openclip(key, shape, *OPENCLIP[family])
    return []


def _openclip(
    key: str, shape: tuple[int, ...], prefix: str, short: str, layers: int
) -> Iterable[tuple[str, tuple[int, int] | None]]:
    number, _, rest = key.removeprefix(prefix).partition(".")
    if not number.isdigit() or int(number) >= layers:
        return []
    site = f"{short}text_model_encoder_layers_{number}_"
    if rest == "attn.in_proj_weight":
        third = shape[0] // 3
        return [(f"{site}self_attn_{q}_proj", (i * third, (i + 1) * third)) for i, q in enumerate("qkv")]
    inner = OPENCLIP_LAYERS.get(rest.removesuffix(".weight"))
    return [(site + inner, None)] if inner else []


def checkpoint_family(specs: Mapping[str, TensorSpec], path: str) -> Family:
    """The family of a checkpoint in the original layout, told by its text encoders.

    Raises:
        CheckpointError: no Stable Diffusion checkpoint in that layout.
    """
    if any(key.startswith("conditioner.embedders.1.model.transformer.resblocks.") for key in specs):
        return Family.SDXL
    if any(key.startswith("cond_stage_model.model.transformer.resblocks.") for key in specs):
        return Family.SD2
    if any(key.startswith("cond_stage_model.transformer.") for key in specs):
        return Family.SD1
    some = ", ".join(sorted(specs)[:2]) or "nothing"
    raise CheckpointError(
        f"no Stable Diffusion 1, 2 or XL checkpoint in the original layout (it holds {some})",
        file=path,
        remedy="give a whole checkpoint: UNet and text encoders in one .safetensors file",
    )
