"""Narrow random checkpoints of SD2 (v-prediction) and SDXL for a real webui: every layer that the family has.

Run by the webui's own Python, from which it takes the webui's own classes:

    python tiny_families.py WEBUI FOLDER {sd2,sdxl} VOCABULARY

writes FOLDER/tiny_FAMILY.{safetensors,yaml} and the text encoder's sizes as FOLDER/tiny_FAMILY.open_clip.json, which
the probe makes known to open_clip. VOCABULARY is the folder with CLIP's vocab.json and merges.txt.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import open_clip
import torch
import yaml
from safetensors.torch import save_file

CHANNELS, WIDE, NARROW = 32, 64, 32
"""Of the UNet's first level (ldm has 32 groups), of open_clip's encoder, of SDXL's first."""
LAYERS = {"sd2": 24, "sdxl": 32}
REPOSITORIES = {"sd2": "stable-diffusion-stability-ai", "sdxl": "generative-models"}
CONFIGS = {
    "sd2": "configs/stable-diffusion/v2-inference-v.yaml",
    "sdxl": "configs/inference/sd_xl_base.yaml",
}


def open_clip_tower(name: str, layers: int, folder: Path) -> torch.nn.Module:
    """open_clip's CLIP without its eyes."""
    text = {"context_length": 77, "vocab_size": 49408, "width": WIDE, "heads": 4, "layers": layers}
    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"embed_dim": WIDE, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(path)
    model: torch.nn.Module = open_clip.create_model(name)
    del model.visual
    torch.nn.init.normal_(model.ln_final.bias, std=0.1)  # the webui divides by the states' mean
    return model


def first_clip(folder: Path, vocabulary: Path) -> torch.nn.Module:
    """transformers' CLIP of SDXL, and the folder that its embedder wants."""
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=49408, hidden_size=NARROW, intermediate_size=64, num_hidden_layers=12, num_attention_heads=2
    )
    folder.mkdir(exist_ok=True)
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        shutil.copy(vocabulary / name, folder)
    config.save_pretrained(folder)
    model: torch.nn.Module = CLIPTextModel(config)
    torch.nn.init.normal_(model.text_model.final_layer_norm.bias, std=0.1)
    return model


def prefixed(module: torch.nn.Module, prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + key: tensor for key, tensor in module.state_dict().items()}


def unet_of(classes: Any, params: dict[str, Any]) -> dict[str, torch.Tensor]:
    unet = classes.UNetModel(**params)
    for parameter in unet.parameters():
        if parameter.dim() > 1 and not parameter.abs().max():
            torch.nn.init.normal_(parameter, std=0.02)  # or no gradient would pass the output's zeros
    return prefixed(unet, "model.diffusion_model.")


def sd2(config: dict[str, Any], folder: Path, vocabulary: Path) -> dict[str, torch.Tensor]:
    from ldm.models.autoencoder import AutoencoderKL
    from ldm.modules.diffusionmodules import openaimodel

    params = config["params"]
    unet, vae = params["unet_config"]["params"], params["first_stage_config"]["params"]
    unet.update(model_channels=CHANNELS, num_head_channels=16, context_dim=WIDE, use_checkpoint=True)
    unet.pop("use_fp16", None)
    vae["ddconfig"]["ch"] = 32
    params["cond_stage_config"]["params"]["arch"] = "tiny_sd2.open_clip"
    weights = unet_of(openaimodel, unet)
    weights |= prefixed(AutoencoderKL(**vae), "first_stage_model.")
    tower = open_clip_tower("tiny_sd2.open_clip", LAYERS["sd2"], folder)
    return weights | prefixed(tower, "cond_stage_model.model.")


def sdxl(config: dict[str, Any], folder: Path, vocabulary: Path) -> dict[str, torch.Tensor]:
    from sgm.models.autoencoder import AutoencoderKLInferenceWrapper
    from sgm.modules.diffusionmodules import openaimodel

    params = config["params"]
    unet, vae = params["network_config"]["params"], params["first_stage_config"]["params"]
    unet.update(model_channels=CHANNELS, num_head_channels=16, context_dim=NARROW + WIDE, adm_in_channels=WIDE + 1536)
    vae["ddconfig"]["ch"] = 32
    one, two = params["conditioner_config"]["params"]["emb_models"][:2]
    one["params"]["version"] = str(folder / "tiny_sdxl.clip")
    two["params"]["arch"] = "tiny_sdxl.open_clip"
    weights = unet_of(openaimodel, unet)
    weights |= prefixed(AutoencoderKLInferenceWrapper(**vae), "first_stage_model.")
    first = first_clip(folder / "tiny_sdxl.clip", vocabulary)
    weights |= prefixed(first, "conditioner.embedders.0.transformer.")
    tower = open_clip_tower("tiny_sdxl.open_clip", LAYERS["sdxl"], folder)
    return weights | prefixed(tower, "conditioner.embedders.1.model.")


def main(webui: Path, folder: Path, family: str, vocabulary: Path) -> None:
    repository = webui / "repositories" / REPOSITORIES[family]
    sys.path.insert(0, str(repository))
    torch.manual_seed(0)
    config = yaml.safe_load((repository / CONFIGS[family]).read_text())["model"]
    weights = (sd2 if family == "sd2" else sdxl)(config, folder, vocabulary)
    half = {k: v.half().contiguous() if v.is_floating_point() else v.contiguous() for k, v in weights.items()}
    save_file(half, str(folder / f"tiny_{family}.safetensors"))
    (folder / f"tiny_{family}.yaml").write_text(yaml.safe_dump({"model": config}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
