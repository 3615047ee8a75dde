"""What in a file of kohya's does not go together: told, since such a run is refused or other than it reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lora_lab.training.settings import TrainSettings

Values = Mapping[str, Any]


def is_on(values: Values, name: str) -> bool:
    """Does the file ask for it?"""
    return str(values.get(name, "")).strip().lower() not in ("", "false", "0", "none")


def _caching(settings: TrainSettings, values: Values) -> Iterator[str]:
    cached = is_on(values, "cache_latents") or is_on(values, "cache_latents_to_disk")
    for name in ("color_aug", "random_crop", "face_crop_aug_range"):
        if cached and is_on(values, name):
            yield f"cache_latents and {name} do not go together; kohya's scripts refuse such a run"


def _captions(settings: TrainSettings, values: Values) -> Iterator[str]:
    if not (is_on(values, "cache_text_encoder_outputs") or is_on(values, "cache_text_encoder_outputs_to_disk")):
        return
    for name in ("shuffle_caption", "caption_dropout_rate", "caption_tag_dropout_rate", "token_warmup_step"):
        if is_on(values, name):
            yield f"cache_text_encoder_outputs and {name} do not go together; kohya's scripts refuse such a run"


def _schedule(settings: TrainSettings, values: Values) -> Iterator[str]:
    if settings.lr_scheduler == "constant" and settings.lr_warmup_steps:
        yield "lr_scheduler constant has no warmup; take constant_with_warmup, or lr_warmup_steps 0"


def _parts(settings: TrainSettings, values: Values) -> Iterator[str]:
    if settings.network_train_unet_only and settings.network_train_text_encoder_only:
        yield "network_train_unet_only and network_train_text_encoder_only together leave nothing to train"


def _length(settings: TrainSettings, values: Values) -> Iterator[str]:
    if is_on(values, "max_train_epochs") and is_on(values, "max_train_steps"):
        yield "max_train_epochs and max_train_steps are both given; the epochs count, as in kohya's scripts"


def _alpha(settings: TrainSettings, values: Values) -> Iterator[str]:
    if settings.network_alpha > settings.network_dim:
        yield f"network_alpha {settings.network_alpha:g} is above network_dim {settings.network_dim}"


CONFLICTS = (_caching, _captions, _schedule, _parts, _length, _alpha)
"""Each yields sentences without their full stop."""
