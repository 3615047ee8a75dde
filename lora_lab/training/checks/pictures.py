"""Pictures, buckets and latents."""

from __future__ import annotations

from collections.abc import Iterator

from lora_lab.errors import SettingsError
from lora_lab.training.settings import TrainSettings


def check(settings: TrainSettings) -> None:
    """Bucket sizes that exist, and caches that hold what is asked for."""
    _check_buckets(settings)
    _check_latents(settings)


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


def _check_latents(settings: TrainSettings) -> None:
    if settings.random_crop and (settings.cache_latents or settings.cache_latents_to_disk):
        remedy = "switch cache_latents and cache_latents_to_disk off, or random_crop"
        raise SettingsError("random_crop takes another piece each time, so the latents cannot be cached", remedy=remedy)


def warnings(s: TrainSettings) -> Iterator[str]:
    """Options that nothing makes use of."""
    if not s.reg_data_dir and s.prior_loss_weight != 1:
        yield "prior_loss_weight has no effect without regularisation pictures (reg_data_dir)"
    if not s.validation_data_dir and s.validate_every_n_epochs != 1:
        yield "validate_every_n_epochs has no effect without held-out pictures (validation_data_dir)"
    bucket_names = ("min_bucket_reso", "max_bucket_reso", "bucket_reso_steps", "bucket_no_upscale")
    if not s.enable_bucket:
        yield from (f"{name} has no effect, since enable_bucket is off" for name in bucket_names if _changed(s, name))
    elif s.bucket_no_upscale:
        yield from (f"{n} has no effect, since bucket_no_upscale is on" for n in bucket_names[:2] if _changed(s, n))
    if s.vae_batch_size != 1 and not (s.cache_latents or s.cache_latents_to_disk):
        yield "vae_batch_size has no effect, since the latents are not cached"


def _changed(s: TrainSettings, name: str) -> bool:
    return bool(getattr(s, name) != TrainSettings.spec(name).default)
