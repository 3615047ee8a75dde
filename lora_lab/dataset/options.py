"""What can be chosen about a dataset, in kohya's names. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from lora_lab.errors import SettingsError

PICTURE_ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".avif", ".jxl"})
"""Files that are pictures to train on."""
INTERPOLATIONS = ("lanczos", "nearest", "bilinear", "bicubic", "area", "box")
"""Ways to resize, besides the one that is chosen by itself."""


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
    color_aug: bool = False
    face_crop_aug_range: str = ""
    """``2.0,4.0``: sizes of the crop in face sizes; empty is off."""
    resize_interpolation: str = ""
    """One of `INTERPOLATIONS`; empty takes the area where both sides shrink, else Lanczos."""
    alpha_mask: bool = False
    masked_loss: bool = False
    conditioning_data_dir: str = ""
    loss_weights: str = ""
    """Lines of ``concept = weight``."""
    validation_split: float = 0.0
    validation_seed: int | None = None
    cache_latents: bool = True
    cache_latents_to_disk: bool = False
    vae_batch_size: int = 1
    caption_extension: str = ".txt"
    caption_prefix: str = ""
    caption_suffix: str = ""
    caption_separator: str = ","
    shuffle_caption: bool = False
    keep_tokens: int = 0
    keep_tokens_separator: str = ""
    secondary_separator: str = ""
    enable_wildcard: bool = False
    caption_dropout_rate: float = 0.0
    caption_dropout_every_n_epochs: int = 0
    caption_tag_dropout_rate: float = 0.0
    token_warmup_min: int = 1
    token_warmup_step: float = 0.0
    """Steps, or below 1 a share of all of them."""
    prior_loss_weight: float = 1.0
    seed: int = 0

    @property
    def caches(self) -> bool:
        """Are latents computed once? To disk implies it, as in kohya's scripts."""
        return self.cache_latents or self.cache_latents_to_disk

    @property
    def faces(self) -> tuple[float, float] | None:
        """Least and greatest size of a crop in sizes of the face; None where none is cut so (buckets go before).

        Raises:
            SettingsError: face_crop_aug_range is no range.
        """
        return faces_of(self)

    @property
    def moves_tags(self) -> bool:
        """Are captions taken apart into tags?"""
        return self.shuffle_caption or self.caption_tag_dropout_rate > 0 or self.token_warmup_step > 0

    def check(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            SettingsError: the reason, and what to do.
        """
        self.check_cache()
        for name in ("train_batch_size", "vae_batch_size"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}", remedy="use 1 or more")
        ending = self.caption_extension
        if not ending.startswith(".") or len(ending) < 2 or any(c in ending for c in "/\\\0"):
            raise SettingsError(f"caption_extension is {ending!r}", remedy="begin it with a dot, such as .txt")
        if ending.lower() in PICTURE_ENDINGS:
            raise SettingsError(f"caption_extension is {ending}, a picture's ending", remedy="use .txt or .caption")
        if not self.caption_separator.strip():
            raise SettingsError("caption_separator is empty", remedy="use a comma")
        if self.resize_interpolation and self.resize_interpolation not in INTERPOLATIONS:
            remedy = f"use one of {', '.join(INTERPOLATIONS)}, or leave it empty"
            raise SettingsError(f"resize_interpolation is {self.resize_interpolation!r}", remedy=remedy)
        parse_weights(self.loss_weights)
        self._check_sizes()

    def check_cache(self) -> None:
        """Refuse to keep latents of pictures that are needed anew each time.

        Raises:
            SettingsError: the option that changes them.
        """
        anew = {
            "random_crop takes another piece": self.random_crop,
            "color_aug takes other colours": self.color_aug,
            "face_crop_aug_range takes another piece": self.faces is not None,
        }
        for what, is_on in anew.items():
            if is_on and self.caches:
                remedy = f"switch cache_latents and cache_latents_to_disk off, or {what.split()[0]}"
                raise SettingsError(f"{what} each time, so the latents cannot be cached", remedy=remedy)

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


def faces_of(options: DatasetOptions) -> tuple[float, float] | None:
    """See `DatasetOptions.faces`."""
    found = face_range(options.face_crop_aug_range)
    return None if options.enable_bucket else found


def face_range(text: str) -> tuple[float, float] | None:
    """``2.0,4.0`` as two numbers, None for an empty text.

    Raises:
        SettingsError: it is no range.
    """
    if not text.strip():
        return None
    try:
        low, high = (float(part) for part in text.strip("()[] ").split(","))
    except ValueError:
        low = high = 0.0
    if not 1 <= low <= high < float("inf"):
        remedy = "give two numbers from 1 on, the smaller first, such as 2.0,4.0"
        raise SettingsError(f"face_crop_aug_range is {text!r}", remedy=remedy)
    return low, high


def parse_weights(text: str) -> dict[str, float]:
    """Lines of ``concept = weight``, from 0 to 100.

    Raises:
        SettingsError: a line is none.
    """
    found: dict[str, float] = {}
    for line in (part.strip() for part in text.splitlines()):
        if not line:
            continue
        name, equals, value = line.rpartition("=")
        try:
            weight = float(value)
        except ValueError:
            weight = -1.0
        if not equals or not name.strip() or not 0 <= weight <= 100:
            remedy = "write concept = weight, such as mika = 0.5"
            raise SettingsError(f"loss_weights has the line {line!r}", remedy=remedy)
        found[name.strip()] = weight
    return found
