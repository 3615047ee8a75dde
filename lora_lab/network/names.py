"""Names of layers: ldm's module paths, diffusers' module paths, and the names on disk. Pure strings, no torch.

A LoRA names its UNet sites by diffusers' paths in SD1 and SD2 and by ldm's (SGM's) in SDXL, dots turned to
underscores; its text encoder sites by the paths of transformers' CLIP:

    lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q     SD1, SD2
    lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q               SDXL
    lora_te_text_model_encoder_layers_0_self_attn_q_proj                     SDXL: lora_te1_, lora_te2_

open_clip's text encoders (SD2's and SDXL's second, in the webui) say `transformer.resblocks.0.attn`, whose query, key
and value are one matrix; a file always has transformers' names.

All three families have two residual blocks for each level, so that level i, place j is ldm's input 3i+j+1 and
output 3i+j.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from lora_lab.families import Family, Layout, Part

_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
"""Inside a residual block, ldm -> diffusers. Inside a transformer both say the same."""

_OUTSIDE = {
    "input_blocks.0.0": "conv_in",
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
"""Outside the blocks, ldm -> diffusers."""

_RESNET_TO_LDM = {new: old for old, new in _RESNET.items()}
_OUTSIDE_TO_LDM = {new: old for old, new in _OUTSIDE.items()}

_OPEN_CLIP = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    **{f"attn.{place}_proj": f"self_attn.{place}_proj" for place in ("q", "k", "v", "out")},
}
"""Inside a block of open_clip's text encoder -> inside a layer of transformers'."""

_WORDS = (
    "input_blocks middle_block output_blocks down_blocks mid_block up_blocks attentions resnets "
    "downsamplers upsamplers transformer_blocks proj_in proj_out attn1 attn2 to_q to_k to_v to_out ff net proj "
    "norm norm1 norm2 norm3 "
    "in_layers out_layers emb_layers skip_connection conv1 conv2 conv_shortcut time_emb_proj conv op "
    "time_embed label_emb time_embedding add_embedding linear_1 linear_2 conv_in conv_norm_out conv_out out "
    "text_model encoder layers self_attn q_proj k_proj v_proj out_proj mlp fc1 fc2 layer_norm1 layer_norm2"
)
_WORD = re.compile("(?:" + "|".join(sorted(_WORDS.split(), key=len, reverse=True)) + r"|\d+)(?=_|$)")

_PREFIXES: dict[Family, dict[Part, str]] = {
    Family.SD1: {"unet": "lora_unet_", "text_encoder": "lora_te_"},
    Family.SD2: {"unet": "lora_unet_", "text_encoder": "lora_te_"},
    Family.SDXL: {"unet": "lora_unet_", "text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"},
}


def to_diffusers(path: str) -> str | None:
    """A UNet path of ldm, with dots, as diffusers has it; None if ldm has no such layer."""
    if path in _OUTSIDE:
        return _OUTSIDE[path]
    if found := re.fullmatch(r"middle_block\.([012])\.(.+)", path):
        inner = found[2] if found[1] == "1" else _RESNET.get(found[2])
        where = "attentions.0" if found[1] == "1" else f"resnets.{int(found[1]) // 2}"
        return inner and f"mid_block.{where}.{inner}"
    if not (found := re.fullmatch(r"(input|output)_blocks\.(\d+)\.([012])\.(.+)", path)):
        return None
    number, sub, rest = int(found[2]), int(found[3]), found[4]
    if found[1] == "input":
        return _input_to_diffusers(number - 1, sub, rest)
    level, place = divmod(number, 3)
    if rest == "conv" and sub and place == 2:
        return f"up_blocks.{level}.upsamplers.0.conv"
    return _inner_to_diffusers(f"up_blocks.{level}", place, sub, rest)


def _input_to_diffusers(number: int, sub: int, rest: str) -> str | None:
    level, place = divmod(number, 3)
    if place == 2 or number < 0:
        return f"down_blocks.{level}.downsamplers.0.conv" if (sub, rest) == (0, "op") and number > 0 else None
    return _inner_to_diffusers(f"down_blocks.{level}", place, sub, rest)


def _inner_to_diffusers(block: str, place: int, sub: int, rest: str) -> str | None:
    if sub == 1:
        return f"{block}.attentions.{place}.{rest}"
    inner = _RESNET.get(rest)
    return f"{block}.resnets.{place}.{inner}" if inner and sub == 0 else None


def to_ldm(path: str, family: Family) -> str | None:
    """The inverse of :func:`to_diffusers`. The family decides where the first upsampler hangs."""
    if path in _OUTSIDE_TO_LDM:
        return _OUTSIDE_TO_LDM[path]
    if found := re.fullmatch(r"mid_block\.(attentions|resnets)\.([01])\.(.+)", path):
        if found[1] == "attentions":
            return f"middle_block.1.{found[3]}" if found[2] == "0" else None
        inner = _RESNET_TO_LDM.get(found[3])
        return inner and f"middle_block.{2 * int(found[2])}.{inner}"
    if found := re.fullmatch(r"(down|up)_blocks\.(\d)\.(down|up)samplers\.0\.conv", path):
        level = int(found[2])
        if found[1] != found[3]:
            return None
        if found[1] == "down":
            return f"input_blocks.{3 * level + 3}.0.op"
        bare = level == 0 and family is not Family.SDXL  # no attention before the upsampler
        return f"output_blocks.{3 * level + 2}.{1 if bare else 2}.conv"
    if not (found := re.fullmatch(r"(down|up)_blocks\.(\d)\.(attentions|resnets)\.([012])\.(.+)", path)):
        return None
    down, number = found[1] == "down", 3 * int(found[2]) + int(found[4])
    block = f"input_blocks.{number + 1}" if down else f"output_blocks.{number}"
    if down and found[4] == "2":
        return None
    inner = found[5] if found[3] == "attentions" else _RESNET_TO_LDM.get(found[5])
    return inner and f"{block}.{1 if found[3] == 'attentions' else 0}.{inner}"


def disk_layout(family: Family) -> Layout:
    """Whose names the UNet sites of a family carry on disk."""
    return "ldm" if family is Family.SDXL else "diffusers"


def disk_name(path: str, part: Part, family: Family, layout: Layout) -> str | None:
    """The name on disk of a module.

    Args:
        path: dotted, below the UNet or the text encoder: transformers' (with or without the leading `text_model`,
            which its version 5 dropped) or open_clip's.
        part: which network it belongs to.
        family: decides prefix and naming.
        layout: of the live UNet; a text encoder's own paths tell whose they are.

    Returns:
        e.g. ``lora_unet_mid_block_attentions_0_proj_in``; None if the family has no such layer.
    """
    prefix = _PREFIXES[family].get(part)
    wanted: str | None = path
    if part != "unet":
        path = _from_open_clip(path).removeprefix("transformer.").removeprefix("text_model.")
        wanted = f"text_model.{path}" if path.startswith("encoder.layers.") and "?" not in path else None
    elif layout != disk_layout(family):
        wanted = to_diffusers(path) if layout == "ldm" else to_ldm(path, family)
    elif (to_diffusers(path) if layout == "ldm" else to_ldm(path, family)) is None:
        wanted = None
    return prefix + wanted.replace(".", "_") if prefix and wanted else None


def _from_open_clip(path: str) -> str:
    """open_clip's path in transformers' words; any other path as it is."""
    found = re.fullmatch(r"(?:model\.)?transformer\.resblocks\.(\d+)\.(.+)", path)
    return f"encoder.layers.{found[1]}.{_OPEN_CLIP.get(found[2], '?')}" if found else path


def split(name: str) -> tuple[Part, str] | None:
    """The part and the dotted path that a name on disk says, in whosever words; None for a name that is not kohya's."""
    for prefix, part in _parts():
        if name.startswith(prefix):
            path = dotted(name.removeprefix(prefix))
            return (part, path) if path else None
    return None


def generation(found: Iterable[str]) -> str | None:
    """Whose names these are: `SDXL`, or `SD1 or SD2`, which share theirs; None if they say nothing."""
    heads = {"_".join(name.split("_", 3)[:3]) for name in found}
    if heads & {"lora_unet_input", "lora_unet_middle", "lora_unet_output", "lora_te1_text", "lora_te2_text"}:
        return "SDXL"
    return "SD1 or SD2" if heads & {"lora_unet_down", "lora_unet_mid", "lora_unet_up", "lora_te_text"} else None


def _parts() -> list[tuple[str, Part]]:
    return [(prefix, part) for table in _PREFIXES.values() for part, prefix in table.items()]


def module_path(name: str, family: Family, layout: Layout) -> tuple[Part, str] | None:
    """The inverse of :func:`disk_name`: part and dotted module path; None for a name that the family does not have.

    Text encoder paths come with the leading ``text_model.``.
    """
    found = split(name)
    if found is None or not name.startswith(_PREFIXES[family].get(found[0], " ")):
        return None
    part, path = found
    if part != "unet":
        return (part, path) if path.startswith("text_model.encoder.layers.") else None
    other = to_diffusers(path) if disk_layout(family) == "ldm" else to_ldm(path, family)
    if other is None:
        return None
    return (part, path) if layout == disk_layout(family) else (part, other)


def dotted(name: str) -> str | None:
    """A path whose dots were turned to underscores, with its dots back; None if a word of it is not known."""
    words, at = [], 0
    while at < len(name):
        found = _WORD.match(name, at)
        if not found:
            return None
        words.append(found[0])
        at = found.end() + 1
    return ".".join(words) if words else None
