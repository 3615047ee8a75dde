"""Settings saved by the kohya_ss GUI, of any age: flat JSON whose numbers may be texts, turned into kohya's options.

The GUI's fields are not its scripts' options: some have other names, some stand for several, many are 0 or empty
where nothing is meant. What follows is the arithmetic that the GUI does before it starts a script.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lora_lab.training.importing import arguments
from lora_lab.training.importing.found import Reading
from lora_lab.training.importing.gui_network import network

SIGNS = frozenset((
    "LoRA_type", "max_resolution", "model_list", "save_as_bool", "no_token_padding", "stop_text_encoder_training",
    "stop_text_encoder_training_pct", "additional_parameters", "use_latent_files", "noise_offset_type",
    "LyCORIS_preset", "sdxl_checkbox", "flux1_checkbox", "lora_network_weights", "token_string",
))  # fmt: skip
"""Fields that only the GUI's files have."""

RENAMED = {
    "max_resolution": "resolution", "optimizer": "optimizer_type", "lora_network_weights": "network_weights",
    "batch_size": "train_batch_size",
}  # fmt: skip

ZERO_IS_UNSET = frozenset((
    "noise_offset", "adaptive_noise_scale", "multires_noise_iterations", "ip_noise_gamma", "min_snr_gamma",
    "v_pred_like_loss", "scale_weight_norms", "max_timestep", "min_timestep", "max_train_epochs", "max_train_steps",
    "save_every_n_epochs", "save_every_n_steps", "save_last_n_epochs", "save_last_n_epochs_state", "save_last_n_steps",
    "save_last_n_steps_state", "sample_every_n_epochs", "sample_every_n_steps", "vae_batch_size", "clip_skip", "seed",
    "learning_rate", "unet_lr", "text_encoder_lr", "network_dropout", "max_data_loader_n_workers",
))  # fmt: skip
"""The GUI passes none of these on when they are 0."""

IGNORED = frozenset((
    "model_list", "save_as_bool", "no_token_padding", "lowvram", "multi_gpu", "num_processes", "num_machines",
    "num_cpu_threads_per_process", "gpu_ids", "main_process_port", "dynamo_backend", "dynamo_mode",
    "dynamo_use_fullgraph", "dynamo_use_dynamic", "extra_accelerate_launch_args", "use_wandb", "folders",
    "sdxl", "sdxl_checkbox", "noise_offset_type", "lr_warmup", "LoRA_type", "additional_parameters",
    "train_text_encoder", "mem_eff_save", "fused_optimizer_groups", "blockwise_fused_optimizers",
))  # fmt: skip
"""Fields about the GUI or about starting processes, or read elsewhere in this module."""

OTHER_FAMILIES = (
    "flux", "sd3", "t5xxl", "clip_l", "clip_g", "hunyuan", "anima", "lumina", "single_", "double_", "logit_", "img_",
    "txt_", "ggpo", "train_lora_ggpo", "chroma", "lllite", "byt5",
)  # fmt: skip
"""How the fields of model families begin that are not trained here."""

OTHER_TABS = frozenset((
    "learning_rate_te", "learning_rate_te1", "learning_rate_te2", "full_path", "use_latent_files", "create_caption",
    "caption_metadata_filename", "latent_metadata_filename", "train_dir", "init_word", "num_vectors_per_token",
    "template", "token_string", "create_buckets", "image_folder", "generate_caption_database", "weights", "block_lr",
    "generate_image_buckets", "train_inpainting",
))  # fmt: skip
"""Fields of the GUI's tabs that train whole checkpoints or embeddings."""

_FLUX = frozenset((
    "ae", "apply_t5_attn_mask", "blocks_to_swap", "discrete_flow_shift", "enable_all_linear", "guidance_scale",
    "mode_scale", "model_prediction_type", "save_clip", "save_t5xxl", "split_mode", "split_qkv", "timestep_sampling",
    "train_blocks", "weighting_scheme", "in_dims", "train_t5xxl", "t5xxl",
))  # fmt: skip


def is_gui(values: Mapping[str, Any]) -> bool:
    """Was this saved by the GUI? Its oldest files have a few of its fields only."""
    return len(SIGNS & values.keys()) >= 1


def read(values: Mapping[str, Any], reading: Reading) -> Reading:
    """The options that the GUI would give kohya's script."""
    reading.origin = "settings of the kohya_ss GUI"
    fields = {RENAMED.get(name, name): value for name, value in values.items()}
    options = {name: value for name, value in fields.items() if not _says_nothing(name, value)}
    for name in [n for n in options if n in IGNORED or n in _FLUX or n.startswith(OTHER_FAMILIES)]:
        options.pop(name)
    for name in sorted(OTHER_TABS & options.keys()):
        if "LoRA_type" not in fields:  # the newest GUI writes the fields of all its tabs into every file
            reading.leave(name, "a field of the GUI's tabs that train whole checkpoints or embeddings")
        options.pop(name)
    _family(fields, options, reading)
    network(fields, options, reading)
    _rates(fields, options, reading)
    _length(fields, options, reading)
    _noise(fields, options)
    _attention(options)
    for name in ("optimizer_args", "lr_scheduler_args"):
        if name in options:
            options[name] = arguments.plain_words(options[name])
    _text_encoder_stop(options, reading)
    more = arguments.options(arguments.split(str(fields.get("additional_parameters") or "")))
    options.update(more)
    reading.values = options
    return reading


def number(value: object) -> float:
    """A field as a number; 0 where it is none, as the GUI's own fields fall back."""
    try:
        found = float(str(value).strip() or 0)
    except ValueError:
        return 0.0
    return found if math.isfinite(found) else 0.0


def _says_nothing(name: str, value: object) -> bool:
    """Empty, or a zero (or an unticked box, in an old file's number field) that the GUI does not pass on."""
    if value is None or value == "" or value is False or isinstance(value, Mapping):
        return True
    return name in ZERO_IS_UNSET and number(value) == 0


def _family(fields: Mapping[str, Any], options: dict[str, Any], reading: Reading) -> None:
    for family in ("flux1", "sd3", "hunyuan_image", "anima", "lumina"):
        if fields.get(f"{family}_checkbox") is True:
            reading.refuse(f"{family}_checkbox", "the file is for a family of models that is not trained here")
    sdxl = fields.get("sdxl") is True or fields.get("sdxl_checkbox") is True
    for name, option in (
        ("sdxl_no_half_vae", "no_half_vae"), ("sdxl_cache_text_encoder_outputs", "cache_text_encoder_outputs"),
    ):  # fmt: skip
        if options.pop(name, False) is True and sdxl:
            options[option] = True


def _rates(fields: Mapping[str, Any], options: dict[str, Any], reading: Reading) -> None:
    """One rate of the two: only that part is trained. None of them: both, with learning_rate."""
    text, unet = number(fields.get("text_encoder_lr")), number(fields.get("unet_lr"))
    if "text_encoder_lr" not in fields and "unet_lr" not in fields:
        return
    if text and not unet:
        options["network_train_text_encoder_only"] = True
    elif unet and not text:
        options["network_train_unet_only"] = True
        reading.remark("text_encoder_lr is 0, so the GUI trains the UNet only")


def _length(fields: Mapping[str, Any], options: dict[str, Any], reading: Reading) -> None:
    """Epochs are only a way to max_train_steps in the GUI; warmup is a share of them."""
    epochs = int(number(options.pop("epoch", 0)))
    if "lr_scheduler_num_cycles" not in options and epochs > 0:
        options["lr_scheduler_num_cycles"] = epochs
    if "max_train_steps" not in options and "max_train_epochs" not in options and epochs > 0:
        _steps(fields, options, epochs, reading)
    percent, steps = number(fields.get("lr_warmup")), number(fields.get("lr_warmup_steps"))
    if not steps and percent:
        options["lr_warmup_steps"] = percent / 100
        reading.remark(f"lr_warmup of {percent:g} percent is read as lr_warmup_steps {percent / 100:g}")


def _steps(fields: Mapping[str, Any], options: dict[str, Any], epochs: int, reading: Reading) -> None:
    """The GUI's sum where its folder is here: pictures times repeats / batch / accumulation * epochs, * 2 with reg."""
    if options.get("dataset_config"):
        return
    pictures = _pictures(str(fields.get("train_data_dir") or ""), reading)
    if not pictures:
        options["max_train_epochs"] = epochs
        reading.remark(f"epoch {epochs} is read as max_train_epochs; the GUI makes steps of it, which come to the same")
        return
    batch = max(1, int(number(fields.get("train_batch_size"))))
    accumulation = max(1, int(number(fields.get("gradient_accumulation_steps"))))
    factor = 2 if fields.get("reg_data_dir") else 1
    steps = math.ceil(pictures / batch / accumulation * epochs * factor)
    options["max_train_steps"] = steps
    reading.remark(
        f"max_train_steps {steps:,} is the GUI's sum: {pictures:,} pictures with repeats / batch {batch} / "
        f"accumulation {accumulation} * {epochs} epochs" + (" * 2 for the regularisation pictures" * (factor == 2))
    )


def _pictures(folder: str, reading: Reading) -> int:
    """Pictures times repeats of the folders named ``<repeats>_<name>``; 0 where there is none to look at."""
    path, total = Path(folder), 0
    try:
        if not folder or not reading.may_look(path):
            return 0
        for concept in path.iterdir():
            repeats = concept.name.partition("_")[0]
            if concept.is_dir() and repeats.isdecimal() and len(repeats) < 7:
                names = [name.name.lower() for name in concept.iterdir()]
                total += int(repeats) * sum(name.endswith((".jpg", ".jpeg", ".png", ".webp")) for name in names)
    except (OSError, ValueError):
        return 0
    return total


def _noise(fields: Mapping[str, Any], options: dict[str, Any]) -> None:
    """The GUI passes on one of the two kinds of offset noise."""
    plain = ("noise_offset", "noise_offset_random_strength", "adaptive_noise_scale")
    multires = ("multires_noise_iterations", "multires_noise_discount")
    kind = fields.get("noise_offset_type")
    for name in {"Original": multires, "Multires": plain}.get(str(kind), ()):
        options.pop(name, None)
    if "noise_offset" not in options:
        options.pop("adaptive_noise_scale", None)
    if "multires_noise_iterations" not in options:
        options.pop("multires_noise_discount", None)


def _attention(options: dict[str, Any]) -> None:
    kind = options.pop("xformers", None)
    if kind in (True, "xformers"):
        options["xformers"] = True
    elif kind == "sdpa":
        options["sdpa"] = True


def _text_encoder_stop(options: dict[str, Any], reading: Reading) -> None:
    for name in ("stop_text_encoder_training", "stop_text_encoder_training_pct"):
        if number(options.pop(name, 0)):
            reading.leave(name, "the GUI does not pass it on to the LoRA script either")
