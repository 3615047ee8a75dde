"""The adapter, and which part of the checkpoint it is trained on."""

from __future__ import annotations

from collections.abc import Iterator

from lora_lab.errors import SettingsError
from lora_lab.training.settings import TrainSettings


def check(settings: TrainSettings) -> None:
    """Something must be left to train."""
    if settings.network_train_unet_only and settings.network_train_text_encoder_only:
        what = "network_train_unet_only and network_train_text_encoder_only leave nothing to train"
        raise SettingsError(what, remedy="switch one of them off")


def warnings(s: TrainSettings) -> Iterator[str]:
    """Sizes that burn."""
    if s.network_alpha > s.network_dim:
        yield f"network_alpha {s.network_alpha:g} is above network_dim {s.network_dim}: pictures burn, use dim or less"
