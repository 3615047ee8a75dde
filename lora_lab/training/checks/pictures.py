"""Pictures, buckets, latents, masks, and what is held out."""

from __future__ import annotations

from collections.abc import Iterator

from lora_lab.dataset.options import INTERPOLATIONS, parse_weights
from lora_lab.errors import SettingsError
from lora_lab.training.plan import options_of
from lora_lab.training.settings import TrainSettings


def check(settings: TrainSettings) -> None:
    """Bucket sizes that exist, caches that hold what is asked for, masks that are somewhere, one way to hold out.

    What a dataset_config says itself is checked when it is read.
    """
    if not settings.dataset_config:
        _check_buckets(settings)
        options_of(settings).check_cache()
        _check_masks(settings)
    parse_weights(settings.loss_weights)
    if settings.resize_interpolation and settings.resize_interpolation not in INTERPOLATIONS:
        remedy = f"use one of {', '.join(INTERPOLATIONS)}, or leave it empty"
        raise SettingsError(f"resize_interpolation is {settings.resize_interpolation!r}", remedy=remedy)
    if settings.validation_split and settings.validation_data_dir:
        what = "validation_split and validation_data_dir both hold pictures out"
        raise SettingsError(what, remedy="set one of them only")


def _check_buckets(settings: TrainSettings) -> None:
    if settings.enable_bucket and settings.min_bucket_reso > settings.max_bucket_reso:
        what = f"min_bucket_reso {settings.min_bucket_reso} is above max_bucket_reso {settings.max_bucket_reso}"
        raise SettingsError(what, remedy="exchange them")
    if settings.enable_bucket and not settings.bucket_no_upscale:
        low, high = min(settings.resolution), max(settings.resolution)
        if settings.min_bucket_reso > low:
            what = f"min_bucket_reso {settings.min_bucket_reso} is above the resolution {low}"
            raise SettingsError(what, remedy=f"set min_bucket_reso to {low} or less")
        if settings.max_bucket_reso < high:
            what = f"max_bucket_reso {settings.max_bucket_reso} is below the resolution {high}"
            raise SettingsError(what, remedy=f"set max_bucket_reso to {high} or more")
    if settings.bucket_reso_steps % 8:
        what = f"bucket_reso_steps is {settings.bucket_reso_steps}"
        raise SettingsError(what, remedy="give a multiple of 8, usually 64")
    if any(side % 8 for side in settings.resolution):
        raise SettingsError(f"resolution is {settings.resolution}", remedy="give multiples of 8")


def _check_masks(settings: TrainSettings) -> None:
    if settings.masked_loss and not settings.conditioning_data_dir and not settings.alpha_mask:
        remedy = "set conditioning_data_dir to their folder, or switch alpha_mask on"
        raise SettingsError("masked_loss has no masks", remedy=remedy)


def warnings(s: TrainSettings) -> Iterator[str]:
    """Options that nothing makes use of."""
    yield from _held_out_warnings(s)
    if s.dataset_config:
        yield from (
            f"{name} has no effect, since dataset_config names the pictures"
            for name in ("train_data_dir", "reg_data_dir", "in_json", "loss_weights")
            if getattr(s, name)
        )
        return
    if s.in_json and s.reg_data_dir:
        yield "reg_data_dir has no effect with in_json"
    if s.dataset_repeats != 1 and not s.in_json:
        yield "dataset_repeats has no effect without in_json: the folders' names have the repeats"
    if not s.reg_data_dir and s.prior_loss_weight != 1:
        yield "prior_loss_weight has no effect without regularisation pictures (reg_data_dir)"
    yield from _picture_warnings(s)


def _held_out_warnings(s: TrainSettings) -> Iterator[str]:
    if s.validation_data_dir or s.validation_split or s.dataset_config:
        if s.validation_data_dir and s.validation_seed is not None:
            yield "validation_seed has no effect with validation_data_dir"
        return
    for name in ("validate_every_n_epochs", "validate_every_n_steps", "validation_seed", "max_validation_steps"):
        if _changed(s, name):
            yield f"{name} has no effect without held-out pictures (validation_data_dir or validation_split)"


def _picture_warnings(s: TrainSettings) -> Iterator[str]:
    bucket_names = ("min_bucket_reso", "max_bucket_reso", "bucket_reso_steps", "bucket_no_upscale")
    if not s.enable_bucket:
        yield from (f"{name} has no effect, since enable_bucket is off" for name in bucket_names if _changed(s, name))
    elif s.bucket_no_upscale:
        yield from (f"{n} has no effect, since bucket_no_upscale is on" for n in bucket_names[:2] if _changed(s, n))
    if s.enable_bucket and s.face_crop_aug_range:
        yield "face_crop_aug_range has no effect, since enable_bucket is on"
    if s.vae_batch_size != 1 and not (s.cache_latents or s.cache_latents_to_disk):
        yield "vae_batch_size has no effect, since the latents are not cached"
    if s.conditioning_data_dir and not s.masked_loss:
        yield "conditioning_data_dir has no effect, since masked_loss is off"
    if s.masked_loss_normalize and not (s.masked_loss or s.alpha_mask):
        yield "masked_loss_normalize has no effect without masked_loss or alpha_mask"


def _changed(s: TrainSettings, name: str) -> bool:
    return bool(getattr(s, name) != TrainSettings.spec(name).default)
