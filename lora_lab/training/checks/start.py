"""What a run starts from, and its stages."""

from __future__ import annotations

from collections.abc import Iterator

from lora_lab.errors import SettingsError
from lora_lab.training.settings import TrainSettings
from lora_lab.training.settings.stages import expand
from lora_lab.training.start_files import multipliers


def check(settings: TrainSettings) -> None:
    """Options that need another one."""
    if settings.dim_from_weights and not settings.network_weights:
        what = "dim_from_weights takes the sizes of network_weights, which is empty"
        raise SettingsError(what, remedy="choose a LoRA there, or switch dim_from_weights off")
    multipliers(settings)
    if settings.stages.strip():
        from lora_lab.training.checks import check as check_all  # which calls this one

        for number, stage in enumerate(expand(settings), 1):
            try:
                check_all(stage)
            except SettingsError as error:
                raise SettingsError(f"stage {number}: {error.what}", remedy=error.remedy) from error


def warnings(s: TrainSettings) -> Iterator[str]:
    """What has no effect."""
    if s.dim_from_weights:
        for name in ("network_dim", "network_alpha"):
            if getattr(s, name) != TrainSettings.spec(name).default:
                yield f"{name} has no effect, since dim_from_weights is on"
