"""Picture files: which there are, their sizes, and their pixels as training sees them. No torch."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from lora_lab.dataset.buckets import Placement, Size
from lora_lab.dataset.problems import Problem

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".avif", ".jxl"})
OTHER_PICTURES = frozenset({".gif", ".tif", ".tiff", ".heic", ".svg", ".psd"})
"""Picture files that are not trained on; a check names them."""
MAX_PIXELS = 120_000_000
"""Larger pictures would take gigabytes when they are opened; 10,000 x 12,000 still fits."""
SMALLEST = 8
"""Shorter sides hold no picture."""


@dataclass(frozen=True)
class Header:
    """What is known of a picture without decoding it."""

    size: Size
    """Turned as EXIF says."""
    has_alpha: bool


def read_header(path: Path) -> Header | Problem:
    """Size of a picture, or why it cannot be used. Reads the file's beginning only."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as picture:
                frames = getattr(picture, "n_frames", 1)
                size = picture.size
                alpha = picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info
                # Pillow decodes a whole PNG to look for EXIF behind the pixels, where hardly any has it.
                look = picture.format != "PNG" or "exif" in picture.info
                turned = look and picture.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    except Image.DecompressionBombError:
        return Problem(str(path), "too-large", "it is larger than any picture should be", "make it smaller", "error")
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError) as error:
        why = "it is empty" if _is_empty(path) else f"it cannot be read as a picture ({type(error).__name__})"
        return Problem(str(path), "broken-picture", why, "replace it, or take it out of the folder", "error")
    if turned:
        size = (size[1], size[0])
    if frames > 1:
        remedy = "save the frame that you want as a PNG"
        return Problem(str(path), "animated", f"it has {frames} frames", remedy, "error")
    if size[0] * size[1] > MAX_PIXELS:
        why = f"{size[0]} x {size[1]} pixels take gigabytes of memory"
        return Problem(str(path), "too-large", why, "make it smaller: 4,000 pixels a side are plenty", "error")
    if min(size) < SMALLEST:
        return Problem(str(path), "too-small", f"it has {size[0]} x {size[1]} pixels", "take it out", "error")
    return Header(size, alpha)


def load(path: Path, placement: Placement, crop: Size | None = None) -> Image.Image:
    """The pixels that training sees: RGB, in the bucket's size.

    EXIF turned, alpha laid on white, shrunk by area or enlarged by Lanczos to cover the bucket, cropped.

    Args:
        path: a picture that `read_header` found good.
        placement: from `buckets.place`.
        crop: left and top of the crop in the resized picture; None centres it.

    Raises:
        OSError: it cannot be decoded after all (truncated).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path) as file:
            file.draft("RGB", placement.resized)  # JPEG decodes at an eighth of its size if that is enough
            picture = to_rgb(ImageOps.exif_transpose(file) or file)
    shrinks = picture.width >= placement.resized[0] and picture.height >= placement.resized[1]
    how = Image.Resampling.BOX if shrinks else Image.Resampling.LANCZOS
    if picture.size != placement.resized:
        picture = picture.resize(placement.resized, how)
    left, top = placement.centre() if crop is None else crop
    return picture.crop((left, top, left + placement.bucket[0], top + placement.bucket[1]))


def to_rgb(picture: Image.Image) -> Image.Image:
    """Any mode to 8-bit RGB: alpha on white, 16-bit scaled down, palettes and CMYK converted."""
    if picture.mode.startswith(("I", "F")):
        picture = picture.convert("F").point(lambda v: v / 257 if picture.mode.startswith("I") else v).convert("L")
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")


def content_hash(path: Path) -> str:
    """sha256 of the file, 64 hex digits: a changed picture is another picture."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _is_empty(path: Path) -> bool:
    try:
        return path.stat().st_size == 0
    except OSError:
        return False
