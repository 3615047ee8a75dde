"""What depends on the loaded checkpoint's family: sizes its UNet can take, what it predicts, its text encoders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_lab.errors import SettingsError
from lora_lab.families import Family
from lora_lab.training.family import NAMES, PREDICTS, told_family, told_prediction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_lab.host.base import CheckpointInfo
    from lora_lab.training.settings import TrainSettings

SIDES = {Family.SD1: 64, Family.SD2: 64, Family.SDXL: 32}
"""Pictures' sides must be multiples of this: 8 for the VAE, and 2 for each time that the UNet halves its input."""


def check_family(settings: TrainSettings, info: CheckpointInfo) -> None:
    """Refuse what this checkpoint cannot do.

    Raises:
        SettingsError: sizes that its UNet cannot take; a family or a prediction that it has not.
    """
    side, name = SIDES[info.family], NAMES[info.family]
    if settings.enable_bucket and settings.bucket_reso_steps % side:
        what = f"bucket_reso_steps is {settings.bucket_reso_steps}, {name} needs multiples of {side}"
        raise SettingsError(what, remedy=f"give {side} or 64")
    if not settings.enable_bucket and any(length % side for length in settings.resolution):
        width, height = settings.resolution
        what = f"resolution is {width} x {height}, {name} needs multiples of {side}"
        raise SettingsError(what, remedy=f"give multiples of {side}, or switch enable_bucket on")
    _check_kind(settings, info)


def _check_kind(settings: TrainSettings, info: CheckpointInfo) -> None:
    if told_family(settings) not in (None, info.family):
        what = f"v2 is for Stable Diffusion 2, {info.name} is a {NAMES[info.family]} checkpoint"
        raise SettingsError(what, remedy="switch v2 off, or load the checkpoint that the settings are for")
    told = told_prediction(settings)
    if told is not None and told != info.prediction_type:
        says = "v_parameterization" if settings.v_parameterization else "v2 without v_parameterization"
        what = f"{says} means a checkpoint that predicts {PREDICTS[told]}, {info.name} predicts"
        what += f" {PREDICTS[info.prediction_type]}"
        turn = "off" if settings.v_parameterization else "on"
        raise SettingsError(what, remedy=f"switch v_parameterization {turn}, or load the checkpoint that is meant")


def family_warnings(settings: TrainSettings, family: Family) -> Iterator[str]:
    """Settings that have no effect on this family."""
    if settings.clip_skip and settings.clip_skip > 1 and family is not Family.SD1:
        yield f"clip_skip has no effect: {NAMES[family]} takes its text states from a fixed layer"
    if settings.text_encoder_lr2 is not None and family is not Family.SDXL:
        yield f"text_encoder_lr2 has no effect: {NAMES[family]} has one text encoder"
