"""A checkpoint as a folder in diffusers' layout, of every family."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lora_lab.errors import CheckpointError
from lora_lab.families import Family


def load_folder(path: Path) -> dict[str, Any]:
    """The fields of `standalone_load.Parts` without the prediction type, and `said`: what the scheduler says of it.

    Raises:
        CheckpointError: something lacks, or is not for text to image.
    """
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    if not (path / "model_index.json").is_file():
        remedy = "give a .safetensors file, or a folder with model_index.json"
        raise CheckpointError("this folder is no checkpoint", file=path, remedy=remedy)
    here = {"local_files_only": True, "use_safetensors": True}
    second = None
    try:
        unet = UNet2DConditionModel.from_pretrained(path / "unet", torch_dtype=torch.float32, **here)
        vae = AutoencoderKL.from_pretrained(path / "vae", torch_dtype=torch.float32, **here)
        text = CLIPTextModel.from_pretrained(path / "text_encoder", **here)
        if (path / "text_encoder_2").is_dir():
            second = CLIPTextModelWithProjection.from_pretrained(path / "text_encoder_2", **here).float()
        tokenizer = CLIPTokenizer.from_pretrained(path / "tokenizer", local_files_only=True)
        schedule = DDIMScheduler.from_pretrained(path / "scheduler", local_files_only=True).config
    except (OSError, ValueError) as error:
        remedy = "it needs unet, vae, text_encoder (SDXL also text_encoder_2), tokenizer and scheduler as .safetensors"
        raise CheckpointError("the folder cannot be loaded", file=path, remedy=remedy) from error
    family = _family(unet.config, two_encoders=second is not None)
    _check(unet, schedule, path)
    return {
        "unet": unet, "vae": vae, "text_encoder": text.float(), "tokenizer": tokenizer, "text_encoder_2": second,
        "family": family, "said": _said(path, schedule), "latent_scale": float(vae.config.scaling_factor),
        "betas": (float(schedule["beta_start"]), float(schedule["beta_end"])),
    }  # fmt: skip


def _said(path: Path, schedule: Mapping[str, Any]) -> str | None:
    """What the scheduler's own file says; None where it says nothing and diffusers would take its default."""
    told = json.loads((path / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    return str(schedule["prediction_type"]) if "prediction_type" in told else None


def family_of_folder(path: Path) -> Family:
    """The family, told by the folder's descriptions; no weight is read.

    Raises:
        CheckpointError: it is no checkpoint.
    """
    try:
        config = json.loads((path / "unet" / "config.json").read_text(encoding="utf-8"))
        return _family(config, two_encoders=(path / "text_encoder_2").is_dir())
    except (OSError, ValueError, AttributeError) as error:
        remedy = "give a .safetensors file, or a folder with model_index.json"
        raise CheckpointError("this folder is no checkpoint", file=path, remedy=remedy) from error


def _family(config: Mapping[str, Any], *, two_encoders: bool) -> Family:
    """SDXL by its second text encoder, SD2 by the linear layers around its transformers."""
    if two_encoders:
        return Family.SDXL
    linear = config.get("use_linear_projection") or config.get("cross_attention_dim") == 1024
    return Family.SD2 if linear else Family.SD1


def _check(unet: nn.Module, schedule: Mapping[str, Any], path: Path) -> None:
    config: Any = unet.config
    if config["in_channels"] != 4 or config["class_embed_type"]:
        what = f"its UNet takes {config['in_channels']} channels: it is made for inpainting or the like"
        if config["class_embed_type"]:
            what = "its UNet wants pictures too: it is an unCLIP checkpoint"
        raise CheckpointError(what, file=path, remedy="use a checkpoint for text to image")
    if schedule.get("beta_schedule") != "scaled_linear":
        what = f"its noise schedule is {schedule.get('beta_schedule')!r}, Stable Diffusion's is 'scaled_linear'"
        raise CheckpointError(what, file=path / "scheduler", remedy="use a Stable Diffusion checkpoint")
