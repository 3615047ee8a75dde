"""What settings say of the checkpoint, in kohya's way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_lab.families import Family, PredictionType

if TYPE_CHECKING:
    from lora_lab.training.settings import TrainSettings

NAMES = {Family.SD1: "Stable Diffusion 1", Family.SD2: "Stable Diffusion 2", Family.SDXL: "Stable Diffusion XL"}
PREDICTS: dict[PredictionType, str] = {"epsilon": "noise", "v_prediction": "velocity"}


def told_prediction(settings: TrainSettings) -> PredictionType | None:
    """v2 alone means a checkpoint that predicts noise; None if the settings say nothing."""
    if settings.v_parameterization:
        return "v_prediction"
    return "epsilon" if settings.v2 else None


def told_family(settings: TrainSettings) -> Family | None:
    """None if the settings say nothing."""
    return Family.SD2 if settings.v2 else None
