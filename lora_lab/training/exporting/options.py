"""Our settings as options of kohya's scripts: what is the same, and what they lack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from lora_lab.families import Family
from lora_lab.training.importing import kohya
from lora_lab.training.importing.found import Reading
from lora_lab.training.importing.network_args import NAMES, pack
from lora_lab.training.importing.options import OPTIONS
from lora_lab.training.learning.optimizers import KINDS
from lora_lab.training.plan import DEFAULT_EPOCHS
from lora_lab.training.settings import TrainSettings
from lora_lab.training.settings.fields import FieldSpec

CHECKPOINT = "path/to/checkpoint.safetensors"
"""Stands where the checkpoint is not known."""

OTHER_CHOICES: Mapping[str, frozenset[str]] = MappingProxyType(
    {"sample_sampler": frozenset({"unipc"}), "resize_interpolation": frozenset({"box"})}
)
"""Values that kohya's option of the same name does not have."""


@dataclass(frozen=True)
class Target:
    """What a run is to go on in kohya's scripts."""

    checkpoint: str = ""
    family: Family = Family.SD1
    v_prediction: bool = False
    clip_skip: int | None = None
    """Of the host, for settings that leave it to the host."""


@dataclass(frozen=True)
class Export:
    """A run for kohya's scripts."""

    options: Mapping[str, Any]
    """Option -> True for a switch, number, text, or list of texts."""
    lacking: tuple[str, ...]
    """What their run will not have, or have otherwise: sentences without their full stop."""
    settings: TrainSettings
    """What reading the export gives."""
    prompts: str = ""
    """For the file beside it; the option sample_prompts is its name."""
    script: str = "train_network.py"


def export(settings: TrainSettings, target: Target, prompts_name: str = "") -> Export:
    """Turn settings into options.

    Args:
        settings: of the run.
        target: checkpoint, family, and what the host would fill in.
        prompts_name: how the file of prompts will be called.
    """
    lacking: list[str] = []
    whole = _resolved(settings, target, lacking)
    plain = kohya.take(Reading()).settings
    options: dict[str, Any] = {"pretrained_model_name_or_path": target.checkpoint or CHECKPOINT}
    if not target.checkpoint:
        lacking.append("the checkpoint is not known here: put its path in")
    kept: dict[str, Any] = {}
    for spec in TrainSettings.specs():
        value = getattr(whole, spec.name)
        if not _has(spec, value):
            _lack(spec, value, lacking)
        elif value == getattr(plain, spec.name):
            continue
        elif value in (None, "", ()):
            _lack_empty(spec, getattr(plain, spec.name), lacking)
        else:
            kept[spec.name] = value
            if spec.name in OPTIONS:
                options[spec.name] = _plain(spec, value)
    _second_rate(kept, whole, options)
    prompts = whole.sample_prompts if "sample_prompts" in kept else ""
    if prompts:
        options["sample_prompts"] = prompts_name
    options |= pack(whole) | {"sdpa": True}
    kept |= _network(whole, options, lacking)
    if "max_train_epochs" in kept:
        kept.setdefault("max_train_steps", None)
    back = replace(plain, **kept)
    script = "sdxl_train_network.py" if target.family is Family.SDXL else "train_network.py"
    return Export(options, tuple(lacking), back, prompts, script)


def _resolved(settings: TrainSettings, target: Target, lacking: list[str]) -> TrainSettings:
    """What is left empty here has a value of its own there: ours are written out."""
    changes: dict[str, Any] = {}
    if target.family is Family.SD2:
        changes["v2"] = True
    if target.v_prediction:
        changes["v_parameterization"] = True
    kind = KINDS.get(settings.optimizer_type)
    if settings.learning_rate is None and kind is not None:
        changes["learning_rate"] = kind.unet_lr
        if settings.text_encoder_lr is None:
            changes["text_encoder_lr"] = kind.text_encoder_lr
    changes |= _rates(replace(settings, **changes))
    if settings.max_train_epochs is None and settings.max_train_steps is None:
        changes["max_train_epochs"] = DEFAULT_EPOCHS
    if settings.clip_skip is None:
        changes["clip_skip"] = target.clip_skip or 1
        if target.clip_skip is None:
            lacking.append("clip_skip is empty here and takes the host's setting; kohya's 1 is written")
    if settings.mixed_precision == "auto":
        changes["mixed_precision"] = "fp16"
        lacking.append("mixed_precision auto is not known there; fp16 is written")
    if not settings.output_name:
        changes["output_name"] = kohya.UNNAMED
    return replace(settings, **changes)


def _has(spec: FieldSpec, value: object) -> bool:
    """Do kohya's scripts have the setting, and this value of it?"""
    if value in OTHER_CHOICES.get(spec.name, ()):
        return False
    return spec.name in OPTIONS or spec.name in NAMES or spec.name == "text_encoder_lr2"


def _network(whole: TrainSettings, options: Mapping[str, Any], lacking: list[str]) -> dict[str, Any]:
    """How the kind of network reads from kohya's two options: some settings are written out, some kinds change."""
    said = {n: options[n] for n in ("network_module", "network_args", "network_dim", "network_alpha") if n in options}
    found = kohya.take(Reading(said))
    names = {spec.name for spec in TrainSettings.specs() if str(spec.group) == "kinds" and spec.name not in OPTIONS}
    for spec in TrainSettings.specs():
        value = getattr(whole, spec.name)
        theirs = getattr(found.settings, spec.name)
        if spec.name in names and value not in (spec.default, theirs):
            lacking.append(f"{spec.name} is {theirs} in kohya's scripts, not {value}")
    names |= set(found.values) - said.keys()
    return {name: getattr(found.settings, name) for name in names}


def _rates(settings: TrainSettings) -> dict[str, Any]:
    """kohya's list of two rates has both written out; two equal ones are one."""
    first, second = settings.text_encoder_lr, settings.text_encoder_lr2
    if second is None:
        return {}
    first = settings.learning_rate if first is None else first
    return {"text_encoder_lr": first, "text_encoder_lr2": None if second == first else second}


def _second_rate(kept: Mapping[str, Any], whole: TrainSettings, options: dict[str, Any]) -> None:
    """kohya gives the rates of SDXL's two text encoders as a list."""
    if "text_encoder_lr2" in kept:
        options["text_encoder_lr"] = [_number(whole.text_encoder_lr), _number(whole.text_encoder_lr2)]


def _lack(spec: FieldSpec, value: object, lacking: list[str]) -> None:
    if value != spec.default:
        shown = value if not isinstance(value, tuple) else ",".join(map(str, value))
        lacking.append(f"kohya's scripts have no {spec.name} = {' '.join(str(shown).split())[:80]}")


def _lack_empty(spec: FieldSpec, theirs: object, lacking: list[str]) -> None:
    """Empty says "not given" there. Steps beside epochs are not needed."""
    if spec.name != "max_train_steps":
        lacking.append(f"{spec.name} is empty here; kohya's scripts take {theirs} then")


def _plain(spec: FieldSpec, value: Any) -> Any:  # noqa: ANN401 - as kohya's parser wants it
    """Numbers as they are, a size as text, a list of rates as a list."""
    if spec.kind == "size":
        return f"{value[0]},{value[1]}"
    if OPTIONS[spec.name].takes == "list":
        return [str(part) for part in value] if isinstance(value, tuple) else [_number(value)]
    return _number(value)


def _number(value: Any) -> Any:  # noqa: ANN401 - whatever a setting holds
    """Whole floats as ints: kohya tells a share from a number of steps by the point."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else value
