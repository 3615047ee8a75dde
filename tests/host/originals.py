"""Narrow SD2 and SDXL checkpoints in the original layout, out of random modules of diffusers and the demo's VAE.

The names and shapes of open_clip's text side are written down here apart from the loader's own, as the judge's.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lora_lab.demo import assets
from lora_lab.families import Family
from lora_lab.network import names

WIDTH = 48
"""Of open_clip's encoder; 4 heads, which no shape shows."""


def write(folder: Path, family: Family, *, yaml_says: str = "", **metadata: str) -> tuple[Path, dict[str, Any]]:
    """A checkpoint, and the modules of diffusers and transformers that it was made of.

    Args:
        folder: gets NAME.safetensors, NAME.yaml, and the encoder's description.
        family: SD2 or SDXL.
        yaml_says: more lines of the yaml's parameters.
        metadata: of the file.
    """
    import diffusers

    torch.manual_seed(0)
    demo = load_file(str(assets.checkpoint_path()))
    weights = {key: tensor for key, tensor in demo.items() if key.startswith("first_stage_model.")}
    parts: dict[str, Any] = {"text": tower(family, demo)}
    unet = parts["unet"] = diffusers.UNet2DConditionModel(**UNETS[family], cross_attention_dim=context(family, demo))
    for name, tensor in unet.state_dict().items():
        path, _, leaf = name.rpartition(".")
        weights[f"model.diffusion_model.{names.to_ldm(path, family)}.{leaf}"] = tensor
    if family is Family.SDXL:
        first = "cond_stage_model.transformer."
        found = {k.replace(first, "conditioner.embedders.0.transformer."): v for k, v in demo.items() if first in k}
        weights |= found
    prefix = "cond_stage_model.model." if family is Family.SD2 else "conditioner.embedders.1.model."
    weights |= {prefix + key: tensor for key, tensor in as_open_clip(parts["text"], family).items()}
    path = folder / f"{family.value}.safetensors"
    save_file({k: v.contiguous().clone() for k, v in weights.items()}, str(path), metadata or None)
    path.with_suffix(".yaml").write_text(YAMLS[family].replace("SAYS", yaml_says))
    (folder / "small.json").write_text(json.dumps({"text_cfg": {"heads": 4}}))
    return path, parts


def context(family: Family, demo: dict[str, Tensor]) -> int:
    """Width of the text states."""
    first = demo["cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"].shape[1]
    return WIDTH if family is Family.SD2 else WIDTH + first


def tower(family: Family, demo: dict[str, Tensor]) -> Any:
    """transformers' encoder: SD2's without its last layer, SDXL's second."""
    import transformers

    words = demo["cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"].shape[0]
    config = transformers.CLIPTextConfig(
        vocab_size=words, hidden_size=WIDTH, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
        hidden_act="gelu", projection_dim=40, bos_token_id=words - 2, eos_token_id=words - 1, pad_token_id=0,
    )
    kind = transformers.CLIPTextModel if family is Family.SD2 else transformers.CLIPTextModelWithProjection
    module = kind(config).eval()
    for parameter in module.parameters():
        parameter.data.normal_(std=0.1)
    return module


def as_open_clip(module: Any, family: Family) -> dict[str, Tensor]:
    """Its weights as open_clip keeps them; SD2's with one more layer, whose numbers must not matter."""
    state = {key.removeprefix("text_model."): tensor for key, tensor in module.state_dict().items()}
    found = {
        "token_embedding.weight": state["embeddings.token_embedding.weight"],
        "positional_embedding": state["embeddings.position_embedding.weight"],
        "ln_final.weight": state["final_layer_norm.weight"],
        "ln_final.bias": state["final_layer_norm.bias"],
        "logit_scale": torch.ones(()),
        "text_projection": torch.full((WIDTH, 40), 1e9),
    }
    if "text_projection.weight" in state:
        found["text_projection"] = state["text_projection.weight"].t()
    for layer in range(3):
        old, new = f"encoder.layers.{layer}.", f"transformer.resblocks.{layer}."
        for leaf in ("weight", "bias"):
            three = [state[f"{old}self_attn.{name}_proj.{leaf}"] for name in "qkv"]
            found[f"{new}attn.in_proj_{leaf}"] = torch.cat(three)
            found[f"{new}attn.out_proj.{leaf}"] = state[f"{old}self_attn.out_proj.{leaf}"]
            for ours, theirs in (("mlp.c_fc", "mlp.fc1"), ("mlp.c_proj", "mlp.fc2")):
                found[f"{new}{ours}.{leaf}"] = state[f"{old}{theirs}.{leaf}"]
            for ours, theirs in (("ln_1", "layer_norm1"), ("ln_2", "layer_norm2")):
                found[f"{new}{ours}.{leaf}"] = state[f"{old}{theirs}.{leaf}"]
    if family is Family.SD2:
        last = {key: tensor for key, tensor in found.items() if "resblocks.2." in key}
        found |= {key.replace("resblocks.2.", "resblocks.3."): torch.full_like(t, 1e9) for key, t in last.items()}
    return found


UNETS: dict[Family, dict[str, Any]] = {
    Family.SD2: {
        "block_out_channels": (32, 32, 64, 64), "attention_head_dim": (2, 2, 4, 4), "use_linear_projection": True,
    },
    Family.SDXL: {
        "block_out_channels": (32, 32, 64),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (2, 2, 4),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 40 + 6 * 256,
    },
}  # fmt: skip
YAMLS = {
    Family.SD2: """model:
  params:
    SAYS
    unet_config: {params: {num_head_channels: 16}}
    cond_stage_config: {params: {arch: small}}
""",
    Family.SDXL: """model:
  params:
    SAYS
    network_config: {params: {num_head_channels: 16}}
    conditioner_config: {params: {emb_models: [{params: {}}, {params: {arch: small}}]}}
""",
}
