"""Settings from kohya's options: each one is taken, translated, or named with why not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lora_lab.errors import SettingsError
from lora_lab.training.importing.conflicts import CONFLICTS, is_on
from lora_lab.training.importing.found import Left, Reading, SettingsFile
from lora_lab.training.importing.network_args import unpack
from lora_lab.training.importing.options import OPTIONS, is_default
from lora_lab.training.importing.reasons import LEFT_OUT, TRANSLATED
from lora_lab.training.settings import TrainSettings
from lora_lab.training.settings.fields import SAME, FieldSpec
from lora_lab.training.settings.values import parse

ZERO_IS_UNSET = frozenset((
    "save_every_n_epochs", "sample_every_n_epochs", "max_train_epochs", "max_train_steps", "clip_skip",
    "multires_noise_iterations", "vae_batch_size", "save_every_n_steps", "sample_every_n_steps", "scale_weight_norms",
    "save_last_n_epochs", "save_last_n_steps", "save_last_n_epochs_state", "save_last_n_steps_state",
))  # fmt: skip
"""A 0 in one of these says what leaving it out says, and is dropped where the setting here does not take it."""

HARMLESS = frozenset({"sample_sampler", "sample_every_n_epochs", "logging_dir", "vae_batch_size"})
"""Settings without which the LoRA is the same: a run need not be refused for their values."""

UNNAMED = "last"
"""kohya's name for a LoRA that is given none."""

UNKNOWN = "neither kohya's scripts nor LoRA Lab have an option of that name"

OURS_ONLY = frozenset({"epoch", "optimizer", "max_resolution"})
"""Aliases from kohya_ss; kohya's own scripts pass over them, and in their files they stand beside the real ones."""


def take(reading: Reading) -> SettingsFile:
    """Make settings of what a file says.

    What the file leaves out has kohya's default, not ours: the run is to be the one the person knows. A value that
    cannot be had here is told as refused, and the setting keeps kohya's default.
    """
    _translate(reading)
    specs = names()
    taken: dict[str, Any] = {}
    for name, value in reading.values.items():
        spec = specs.get(name)
        if spec is None or name in OURS_ONLY:
            _leave(name, value, reading)
            continue
        try:
            parsed = parse(spec, value)
        except SettingsError as error:
            told = reading.left if spec.name in HARMLESS else reading.refused
            told.append(Left(spec.name, f"{error.what}: {error.remedy}".rstrip(": ")))
            continue
        if spec.name in taken and taken[spec.name] != parsed:
            reading.remark(f"{spec.name} is given twice; the last one counts")
        taken[spec.name] = parsed
    settings = TrainSettings(**{**_unsaid(taken, reading), **taken})
    remarks = [*reading.remarks, *(text for rule in CONFLICTS for text in rule(settings, reading.values))]
    return SettingsFile(
        settings, tuple(taken), tuple(reading.left), tuple(reading.refused), tuple(f"{text}." for text in remarks),
        reading.origin, reading.checkpoint,
    )  # fmt: skip


def names() -> dict[str, FieldSpec]:
    """Every name that is understood -> its setting."""
    return {name: spec for spec in TrainSettings.specs() for name in (spec.name, *spec.aliases)}


def _unsaid(taken: Mapping[str, Any], reading: Reading) -> dict[str, Any]:
    """kohya's defaults for what was not said; epochs beat steps."""
    silent = {*taken, *reading.ours_unsaid}
    found = {
        spec.name: parse(spec, spec.kohya_default)
        for spec in TrainSettings.specs()
        if spec.kohya_default != SAME and spec.name not in silent
    }
    if "max_train_epochs" in taken:
        found.pop("max_train_steps", None)
    if "output_name" not in silent:
        found["output_name"] = UNNAMED
    return found


def _leave(name: str, value: object, reading: Reading) -> None:
    """Name an option that has no setting, unless it says nothing or is settled another way."""
    if is_default(name, value) or name in TRANSLATED or name in OURS_ONLY:
        return
    why = LEFT_OUT.get(name, UNKNOWN) if name in OPTIONS else UNKNOWN
    reading.left.append(Left(name, why))


def _translate(reading: Reading) -> None:
    """Put options under the names of our settings."""
    reading.values = given(reading.values)
    _checkpoint(reading)
    _optimizer(reading)
    unpack(reading)
    _text_encoder_rates(reading)
    _prompts(reading)
    _save_as(reading)
    if is_on(reading.values, "face_crop_aug_range") and is_on(reading.values, "enable_bucket"):
        reading.leave("face_crop_aug_range", "it does not go together with enable_bucket; the buckets are kept")


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a file really says: empty texts and lists, and zeros that mean none, are taken as not said."""
    takes = {name for name, spec in names().items() if spec.minimum is not None and spec.minimum <= 0}
    zero = ZERO_IS_UNSET - takes
    texts = {name for name, spec in names().items() if spec.kind in ("text", "folder", "lines")}
    return {
        name: value
        for name, value in values.items()
        if not (value is None or value in ([], ()) or (isinstance(value, str) and not value.strip()))
        and not (value == "None" and name not in texts)
        and not (name in zero and _is_zero(value))
    }


def _is_zero(value: object) -> bool:
    try:
        return float(value) == 0  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False


def _checkpoint(reading: Reading) -> None:
    """A kohya file names the checkpoint; ours is chosen beside the settings."""
    name = reading.values.pop("pretrained_model_name_or_path", None)
    if isinstance(name, str):
        reading.checkpoint = name


def _optimizer(reading: Reading) -> None:
    """The old switches; a name in any capitals."""
    old = {"use_8bit_adam": "AdamW8bit", "use_lion_optimizer": "Lion"}
    asked = reading.values.get("optimizer_type")
    for switch, name in old.items():
        if reading.values.pop(switch, False) in (True, "true", "True") and asked is None:
            reading.values["optimizer_type"] = name
            reading.remark(f"{switch} is read as optimizer_type {name}")


def _text_encoder_rates(reading: Reading) -> None:
    """kohya takes a list: the second rate is SDXL's second text encoder's."""
    rates = reading.values.get("text_encoder_lr")
    if not isinstance(rates, (list, tuple)) or not rates:
        return
    reading.values["text_encoder_lr"] = rates[0]
    if len(rates) > 1 and str(rates[1]) != str(rates[0]):
        reading.values.setdefault("text_encoder_lr2", rates[1])
    if len(rates) > 2:
        reading.remark(f"text_encoder_lr has {len(rates)} rates, of which the first two are taken")


def _prompts(reading: Reading) -> None:
    """kohya's scripts want a file of prompts, ours the prompts."""
    name = reading.values.get("sample_prompts")
    if not isinstance(name, str) or "\n" in name or not name.lower().endswith((".txt", ".toml", ".json")):
        return
    path = Path(name)
    try:
        there = path.suffix.lower() == ".txt" and reading.may_look(path) and path.is_file()
        text = path.read_text(encoding="utf-8") if there else ""
    except (OSError, UnicodeDecodeError, ValueError):
        text = ""
    if text:
        reading.values["sample_prompts"] = text.strip()
    else:
        reading.leave("sample_prompts", f"the prompts in {name} could not be read; type them into the setting")


def _save_as(reading: Reading) -> None:
    ending = str(reading.values.pop("save_model_as", "safetensors"))
    if ending != "safetensors":
        reading.leave("save_model_as", f"{TRANSLATED['save_model_as']}, so {ending} is not written")
