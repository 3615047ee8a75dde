"""The settings of a LoRA file: what its ss_ metadata tells of the run. Only the file's head is read."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lora_lab.errors import AdapterFileError, SettingsError
from lora_lab.training.importing.found import Reading
from lora_lab.training.settings import TrainSettings

RENAMED = MappingProxyType({
    "batch_size_per_device": "train_batch_size", "num_epochs": "max_train_epochs", "optimizer": "optimizer_type",
    "debiased_estimation": "debiased_estimation_loss",
})  # fmt: skip
"""Key without ss_ -> kohya's option."""

FACTS = frozenset((
    "session_id", "training_started_at", "training_finished_at", "sd_scripts_commit_hash", "lora_lab_version",
    "sd_model_name", "sd_model_hash", "new_sd_model_hash", "vae_name", "vae_hash", "new_vae_hash", "epoch", "steps",
    "num_train_images", "num_reg_images", "num_validation_images", "num_batches_per_epoch", "total_batch_size",
    "dataset_dirs", "reg_dataset_dirs", "tag_frequency", "bucket_info", "base_model_version", "datasets",
    "text_model_hash", "lr_step_rules", "mixed_precision_vae",
))  # fmt: skip
"""Keys about the run and its pictures, not settings."""

OPTIMIZERS = MappingProxyType({
    "adamw": "AdamW", "adamw8bit": "AdamW8bit", "sgd": "SGDNesterov", "sgd8bit": "SGDNesterov8bit",
    "dadaptadam": "DAdaptAdam", "pagedadamw8bit": "PagedAdamW8bit", "lion": "Lion",
})  # fmt: skip
"""Class in small letters -> kohya's name, where they differ."""


def read(path: Path) -> Reading:
    """The options that the file's metadata tells.

    Raises:
        SettingsError: it is no safetensors file, or tells nothing of its training.
    """
    from lora_lab.network.streams import TensorFile

    try:
        with TensorFile(path) as file:
            metadata = dict(file.metadata)
    except AdapterFileError as error:
        raise SettingsError(error.what, file=error.file, remedy=error.remedy) from error
    return from_metadata(metadata)


def from_metadata(metadata: Mapping[str, str]) -> Reading:
    """As `read`, from the metadata.

    Raises:
        SettingsError: it tells nothing of the training.
    """
    said = {key[3:]: text for key, text in metadata.items() if key.startswith("ss_")}
    said = {key: text for key, text in said.items() if text not in ("None", "")}
    if not said.keys() - FACTS:
        remedy = "choose a LoRA that kohya's scripts, kohya_ss, traintrain or LoRA Lab has written"
        raise SettingsError("the LoRA tells nothing of its training", remedy=remedy)
    ours = "lora_lab_version" in said
    reading = Reading(origin="a LoRA's metadata" + (" (by LoRA Lab)" if ours else ""))
    if "sd_model_name" in said:
        reading.remark(f"It was trained on {said['sd_model_name'][:100]}")
    reading.values = {RENAMED.get(name, name): _value(text) for name, text in said.items() if name not in FACTS}
    _optimizer(reading)
    _network(said, reading)
    _length(said, reading)
    told = {"train_batch_size", "max_train_epochs", "optimizer_type", *TOLD}
    silent = (spec.name for spec in TrainSettings.specs() if ours or spec.name not in told)
    reading.ours_unsaid = frozenset(silent)
    return reading


TOLD = frozenset((
    "learning_rate", "lr_scheduler", "network_dim", "network_alpha", "max_train_steps", "min_snr_gamma",
    "enable_bucket", "keep_tokens", "shuffle_caption", "mixed_precision",
))  # fmt: skip
"""Settings that kohya's scripts write into every file: one that is missing had kohya's default."""


def _value(text: str) -> Any:  # noqa: ANN401 - text, switch or a pair
    if text in ("True", "False"):
        return text == "True"
    pair = re.fullmatch(r"\(\s*(\d+)\s*,\s*(\d+)\s*\)", text)
    if pair:
        return [int(pair[1]), int(pair[2])]
    rates = re.fullmatch(r"\[\s*([\d.e+-]+(?:\s*,\s*[\d.e+-]+)*)\s*\]", text)
    return [rate.strip() for rate in rates[1].split(",")] if rates else text


def _optimizer(reading: Reading) -> None:
    """``torch.optim.adamw.AdamW(weight_decay=0.1,betas=(0.9, 0.99))``."""
    text = reading.values.get("optimizer_type")
    if not isinstance(text, str):
        return
    head, _, inside = text.partition("(")
    name = head.strip().rpartition(".")[2]
    reading.values["optimizer_type"] = OPTIMIZERS.get(name.lower(), name)
    inside = inside[:-1] if inside.count(")") > inside.count("(") else inside
    arguments = [part.strip() for part in _parts(inside)]
    kept = [part for part in arguments if "=" in part and part.partition("=")[0] not in _IMPLIED.get(name.lower(), ())]
    if kept:
        reading.values["optimizer_args"] = [re.sub(r"\s", "", part) for part in kept]


_IMPLIED = MappingProxyType({"sgd": ("nesterov",), "sgd8bit": ("nesterov",)})
"""Arguments that kohya's name of the optimizer stands for."""


def _parts(text: str) -> list[str]:
    """Cut at the commas outside of brackets; what is no ``name=`` belongs to the part before it (0.9,0.99)."""
    parts: list[str] = []
    depth = 0
    for piece in text.split(","):
        if parts and (depth > 0 or "=" not in piece):
            parts[-1] += "," + piece
        else:
            parts.append(piece)
        depth += piece.count("(") + piece.count("[") - piece.count(")") - piece.count("]")
    return parts


def _network(said: Mapping[str, str], reading: Reading) -> None:
    """network_args is a JSON object; traintrain writes a Python one."""
    text = reading.values.pop("network_args", None)
    if not isinstance(text, str):
        return
    try:
        arguments = json.loads(text)
    except (ValueError, RecursionError):
        try:
            arguments = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            arguments = None
    if isinstance(arguments, dict):
        reading.values["network_args"] = [f"{key}={value}" for key, value in arguments.items()]
    else:
        reading.leave("network_args", "it is damaged")


def _length(said: Mapping[str, str], reading: Reading) -> None:
    """A file tells both epochs and steps. Where they come to the same the epochs were the choice, else the steps."""
    if "max_train_epochs" not in reading.values or "max_train_steps" not in reading.values:
        return
    try:
        epochs, steps = int(said["num_epochs"]), int(said["max_train_steps"])
        batches = int(said["num_batches_per_epoch"]) / max(1, int(said.get("gradient_accumulation_steps", "1")))
    except (KeyError, ValueError):
        epochs, steps, batches = 1, 1, 1.0
    reading.values.pop("max_train_steps" if epochs * math.ceil(batches) == steps else "max_train_epochs")
