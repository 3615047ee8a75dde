"""What a checkpoint file is, told by its header alone: nothing of its weights is read. No torch."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from safetensors import SafetensorError, safe_open

from lora_lab.errors import CheckpointError
from lora_lab.families import Family

GET_SAFETENSORS = "convert it to .safetensors first; pickles can run programs when they are opened"
PICKLES = (".ckpt", ".pt", ".pth", ".bin")
UNET = "model.diffusion_model."
SD2_TEXT = "cond_stage_model.model."
"""What the keys of SD2's text encoder begin with."""


def family_of_file(path: Path) -> Family:
    """The family of a ``.safetensors`` checkpoint in the original layout.

    Raises:
        CheckpointError: no such file, a pickle, damaged, or of a family that is not supported.
    """
    if not path.is_file():
        raise CheckpointError("there is no such checkpoint", file=path, remedy="check the path")
    if path.suffix.lower() in PICKLES:
        raise CheckpointError("this is a pickle checkpoint", file=path, remedy=GET_SAFETENSORS)
    try:
        with safe_open(str(path), "np") as opened:
            keys = tuple(opened.keys())
    except (SafetensorError, OSError, ValueError) as error:
        remedy = "get the file again; it is damaged or was cut short"
        raise CheckpointError(f"the checkpoint cannot be read ({error})", file=path, remedy=remedy) from error
    family = family_of_keys(keys, path)
    if not any(key.startswith(UNET) for key in keys):
        raise CheckpointError("the file has no UNet: it is no checkpoint", file=path, remedy="give a whole checkpoint")
    return family


def family_of_keys(found: Iterable[str], path: Path) -> Family:
    """The family by the names of the weights.

    Raises:
        CheckpointError: a LoRA, or a family that is not supported.
    """
    keys, remedy = tuple(found), "use one of Stable Diffusion 1, 2 or XL"
    if any(key.startswith(("lora_unet_", "lora_te")) for key in keys):
        raise CheckpointError("this is a LoRA, no checkpoint", file=path, remedy="give the checkpoint it was made for")
    if any(re.match(r"(model\.diffusion_model\.)?(joint|double)_blocks\.", key) for key in keys):
        what = "Stable Diffusion 3 or Flux checkpoints are not supported"
        raise CheckpointError(what, file=path, remedy=remedy)
    if any(key.startswith("conditioner.embedders.0.model.") for key in keys):
        raise CheckpointError("refiner and turbo checkpoints are not supported", file=path, remedy=remedy)
    if any(key.startswith("conditioner.embedders.") for key in keys):
        return Family.SDXL
    return Family.SD2 if any(key.startswith(SD2_TEXT) for key in keys) else Family.SD1


def short_hash(path: Path) -> str:
    """kohya's old `sd_model_hash`, 8 hex digits.

    Raises:
        CheckpointError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            file.seek(0x100000)
            return hashlib.sha256(file.read(0x10000)).hexdigest()[:8]
    except OSError as error:
        raise CheckpointError(f"the checkpoint cannot be read ({error.strerror})", file=path) from error
