"""Small repairs of pictures, each as a new file beside the old one, with its caption; the original stays."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

from PIL import Image, ImageColor, ImageOps

from lora_lab.dataset.caption_files import ENDINGS
from lora_lab.dataset.problems import told
from lora_lab.errors import DatasetError, OutputError

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels of the upright picture."""
SMALLEST_CROP = 16
TURNS = MappingProxyType(
    {90: Image.Transpose.ROTATE_270, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_90}
)
"""Clockwise degrees."""


def crop(path: Path, box: Box, *, word: str = "crop") -> Path:
    """A piece of a picture: the guide's close-up of a head or of the eyes, for designs that are hard to learn.

    Args:
        path: of the picture.
        box: within it, at least 16 pixels a side.
        word: put behind the new file's name.

    Raises:
        DatasetError: the box lies outside, or the picture cannot be read.
        OutputError: the new file cannot be written.
    """

    def cut(picture: Image.Image) -> Image.Image:
        left, top, right, bottom = box
        width, height = picture.size
        fits = 0 <= left < right <= width and 0 <= top < bottom <= height
        if not fits or min(right - left, bottom - top) < SMALLEST_CROP:
            what = f"the crop {box} does not fit a picture of {width} x {height}"
            raise DatasetError(what, file=told(path), remedy=f"give at least {SMALLEST_CROP} pixels inside it")
        return picture.crop(box)

    return _repaired(path, word, cut)


def flip(path: Path) -> Path:
    """Left for right; not for designs that are not symmetric.

    Raises:
        DatasetError, OutputError: see `crop`.
    """
    return _repaired(path, "flip", ImageOps.mirror)


def rotate(path: Path, degrees: int) -> Path:
    """Turned clockwise by 90, 180 or 270 degrees.

    Raises:
        DatasetError: another angle; see also `crop`.
        OutputError: see `crop`.
    """
    if degrees not in TURNS:
        raise DatasetError(f"a turn by {degrees} degrees", file=told(path), remedy="use 90, 180 or 270")
    return _repaired(path, f"turn{degrees}", lambda picture: picture.transpose(TURNS[degrees]))


def flatten(path: Path, colour: str = "white") -> Path:
    """Transparent parts laid on a colour.

    Args:
        path: of the picture.
        colour: a name or ``#rrggbb``.

    Raises:
        DatasetError: no such colour; see also `crop`.
        OutputError: see `crop`.
    """
    try:
        rgb = ImageColor.getrgb(colour)[:3]
    except ValueError:
        raise DatasetError(f"there is no colour {colour!r}", file=told(path), remedy="write it as #rrggbb") from None

    def lay(picture: Image.Image) -> Image.Image:
        full = picture.convert("RGBA")
        ground = Image.new("RGB", full.size, rgb)
        ground.paste(full, mask=full.getchannel("A"))
        return ground

    return _repaired(path, "flat", lay)


def upscale(path: Path, enlarge: Callable[[Image.Image], Image.Image]) -> Path:
    """A larger picture, for one that is smaller than its bucket.

    Args:
        path: of the picture.
        enlarge: a host's upscaler, from RGB to RGB; transparent parts are laid on white for it.

    Raises:
        DatasetError, OutputError: see `crop`.
    """

    def larger(picture: Image.Image) -> Image.Image:
        if picture.mode != "RGBA":
            return enlarge(picture.convert("RGB"))
        ground = Image.new("RGB", picture.size, "white")
        ground.paste(picture, mask=picture.getchannel("A"))
        return enlarge(ground)

    return _repaired(path, "large", larger)


def _repaired(path: Path, word: str, change: Callable[[Image.Image], Image.Image]) -> Path:
    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file) or file
            picture = picture if picture.mode in ("RGB", "RGBA", "L") else picture.convert("RGBA")
            changed = change(picture)
    except (OSError, ValueError, SyntaxError) as error:  # Pillow raises all three for broken files
        remedy = "replace it, or take it out of the folder"
        raise DatasetError("the picture cannot be read", file=told(path), remedy=remedy) from error
    target = _free(path, word)
    part = target.with_name(f".{target.name}.part")
    try:
        changed.save(part, "PNG")
        for ending in ENDINGS:
            caption = path.with_name(path.stem + ending)
            if caption.is_file():
                shutil.copyfile(caption, target.with_name(target.stem + ending))
        os.replace(part, target)
    except OSError as error:
        part.unlink(missing_ok=True)
        what = f"the new picture cannot be written ({error.strerror or error})"
        raise OutputError(what, file=told(target), remedy="check the folder's rights and the disk") from error
    return target


def _free(path: Path, word: str) -> Path:
    """``a_crop.png``, ``a_crop2.png`` ... : the first name that nothing has."""
    number = 1
    while True:
        stem = f"{path.stem}_{word}{'' if number == 1 else number}"
        found = path.with_name(f"{stem}.png")
        if not found.exists() and not any(found.with_name(stem + ending).exists() for ending in ENDINGS):
            return found
        number += 1
