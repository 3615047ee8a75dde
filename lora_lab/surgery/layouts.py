"""The names that the tensors of adapters go by in files of different makers, and kohya's names for them.

    kohya, LyCORIS   lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight
    peft, diffusers  unet.down_blocks.0.attentions.0.proj_in.lora_A.weight        (also base_model.model.*)
    diffusers, old   unet.down_blocks.0.attentions.0.proj_in.lora.down.weight
                     unet....attn1.processor.to_q_lora.down.weight
                     text_encoder.text_model....q_proj.lora_linear_layer.down.weight
    SDXL             the UNet by ldm's names or by diffusers', in any of these
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from lora_lab.families import Family
from lora_lab.network import names

KOHYA = re.compile(r"((?:lora_unet|lora_te[12]?|oft_unet)_[^.]+)\.(.+)")
SUFFIXES = {
    "lora_A": "lora_down.weight",
    "lora_B": "lora_up.weight",
    "lora.down": "lora_down.weight",
    "lora.up": "lora_up.weight",
    "lora_linear_layer.down": "lora_down.weight",
    "lora_linear_layer.up": "lora_up.weight",
    "lora_down": "lora_down.weight",
    "lora_up": "lora_up.weight",
    "lora_mid": "lora_mid.weight",
    "lora_magnitude_vector": "dora_scale",
    "dora_scale": "dora_scale",
    "alpha": "alpha",
}
_ENDS = "|".join(re.escape(end) for end in sorted(SUFFIXES, key=len, reverse=True))
DOTTED = re.compile(rf"(.+?)\.({_ENDS})(?:\.default)?(?:\.weight)?")
PROCESSOR = re.compile(r"(.+)\.processor\.(to_(?:q|k|v|out))_lora\.(down|up)\.weight")
BARE_UNET = ("down_blocks.", "up_blocks.", "mid_block.", "input_blocks.", "output_blocks.", "middle_block.", "conv_in.")
PARTS = {"unet": "lora_unet_", "text_encoder": "lora_te_", "text_encoder_2": "lora_te2_"}


def split_key(key: str) -> tuple[str, str] | None:
    """A key as kohya's site name and suffix; None for one that belongs to no site.

    SDXL's first text encoder comes out as `lora_te_` here, and its UNet by whichever names the file has.
    """
    key = key.removeprefix("base_model.model.")
    if found := KOHYA.fullmatch(key):
        return found[1], SUFFIXES.get(found[2].removesuffix(".weight").removesuffix(".default"), found[2])
    if found := PROCESSOR.fullmatch(key):
        path, suffix = f"{found[1]}.{found[2]}{'.0' if found[2] == 'to_out' else ''}", f"lora_{found[3]}.weight"
    elif found := DOTTED.fullmatch(key):
        path, suffix = found[1], SUFFIXES[found[2]]
    else:
        return None
    if path.startswith(BARE_UNET):
        path = "unet." + path
    part, _, inner = path.partition(".")
    if part not in PARTS or not inner:
        return None
    return PARTS[part] + inner.replace(".", "_"), suffix


def family_of(
    sites: Collection[str],
    shapes: Mapping[str, Mapping[str, tuple[int, ...]]],
    metadata: Mapping[str, str],
    hint: Family | None = None,
) -> Family:
    """The family that an adapter was made for: by its sites' names, then its widths, then what its metadata says.

    Args:
        hint: decides between SD1 and SD2, which share their names, where nothing else does.
    """
    if any(site.startswith(("lora_te1_", "lora_te2_")) for site in sites):
        return Family.SDXL
    unet = [site.removeprefix("lora_unet_") for site in sites if site.startswith(("lora_unet_", "oft_unet_"))]
    deep = any("_transformer_blocks_1_" in site for site in unet)
    shallow = any(re.match(r"down_blocks_0_attentions|up_blocks_3_|input_blocks_1_1_", site) for site in unet)
    if deep or (not shallow and any(re.match(r"(input|output|middle)_block", site) for site in unet)):
        return Family.SDXL
    layers = [int(found[1]) for site in sites if (found := re.match(r"lora_te_\D*_layers_(\d+)_", site))]
    widths = set(_context_widths(shapes))
    version = metadata.get("ss_base_model_version", "")
    says_v2 = metadata.get("ss_v2") == "True" or version.startswith("sd_v2")
    if 768 in widths:
        return Family.SD1
    if 1024 in widths or max(layers, default=0) > 11 or says_v2:
        return Family.SD2
    return Family.SD2 if hint is Family.SD2 else Family.SD1


def _context_widths(shapes: Mapping[str, Mapping[str, tuple[int, ...]]]) -> Iterable[int]:
    """The widths of the text conditioning that cross attention takes in."""
    for site, tensors in shapes.items():
        down = tensors.get("lora_down.weight")
        if down is not None and len(down) == 2 and site.endswith(("attn2_to_k", "attn2_to_v")):
            yield down[1]


def diffusers_key(site: str, suffix: str, family: Family) -> str | None:
    """A site's tensor under diffusers' and peft's name, such as `unet.down_blocks.0....to_q.lora_A.weight`; None for
    a site that diffusers has no layer for."""
    new = {"lora_down.weight": "lora_A.weight", "lora_up.weight": "lora_B.weight"}
    new["dora_scale"] = "lora_magnitude_vector"
    found = names.module_path(site, family, "diffusers")
    return found and f"{found[0]}.{found[1]}.{new.get(suffix, suffix)}"
