"""A checkpoint file to modules: told by its keys and shapes, built through diffusers and transformers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from lora_lab.errors import CheckpointError
from lora_lab.families import Family, PredictionType
from lora_lab.host.headers import GET_SAFETENSORS, PICKLES, UNET, family_of_keys
from lora_lab.host.standalone_folder import load_folder
from lora_lab.host.standalone_text import FIRST, SECOND, dig, text_encoders, vocabulary
from lora_lab.host.standalone_unet import VAE, build_unet, build_vae, heads

V_MARK = "v_pred"
"""A key without meaning of its own that tools put into checkpoints which predict the velocity."""
FAMILIES = {Family.SD1: "Stable Diffusion 1", Family.SD2: "Stable Diffusion 2", Family.SDXL: "SDXL"}
SCALES = {Family.SD1: 0.18215, Family.SD2: 0.18215, Family.SDXL: 0.13025}
FULL_VOCABULARY = 49408
SAID: dict[PredictionType, str] = {"epsilon": "noise", "v_prediction": "velocity"}


@dataclass(frozen=True)
class Parts:
    """A loaded checkpoint."""

    unet: nn.Module
    """diffusers' UNet2DConditionModel."""
    vae: nn.Module
    text_encoder: nn.Module
    tokenizer: Any
    """Of both text encoders: all CLIPs have one vocabulary."""
    family: Family
    prediction_type: PredictionType
    latent_scale: float
    betas: tuple[float, float]
    """First and last of the scaled linear schedule of 1000 steps."""
    text_encoder_2: nn.Module | None = None
    """SDXL's second."""

    @property
    def text_encoders(self) -> tuple[nn.Module, ...]:
        """One or two."""
        return (self.text_encoder,) if self.text_encoder_2 is None else (self.text_encoder, self.text_encoder_2)


@dataclass(frozen=True)
class _File:
    """What a file holds."""

    path: Path
    family: Family
    weights: dict[str, Tensor]
    metadata: Mapping[str, str]
    params: Mapping[str, Any]
    """Of the yaml beside it."""


def load(path: Path, tokenizer: Path | None = None, prediction_type: PredictionType | None = None) -> Parts:
    """Load a checkpoint: a single file in the original layout, or a folder in diffusers' layout.

    Args:
        path: ``.safetensors`` file (a ``.yaml`` of the same name beside it is read) or folder.
        tokenizer: folder with tokenizer and config of the text encoder; None takes the one that the yaml or the folder
            names, or for a full-size CLIP's own, out of the package open_clip_torch.
        prediction_type: what the UNet predicts, where neither yaml, folder nor the file's marks say it. SD1 and SDXL
            predict the noise unless something says otherwise; of SD2 there are both, so it must be given.

    Raises:
        CheckpointError: no such file, a pickle, damaged, no Stable Diffusion, of a family not supported, or one whose
            prediction is not known, or known to be another than given.
    """
    if path.is_dir():
        found = load_folder(path)
        said = found.pop("said")
        return Parts(**found, prediction_type=_prediction(path, found["family"], said, prediction_type))
    if not path.is_file():
        raise CheckpointError("there is no such checkpoint", file=path, remedy="check the path")
    if path.suffix.lower() in PICKLES:
        raise CheckpointError("this is a pickle checkpoint", file=path, remedy=GET_SAFETENSORS)
    file = _read(path)
    _check_complete(file)
    unet_config = dig(file.params, "network_config" if file.family is Family.SDXL else "unet_config", "params")
    count = heads(file.weights, unet_config, file.family, path)
    predicts = _prediction(path, file.family, _said(file), prediction_type)
    try:
        folder = tokenizer or _tokenizer_folder(file)
        texts = text_encoders(file.weights, file.family, folder, _arch(file))
        unet, vae = build_unet(file.weights, count, file.family), build_vae(file.weights)
    except (KeyError, RuntimeError, ValueError, TypeError, StopIteration) as error:
        # Keys that lack or shapes that do not fit: torch tells all of them, a person needs the first.
        first = [line.strip() for line in str(error).splitlines() if line.strip()]
        name = FAMILIES[file.family]
        what = f"the checkpoint is not in {name}'s layout ({' '.join(first[:2])[:200]})"
        raise CheckpointError(what, file=path, remedy=f"use a complete {name} checkpoint") from error
    return Parts(
        unet, vae, texts[0], _tokenizer(folder), file.family, predicts,
        latent_scale=float(file.params.get("scale_factor", SCALES[file.family])),
        betas=(float(file.params.get("linear_start", 0.00085)), float(file.params.get("linear_end", 0.012))),
        text_encoder_2=texts[1] if len(texts) > 1 else None,
    )  # fmt: skip


def _read(path: Path) -> _File:
    with path.open("rb") as file:
        start = file.read(9)
    # A safetensors file begins with the length of its table, whose bytes may be any, and then the table itself.
    if start[8:] != b"{" and (start[:2] == b"PK" or start[:1] == b"\x80"):
        raise CheckpointError("this is a pickle checkpoint under another name", file=path, remedy=GET_SAFETENSORS)
    try:
        with safe_open(str(path), "pt") as opened:
            keys = set(opened.keys())
            family = family_of_keys(keys, path)
            prefixes = (UNET, VAE, FIRST[family], SECOND)
            weights = {key: opened.get_tensor(key) for key in keys if key.startswith(prefixes) or key == V_MARK}
            metadata = opened.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        remedy = "get the file again; it is damaged or was cut short"
        raise CheckpointError(f"the checkpoint cannot be read ({error})", file=path, remedy=remedy) from error
    return _File(path, family, weights, metadata, dig(_config(path), "model", "params"))


def _check_complete(file: _File) -> None:
    name = FAMILIES[file.family]
    wanted = [(UNET, "UNet"), (VAE, "VAE"), (FIRST[file.family], "text encoder")]
    wanted += [(SECOND, "second text encoder")] if file.family is Family.SDXL else []
    for prefix, what in wanted:
        if not any(key.startswith(prefix) for key in file.weights):
            says = f"the file has no {what}: it is no {name} checkpoint"
            raise CheckpointError(says, file=file.path, remedy=f"use a complete {name} checkpoint")
    first = file.weights.get(UNET + "input_blocks.0.0.weight")
    channels = 4 if first is None else first.shape[1]
    if channels != 4:
        says = f"its UNet takes {channels} channels: it is made for inpainting or the like"
        raise CheckpointError(says, file=file.path, remedy="use a checkpoint for text to image")
    if file.family is not Family.SDXL and UNET + "label_emb.0.0.weight" in file.weights:
        says = "its UNet wants pictures too: it is an unCLIP checkpoint"
        raise CheckpointError(says, file=file.path, remedy="use a checkpoint for text to image")


def _said(file: _File) -> PredictionType | None:
    """What the file and its yaml say of the prediction."""
    told = str(file.params.get("parameterization", ""))
    scaling = str(dig(file.params, "denoiser_config", "params", "scaling_config").get("target", ""))
    spec = file.metadata.get("modelspec.prediction_type", "")
    shape = file.metadata.get("modelspec.architecture", "")
    if V_MARK in file.weights or told == "v" or scaling.endswith("VScaling") or spec.startswith("v"):
        return "v_prediction"
    if told == "eps" or scaling.endswith("EpsScaling") or spec.startswith("eps") or "v2-512" in shape:
        return "epsilon"
    return "v_prediction" if "v2-768-v" in shape else None


def _prediction(
    path: Path, family: Family, said: PredictionType | None, given: PredictionType | None
) -> PredictionType:
    """Known, or given; never guessed where a family has both."""
    if said and given and said != given:
        what = f"it is said to predict {SAID[given]}, its own files say {SAID[said]}"
        raise CheckpointError(what, file=path, remedy=f"give --prediction-type {said}")
    if said or given:
        return said or given or "epsilon"
    if family is Family.SD2:
        what = "whether this Stable Diffusion 2 checkpoint predicts noise or velocity is not known"
        remedy = "give --prediction-type epsilon (the 512 ones) or v_prediction (the 768-v ones)"
        raise CheckpointError(what, file=path, remedy=remedy)
    return "epsilon"


def _config(path: Path) -> Mapping[str, Any]:
    beside = path.with_suffix(".yaml")
    if not beside.is_file():
        return {}
    try:
        found = yaml.safe_load(beside.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        what = "the yaml beside the checkpoint cannot be read"
        raise CheckpointError(what, file=beside, remedy="repair or move it") from error
    return found if isinstance(found, dict) else {}


def _text_params(file: _File, index: int) -> Mapping[str, Any]:
    """The yaml's parameters of a text encoder; empty where it says nothing."""
    if file.family is not Family.SDXL:
        return dig(file.params, "cond_stage_config", "params")
    models = dig(file.params, "conditioner_config", "params").get("emb_models", [])
    return dig(models[index], "params") if isinstance(models, list) and len(models) > index else {}


def _arch(file: _File) -> Path | None:
    """open_clip's description of the encoder that the yaml names, if it lies beside it."""
    named = _text_params(file, 1 if file.family is Family.SDXL else 0).get("arch")
    return file.path.parent / f"{named}.json" if isinstance(named, str) else None


def _tokenizer(folder: Path) -> Any:  # noqa: ANN401 - transformers has no types
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(folder)


def _tokenizer_folder(file: _File) -> Path:
    named = _text_params(file, 0).get("version")
    if isinstance(named, str):
        for folder in (file.path.parent / named, file.path.with_suffix(".clip")):
            if (folder / "vocab.json").is_file():
                return folder
    words = vocabulary(file.weights, file.family)
    if words != FULL_VOCABULARY:
        what = f"its text encoder knows {words} tokens, and no tokenizer of that size lies beside it"
        remedy = "put its yaml and its tokenizer's folder beside it"
        raise CheckpointError(what, file=file.path, remedy=remedy)
    from lora_lab.host.standalone_clip import full_size_folder

    return full_size_folder()
