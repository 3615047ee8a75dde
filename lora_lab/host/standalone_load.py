"""A checkpoint file to modules: told by its keys and shapes, built through diffusers and transformers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from lora_lab.errors import CheckpointError
from lora_lab.families import Family, PredictionType

UNET = "model.diffusion_model."
VAE = "first_stage_model."
TEXT = "cond_stage_model.transformer."
V_MARK = "v_pred"
"""A key without meaning of its own that tools put into checkpoints which predict the velocity."""
STOCK_WIDTH = 320
"""Of the first level of SD1's UNet."""
GET_SAFETENSORS = "convert it to .safetensors first; pickles can run programs when they are opened"


@dataclass(frozen=True)
class Parts:
    """A loaded checkpoint."""

    unet: nn.Module
    """diffusers' UNet2DConditionModel."""
    vae: nn.Module
    text_encoder: nn.Module
    tokenizer: Any
    family: Family
    prediction_type: PredictionType
    latent_scale: float
    betas: tuple[float, float]
    """First and last of the scaled linear schedule of 1000 steps."""


def load(path: Path, tokenizer: Path | None = None, prediction_type: PredictionType | None = None) -> Parts:
    """Load a checkpoint: a single file in the original layout, or a folder in diffusers' layout.

    Args:
        path: ``.safetensors`` file (a ``.yaml`` of the same name beside it is read) or folder.
        tokenizer: folder with tokenizer and config of the text encoder; None takes the one that the yaml or the folder
            names, or for a full-size SD1 CLIP's own, out of the package open_clip_torch.
        prediction_type: what the UNet predicts, where neither yaml, folder nor the marker key ``v_pred`` say it; None
            takes what they say, else epsilon as SD1 has it.

    Raises:
        CheckpointError: no such file, a pickle, damaged, no Stable Diffusion, or of a family not supported yet.
    """
    if path.is_dir():
        parts = _load_folder(path)
        return replace(parts, prediction_type=prediction_type) if prediction_type else parts
    if not path.is_file():
        raise CheckpointError("there is no such checkpoint", file=path, remedy="check the path")
    if path.suffix.lower() in (".ckpt", ".pt", ".pth", ".bin"):
        raise CheckpointError("this is a pickle checkpoint", file=path, remedy=GET_SAFETENSORS)
    weights = _read(path)
    marked = weights.pop(V_MARK, None) is not None
    _check_family(weights, path)
    config = _config(path)
    params = _dig(config, "model", "params")
    heads = _heads(weights, params, path)
    told: PredictionType = "v_prediction" if marked or params.get("parameterization") == "v" else "epsilon"
    try:
        folder = tokenizer or _tokenizer_folder(path, params, weights)
        modules = _unet(weights, heads), _vae(weights), _text_encoder(weights, folder)
    except (KeyError, RuntimeError, ValueError, TypeError) as error:
        # Keys that lack or shapes that do not fit: torch tells all of them, a person needs the first.
        first = [line.strip() for line in str(error).splitlines() if line.strip()]
        what = f"the checkpoint is not in Stable Diffusion 1's layout ({' '.join(first[:2])[:200]})"
        raise CheckpointError(what, file=path, remedy="use a complete Stable Diffusion 1 checkpoint") from error
    return Parts(
        *modules,
        tokenizer=_tokenizer(folder),
        family=Family.SD1,
        prediction_type=prediction_type or told,
        latent_scale=float(params.get("scale_factor", 0.18215)),
        betas=(float(params.get("linear_start", 0.00085)), float(params.get("linear_end", 0.012))),
    )


def _read(path: Path) -> dict[str, Tensor]:
    with path.open("rb") as file:
        start = file.read(4)
    if start[:2] == b"PK" or start[:1] == b"\x80":
        raise CheckpointError("this is a pickle checkpoint under another name", file=path, remedy=GET_SAFETENSORS)
    try:
        with safe_open(str(path), "pt") as file:
            keys = set(file.keys())
            wanted = [key for key in keys if key.startswith((UNET, VAE, TEXT)) or key == V_MARK]
            _name_family(keys, path)
            return {key: file.get_tensor(key) for key in wanted}
    except (SafetensorError, OSError, ValueError) as error:
        remedy = "get the file again; it is damaged or was cut short"
        raise CheckpointError(f"the checkpoint cannot be read ({error})", file=path, remedy=remedy) from error


def _name_family(keys: set[str], path: Path) -> None:
    """Say which family it is when it is one that cannot be loaded yet, before gigabytes are read."""
    other = None
    if any(key.startswith("conditioner.embedders.") for key in keys):
        other = "SDXL"
    elif any(key.startswith("cond_stage_model.model.") for key in keys):
        other = "Stable Diffusion 2"
    elif any(re.match(r"(model\.diffusion_model\.)?(joint|double)_blocks\.", key) for key in keys):
        other = "Stable Diffusion 3 or Flux"
    if other:
        raise CheckpointError(f"{other} checkpoints are not supported yet", file=path, remedy="use one of SD1")
    if any(key.startswith(("lora_unet_", "lora_te")) for key in keys):
        raise CheckpointError("this is a LoRA, no checkpoint", file=path, remedy="give the checkpoint it was made for")


def _check_family(weights: Mapping[str, Tensor], path: Path) -> None:
    for prefix, what in ((UNET, "UNet"), (VAE, "VAE"), (TEXT, "text encoder")):
        if not any(key.startswith(prefix) for key in weights):
            remedy = "use a complete Stable Diffusion 1 checkpoint"
            what = f"the file has no {what}: it is no Stable Diffusion checkpoint"
            raise CheckpointError(what, file=path, remedy=remedy)
    first = weights.get(UNET + "input_blocks.0.0.weight")
    channels = 4 if first is None else first.shape[1]
    if channels != 4:
        what = f"its UNet takes {channels} channels: it is made for inpainting or the like"
        raise CheckpointError(what, file=path, remedy="use a checkpoint for text to image")


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


def _heads(weights: Mapping[str, Tensor], params: Mapping[str, Any], path: Path) -> int:
    """Heads of the UNet's attention: shapes do not show them, so another width than SD1's needs its yaml."""
    told = _dig(params, "unet_config", "params").get("num_heads")
    first = weights.get(UNET + "input_blocks.0.0.weight")
    if told is None and first is not None and first.shape[0] != STOCK_WIDTH:
        what = f"its UNet is {first.shape[0]} channels wide where SD1's has {STOCK_WIDTH}, and no yaml tells its heads"
        raise CheckpointError(what, file=path, remedy="put its yaml beside it, under the same name")
    return int(told or 8)


def _dig(config: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    found: Any = config
    for name in names:
        found = found.get(name, {}) if isinstance(found, Mapping) else {}
    return found if isinstance(found, Mapping) else {}


def _unet(weights: Mapping[str, Tensor], heads: int) -> nn.Module:
    from diffusers import UNet2DConditionModel
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    widths = [weights[f"{UNET}input_blocks.{3 * i + 1}.0.out_layers.3.weight"].shape[0] for i in range(4)]
    context = weights[f"{UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"].shape[1]
    unet = UNet2DConditionModel(
        sample_size=64, in_channels=4, out_channels=4, block_out_channels=tuple(widths), layers_per_block=2,
        cross_attention_dim=context, attention_head_dim=heads,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    )  # fmt: skip
    part = {key: tensor.float() for key, tensor in weights.items() if key.startswith(UNET)}
    unet.load_state_dict(convert_ldm_unet_checkpoint(part, dict(unet.config)))
    module: nn.Module = unet
    return module


def _vae(weights: Mapping[str, Tensor]) -> nn.Module:
    from diffusers import AutoencoderKL
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    levels = {int(m[1]) for key in weights if (m := re.match(VAE + r"encoder\.down\.(\d+)\.block", key))}
    layers = {int(m[1]) for key in weights if (m := re.match(VAE + r"encoder\.down\.0\.block\.(\d+)", key))}
    last = max(layers)
    widths = [weights[f"{VAE}encoder.down.{i}.block.{last}.conv2.weight"].shape[0] for i in sorted(levels)]
    vae = AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, block_out_channels=tuple(widths), layers_per_block=last + 1,
        down_block_types=("DownEncoderBlock2D",) * len(widths), up_block_types=("UpDecoderBlock2D",) * len(widths),
    )  # fmt: skip
    part = {key: tensor.float() for key, tensor in weights.items() if key.startswith(VAE)}
    vae.load_state_dict(convert_ldm_vae_checkpoint(part, dict(vae.config)))
    module: nn.Module = vae
    return module


def _text_encoder(weights: Mapping[str, Tensor], folder: Path) -> nn.Module:
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig.from_pretrained(folder)
    width = weights[TEXT + "text_model.embeddings.token_embedding.weight"].shape
    if tuple(width) != (config.vocab_size, config.hidden_size):
        raise ValueError(f"its text encoder is {tuple(width)}, the config beside its tokenizer says "
                         f"{(config.vocab_size, config.hidden_size)}")  # fmt: skip
    module: nn.Module = CLIPTextModel(config)
    names = set(module.state_dict())
    state = {}
    for key, tensor in weights.items():
        # transformers 5 has no `text_model` in its paths, checkpoints always have
        for name in (key.removeprefix(TEXT), key.removeprefix(TEXT + "text_model.")):
            if name in names:
                state[name] = tensor.float()
    missing, _ = module.load_state_dict(state, strict=False)
    lost = [name for name in missing if not name.endswith("position_ids")]
    if lost:
        raise CheckpointError(f"the text encoder lacks {lost[0]}", file=folder, remedy="use a complete checkpoint")
    return module


def _tokenizer(folder: Path) -> Any:  # noqa: ANN401 - transformers has no types
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(folder)


def _tokenizer_folder(path: Path, params: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Path:
    named = _dig(params, "cond_stage_config", "params").get("version")
    if isinstance(named, str):
        for folder in (path.parent / named, path.with_suffix(".clip")):
            if (folder / "vocab.json").is_file():
                return folder
    vocabulary = weights[TEXT + "text_model.embeddings.token_embedding.weight"].shape[0]
    if vocabulary != 49408:
        what = f"its text encoder knows {vocabulary} tokens, and no tokenizer of that size lies beside it"
        raise CheckpointError(what, file=path, remedy="put its yaml and its tokenizer's folder beside it")
    from lora_lab.host.standalone_clip import full_size_folder

    return full_size_folder()


def _load_folder(path: Path) -> Parts:
    """A folder in diffusers' layout, SD1 only."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    if not (path / "model_index.json").is_file():
        remedy = "give a .safetensors file, or a folder with model_index.json"
        raise CheckpointError("this folder is no checkpoint", file=path, remedy=remedy)
    if (path / "text_encoder_2").is_dir():
        raise CheckpointError("SDXL checkpoints are not supported yet", file=path, remedy="use one of SD1")
    options = {"local_files_only": True, "use_safetensors": True, "torch_dtype": torch.float32}
    try:
        unet = UNet2DConditionModel.from_pretrained(path / "unet", **options)
        vae = AutoencoderKL.from_pretrained(path / "vae", **options)
        text = CLIPTextModel.from_pretrained(path / "text_encoder", local_files_only=True, use_safetensors=True)
        tokenizer = CLIPTokenizer.from_pretrained(path / "tokenizer", local_files_only=True)
        scheduler = DDIMScheduler.from_pretrained(path / "scheduler", local_files_only=True)
    except (OSError, ValueError) as error:
        remedy = "it needs unet, vae, text_encoder, tokenizer and scheduler, all as .safetensors"
        raise CheckpointError("the folder cannot be loaded", file=path, remedy=remedy) from error
    _check_folder(unet, scheduler.config, path)
    settings = scheduler.config
    return Parts(
        unet, vae, text.float(), tokenizer, Family.SD1, settings.get("prediction_type", "epsilon"),
        float(vae.config.scaling_factor), (float(settings["beta_start"]), float(settings["beta_end"])),
    )  # fmt: skip


def _check_folder(unet: nn.Module, schedule: Mapping[str, Any], path: Path) -> None:
    config: Any = unet.config
    if config["cross_attention_dim"] == 1024:
        what = "Stable Diffusion 2 checkpoints are not supported yet"
        raise CheckpointError(what, file=path, remedy="use one of SD1")
    if config["in_channels"] != 4:
        what = f"its UNet takes {config['in_channels']} channels: it is made for inpainting or the like"
        raise CheckpointError(what, file=path, remedy="use a checkpoint for text to image")
    if schedule.get("beta_schedule") != "scaled_linear":
        what = f"its noise schedule is {schedule.get('beta_schedule')!r}, Stable Diffusion's is 'scaled_linear'"
        raise CheckpointError(what, file=path / "scheduler", remedy="use a Stable Diffusion 1 checkpoint")
