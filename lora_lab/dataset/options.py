"""What can be chosen about a dataset, in kohya's names. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from lora_lab.errors import SettingsError

PICTURE_ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".avif", ".jxl"})
"""Files that are pictures to train on."""


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

    @property
    def caches(self) -> bool:
        """Are latents computed once? To disk implies it, as in kohya's scripts."""
        return self.cache_latents or self.cache_latents_to_disk

    def check(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            SettingsError: the reason, and what to do.
        """
        if self.random_crop and self.caches:
            what = "random_crop needs each picture anew, cache_latents keeps the first crop"
            raise SettingsError(what, remedy="turn one of them off (cache_latents_to_disk too)")
        for name in ("train_batch_size", "vae_batch_size"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}", remedy="use 1 or more")
        ending = self.caption_extension
        if not ending.startswith(".") or len(ending) < 2 or any(c in ending for c in "/\\\0"):
            raise SettingsError(f"caption_extension is {ending!r}", remedy="begin it with a dot, such as .txt")
        if ending.lower() in PICTURE_ENDINGS:
            raise SettingsError(f"caption_extension is {ending}, a picture's ending", remedy="use .txt or .caption")
        self._check_sizes()

    def _check_sizes(self) -> None:
        if min(self.resolution) < 8 or any(side % 8 for side in self.resolution):
            raise SettingsError(f"resolution is {self.resolution}", remedy="use multiples of 8, 64 or more")
        step = self.bucket_reso_steps
        if step < 8 or step % 8:
            raise SettingsError(f"bucket_reso_steps is {step}", remedy="use a multiple of 8")
        if not self.enable_bucket:
            return
        if self.min_bucket_reso < 1:
            raise SettingsError(f"min_bucket_reso is {self.min_bucket_reso}", remedy="use a multiple of 8")
        if self.min_bucket_reso > min(self.resolution):
            what = f"min_bucket_reso {self.min_bucket_reso} is above the resolution {self.resolution}"
            raise SettingsError(what, remedy="lower it, or raise the resolution")
        if self.max_bucket_reso < max(self.resolution):
            what = f"max_bucket_reso {self.max_bucket_reso} is below the resolution {self.resolution}"
            raise SettingsError(what, remedy="raise it, or lower the resolution")
        if step * step > self.resolution[0] * self.resolution[1]:
            what = f"bucket_reso_steps {step} leaves no bucket at the resolution {self.resolution}"
            raise SettingsError(what, remedy="lower it, or raise the resolution")
