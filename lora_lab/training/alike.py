"""What must be the same for all processes that train one LoRA together. No torch here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lora_lab.training.settings import TrainSettings

if TYPE_CHECKING:
    from lora_lab.host.base import CheckpointInfo
    from lora_lab.training.plan import Plan

OWN = frozenset({"dataset", "output", "previews"})
"""Groups of settings that may differ from machine to machine: folders, files, pictures that the first one makes."""


def facts_of(
    settings: TrainSettings, plan: Plan, pictures: str, info: CheckpointInfo, parameters: int
) -> dict[str, Any]:
    """Words for a person -> a value that every process must have alike.

    Args:
        settings: of the run.
        plan: made of them.
        pictures: changes with the pictures and their captions.
        info: of the live checkpoint.
        parameters: numbers to learn.
    """
    return {
        "their checkpoint": (info.short_hash, info.family.value, info.prediction_type),
        "their settings": repr([getattr(settings, spec.name) for spec in settings.specs() if spec.group not in OWN]),
        "their pictures": pictures,
        "their steps": (plan.steps, plan.seed),
        "their numbers to learn": parameters,
    }
