"""What can be chosen about a dataset, in kohya's names. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from lora_lab.errors import SettingsError


@dataclass(frozen=True)
class DatasetOptions:
    """Sizes in pixels; see docs/files.md for the folders."""

    resolution: tuple[int, int] = (512, 512)
    """Width and height; with buckets only their product counts."""
    enable_bucket: bool = True
    min_bucket_reso: int = 256
    max_bucket_reso: int = 1024
    bucket_reso_steps: int = 64
    bucket_no_upscale: bool = False
    train_batch_size: int = 1
    flip_aug: bool = False
    random_crop: bool = False
    cache_latents: bool = True
    cache_latents_to_disk: bool = False
    vae_batch_size: int = 1
    caption_extension: str = ".txt"
    caption_prefix: str = ""
    caption_suffix: str = ""
    shuffle_caption: bool = False
    keep_tokens: int = 0
    keep_tokens_separator: str = ""
    secondary_separator: str = ""
    enable_wildcard: bool = False
    caption_dropout_rate: float = 0.0
    caption_dropout_every_n_epochs: int = 0
    caption_tag_dropout_rate: float = 0.0
    prior_loss_weight: float = 1.0
    seed: int = 0

    def check(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            SettingsError: the reason, and what to do.
        """
        if self.random_crop and self.cache_latents:
            what = "random_crop needs each picture anew, cache_latents keeps the first crop"
            raise SettingsError(what, remedy="turn one of them off")
        if self.train_batch_size < 1:
            raise SettingsError(f"train_batch_size is {self.train_batch_size}", remedy="use 1 or more")
        if min(self.resolution) < 8:
            raise SettingsError(f"resolution is {self.resolution}", remedy="use 64 or more")
        if self.bucket_reso_steps < 8 or self.bucket_reso_steps % 8:
            raise SettingsError(f"bucket_reso_steps is {self.bucket_reso_steps}", remedy="use a multiple of 8")
        if not self.enable_bucket:
            return
        if self.min_bucket_reso > min(self.resolution):
            what = f"min_bucket_reso {self.min_bucket_reso} is above the resolution {self.resolution}"
            raise SettingsError(what, remedy="lower it, or raise the resolution")
        if self.max_bucket_reso < max(self.resolution):
            what = f"max_bucket_reso {self.max_bucket_reso} is below the resolution {self.resolution}"
            raise SettingsError(what, remedy="raise it, or lower the resolution")
