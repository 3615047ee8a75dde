"""A checkpoint file's text encoders, built as transformers' CLIP from its keys and shapes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lora_lab.errors import CheckpointError
from lora_lab.families import Family
from lora_lab.host.headers import SD2_TEXT

FIRST = {
    Family.SD1: "cond_stage_model.transformer.",
    Family.SD2: SD2_TEXT,
    Family.SDXL: "conditioner.embedders.0.transformer.",
}
"""What the keys of the (first) text encoder begin with."""
SECOND = "conditioner.embedders.1.model."
TABLE = "text_model.embeddings.token_embedding.weight"
HEAD = 64
"""Channels of a head in open_clip's full-size encoders (1024 and 1280 wide)."""
IN_BLOCK = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "attn.out_proj": "self_attn.out_proj",
            "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}  # fmt: skip


def vocabulary(weights: Mapping[str, Tensor], family: Family) -> int:
    """How many tokens the (first) text encoder knows."""
    table = "token_embedding.weight" if family is Family.SD2 else TABLE
    return int(weights[FIRST[family] + table].shape[0])


def text_encoders(
    weights: Mapping[str, Tensor], family: Family, folder: Path, arch: Path | None
) -> tuple[nn.Module, ...]:
    """Build them: one, or SDXL's two.

    Args:
        weights: of the file.
        family: whose layout it is.
        folder: with the config of transformers' CLIP (SD1's, SDXL's first).
        arch: open_clip's description of SD2's or SDXL's second, a JSON file; None takes the full size's heads.

    Raises:
        CheckpointError, KeyError, RuntimeError, ValueError: something lacks or does not fit.
    """
    if family is Family.SD2:
        return (_open_clip(_below(weights, FIRST[family]), folder, arch, projects=False),)
    first = _clip(_below(weights, FIRST[family]), folder)
    return (first,) if family is Family.SD1 else (first, _open_clip(_below(weights, SECOND), folder, arch, True))


def _below(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in weights.items() if key.startswith(prefix)}


def _clip(weights: Mapping[str, Tensor], folder: Path) -> nn.Module:
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig.from_pretrained(folder)
    width = weights[TABLE].shape
    if tuple(width) != (config.vocab_size, config.hidden_size):
        raise ValueError(f"its text encoder is {tuple(width)}, the config beside its tokenizer says "
                         f"{(config.vocab_size, config.hidden_size)}")  # fmt: skip
    return _filled(CLIPTextModel(config), weights, folder)


def _open_clip(weights: Mapping[str, Tensor], folder: Path, arch: Path | None, projects: bool) -> nn.Module:
    """open_clip's text side as transformers has it.

    What does not project is SD2's, without the last layer, which it never runs.
    """
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    blocks = len({found[1] for key in weights if (found := re.match(r"transformer\.resblocks\.(\d+)\.", key))})
    words, width = weights["token_embedding.weight"].shape
    inner = weights["transformer.resblocks.0.mlp.c_fc.bias"].shape[0]
    config = CLIPTextConfig(
        vocab_size=words, hidden_size=width, intermediate_size=inner,
        num_hidden_layers=blocks if projects else blocks - 1, num_attention_heads=_heads(width, arch),
        max_position_embeddings=weights["positional_embedding"].shape[0], hidden_act="gelu",
        projection_dim=weights["text_projection"].shape[1] if projects else width,
        bos_token_id=words - 2, eos_token_id=words - 1, pad_token_id=0,
    )  # fmt: skip
    module: nn.Module = CLIPTextModelWithProjection(config) if projects else CLIPTextModel(config)
    return _filled(module, _translated(weights), folder)


def _heads(width: int, arch: Path | None) -> int:
    """Shapes do not show them."""
    if arch is not None and arch.is_file():
        try:
            return int(json.loads(arch.read_text(encoding="utf-8"))["text_cfg"]["heads"])
        except (ValueError, KeyError, TypeError) as error:
            what = "the description of its text encoder cannot be read"
            raise CheckpointError(what, file=arch, remedy="repair or move it") from error
    if width not in (1024, 1280):
        raise ValueError(f"its text encoder is {width} wide, and no {arch.name if arch else 'yaml'} tells its heads")
    return width // HEAD


def _translated(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """open_clip's names and shapes in transformers'."""
    found = {
        TABLE: weights["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": weights["positional_embedding"],
        "text_model.final_layer_norm.weight": weights["ln_final.weight"],
        "text_model.final_layer_norm.bias": weights["ln_final.bias"],
    }
    if "text_projection" in weights:
        found["text_projection.weight"] = weights["text_projection"].t()
    for key, tensor in weights.items():
        if not (place := re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+?)[._](weight|bias)", key)):
            continue
        layer = f"text_model.encoder.layers.{place[1]}"
        if place[2] == "attn.in_proj":
            for name, rows in zip("qkv", tensor.chunk(3), strict=True):
                found[f"{layer}.self_attn.{name}_proj.{place[3]}"] = rows
        else:
            found[f"{layer}.{IN_BLOCK[place[2]]}.{place[3]}"] = tensor
    return found


def _filled(module: nn.Module, weights: Mapping[str, Tensor], folder: Path) -> nn.Module:
    """Raises CheckpointError if a weight lacks."""
    names = set(module.state_dict())
    state = {}
    for key, tensor in weights.items():
        # transformers 5 has no `text_model` in its paths, checkpoints always have
        for name in (key, key.removeprefix("text_model.")):
            if name in names:
                state[name] = tensor.float().contiguous()
    missing, _ = module.load_state_dict(state, strict=False)
    lost = [name for name in missing if not name.endswith("position_ids")]
    if lost:
        raise CheckpointError(f"the text encoder lacks {lost[0]}", file=folder, remedy="use a complete checkpoint")
    return module


def dig(config: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """A mapping within mappings; empty where there is none."""
    found: Any = config
    for name in names:
        found = found.get(name, {}) if isinstance(found, Mapping) else {}
    return found if isinstance(found, Mapping) else {}
