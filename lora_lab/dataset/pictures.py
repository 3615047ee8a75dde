"""Picture files: which there are, their sizes, and their pixels as training sees them. No torch."""

from __future__ import annotations

import functools
import hashlib
import importlib
import os
import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from lora_lab.dataset.buckets import Placement, Size
from lora_lab.dataset.options import PICTURE_ENDINGS
from lora_lab.dataset.problems import Problem, told

EXTENSIONS = PICTURE_ENDINGS
OTHER_PICTURES = frozenset(
    {".gif", ".tif", ".tiff", ".heic", ".heif", ".svg", ".psd", ".jfif", ".tga", ".ico", ".jp2"}
)
"""Picture files that are not trained on; a check names them."""
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "DIB", "GIF", "AVIF", "JXL")
"""What a picture file may hold, whatever its name says. Pillow knows more, some of which call other programs (EPS)."""
PLUGINS = {".avif": "pillow_avif", ".jxl": "pillow_jxl"}
"""Formats that Pillow may know only through another package."""
MAX_PIXELS = 120_000_000
"""Larger pictures would take gigabytes when they are opened; 10,000 x 12,000 still fits."""
SMALLEST = 8
"""Shorter sides hold no picture."""
TAIL = 4096
"""A picture's end mark is looked for in so many last bytes."""
ORIENTATION = 0x0112
"""The EXIF tag."""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF's orientation -> what turns the picture upright."""
FILTERS = {
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "area": Image.Resampling.BOX,
    "box": Image.Resampling.BOX,
}
"""kohya's names of ways to resize."""
UNREADABLE = (
    OSError, ValueError, SyntaxError, EOFError, TypeError, LookupError, ArithmeticError, AttributeError, RuntimeError,
    MemoryError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
"""What Pillow's decoders raise on files that are damaged."""


@dataclass(frozen=True)
class Header:
    """What is known of a picture without decoding it."""

    size: Size
    """Turned as EXIF says."""
    has_alpha: bool


def read_header(path: Path) -> Header | Problem:
    """Size of a picture, or why it cannot be used.

    Reads the file's beginning and end only; one whose end is missing is decoded to be sure.
    """
    try:
        with _opened(path) as picture:
            # Phones save a JPEG with a second, smaller picture in it (MPO): that is no animation.
            frames = 1 if picture.format in ("JPEG", "MPO") else int(getattr(picture, "n_frames", 1))
            size = _upright(picture.size, orientation(picture))
            alpha = has_alpha(picture)
            if frames == 1 and _fits(size) and not _complete(path, str(picture.format)):
                picture.load()
    except UNREADABLE as error:
        return _unreadable(path, error)
    name = told(path)
    if frames > 1:
        remedy = "save the frame that you want as a PNG"
        return Problem(name, "animated", f"it has {frames} frames", remedy, "error")
    if size[0] * size[1] > MAX_PIXELS:
        why = f"{size[0]} x {size[1]} pixels take gigabytes of memory"
        return Problem(name, "too-large", why, "make it smaller: 4,000 pixels a side are plenty", "error")
    if min(size) < SMALLEST:
        return Problem(name, "too-small", f"it has {size[0]} x {size[1]} pixels", "take it out", "error")
    return Header(size, alpha)


def load(
    path: Path, placement: Placement, crop: Size | None = None, *, size: Size | None = None, how: str = ""
) -> Image.Image:
    """The pixels that training sees: RGB, in the bucket's size.

    EXIF turned, alpha laid on white; area average (Pillow's BOX) where both sides shrink, else Lanczos. Only the piece
    that the crop leaves is resized, so that a very long picture takes no more memory than another.

    Args:
        path: a picture that `read_header` found good.
        placement: from `buckets.place`.
        crop: left and top of the crop in the resized picture; None centres it.
        size: what the header said; a picture that has another size by now is refused.
        how: one of `options.INTERPOLATIONS` instead.

    Raises:
        OSError: it cannot be decoded after all, or has changed.
    """
    try:
        with _opened(path) as file:
            turn = orientation(file)
            if size is not None and _upright(file.size, turn) != size:
                raise OSError("it has another size than when the dataset was checked")
            file.draft("RGB", _upright(placement.resized, turn))  # JPEG decodes smaller where that is enough
            picture = to_rgb(file)
        if turn in TURNS:
            picture = picture.transpose(TURNS[turn])
        return _cut(picture, placement, placement.centre() if crop is None else crop, how)
    except OSError:
        raise
    except UNREADABLE as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def load_channel(path: Path, channel: str, placement: Placement, crop: Size, *, size: Size) -> Image.Image:
    """One channel (``R`` or ``A``) of a picture that goes the same way as `load`'s, as a grey picture.

    Raises:
        OSError: it cannot be decoded, or has another size than `size`.
    """
    try:
        with _opened(path) as file:
            turn = orientation(file)
            if _upright(file.size, turn) != size:
                raise OSError("it has another size than when the dataset was checked")
            if channel == "A":
                grey = file.convert("RGBA").getchannel("A")
            else:
                grey = (to_rgb(file) if file.mode.startswith(("I", "F")) else file.convert("RGB")).getchannel("R")
        if turn in TURNS:
            grey = grey.transpose(TURNS[turn])
        return _cut(grey, placement, crop)
    except OSError:
        raise
    except UNREADABLE as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def _cut(picture: Image.Image, placement: Placement, crop: Size, chosen: str = "") -> Image.Image:
    """The crop of the resized picture, without making the whole of it."""
    (left, top), (wide, high) = crop, placement.bucket
    if picture.size == placement.resized:
        return picture.crop((left, top, left + wide, top + high))
    x, y = picture.width / placement.resized[0], picture.height / placement.resized[1]
    how = Image.Resampling.BOX if x >= 1 and y >= 1 else Image.Resampling.LANCZOS
    how = FILTERS.get(chosen, how)
    # min: the product may lie a rounding error outside.
    right, bottom = min((left + wide) * x, picture.width), min((top + high) * y, picture.height)
    return picture.resize((wide, high), how, box=(left * x, top * y, right, bottom))


def small(path: Path, longest: int) -> Image.Image:
    """The whole picture, upright and RGB, no side longer than `longest` pixels.

    Raises:
        OSError: it cannot be decoded.
    """
    try:
        with _opened(path) as file:
            turn = orientation(file)
            file.draft("RGB", (longest, longest))
            picture = to_rgb(file)
        picture.thumbnail((longest, longest))
        return picture.transpose(TURNS[turn]) if turn in TURNS else picture
    except OSError:
        raise
    except UNREADABLE as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def to_rgb(picture: Image.Image) -> Image.Image:
    """Any mode to 8-bit RGB: alpha on white, 16-bit scaled down, palettes, CMYK and grey converted."""
    if picture.mode.startswith(("I", "F")):
        scale = 1 / 257 if picture.mode.startswith("I") else 1.0
        return picture.convert("F").point(lambda value: value * scale + 0.5).convert("L").convert("RGB")
    if has_alpha(picture):
        picture = picture if picture.mode == "RGBA" else picture.convert("RGBA")  # a copy may take half a gigabyte
        white = Image.new("RGB", picture.size, (255, 255, 255))
        white.paste(picture, mask=picture.getchannel("A"))
        return white
    picture.load()
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def has_alpha(picture: Image.Image) -> bool:
    """Are there parts that may be transparent? Read from the header."""
    return picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info


def orientation(picture: Image.Image) -> int:
    """EXIF's orientation 1..8 of a picture that is open and not decoded yet; damaged EXIF counts as upright."""
    if picture.format == "PNG" and "exif" not in picture.info:
        return 1  # Pillow decodes a whole PNG to look for EXIF behind the pixels, where hardly any has it
    try:
        return int(picture.getexif().get(ORIENTATION, 1))
    except UNREADABLE:
        return 1


def content_hash(path: Path) -> str:
    """sha256 of the file, 64 hex digits: a changed picture is another picture."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _opened(path: Path) -> Image.Image:
    # Pillow's warnings are left alone: to silence them is not safe in threads, and would silence the host's too.
    return Image.open(path, formats=_formats())


@functools.lru_cache(maxsize=1)
def _formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this Pillow reads."""
    Image.init()
    for plugin in PLUGINS.values():
        with suppress(ImportError):
            importlib.import_module(plugin)
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _fits(size: Size) -> bool:
    return size[0] * size[1] <= MAX_PIXELS and min(size) >= SMALLEST


def _upright(size: Size, turn: int) -> Size:
    return (size[1], size[0]) if turn in (5, 6, 7, 8) else size


def _complete(path: Path, kind: str) -> bool:
    """Is the end there that a whole file of its kind has? False asks for a closer look."""
    with path.open("rb") as file:
        start = file.read(12)
        length = file.seek(0, os.SEEK_END)
        file.seek(max(0, length - TAIL))
        tail = file.read()
    if kind == "PNG":
        return b"IEND" in tail
    if kind in ("JPEG", "MPO"):
        return b"\xff\xd9" in tail
    if kind == "WEBP":
        return int.from_bytes(start[4:8], "little") + 8 <= length
    return kind != "BMP" or int.from_bytes(start[2:6], "little") <= length


def _unreadable(path: Path, error: BaseException) -> Problem:
    name, remedy = told(path), "replace it, or take it out of the folder"
    if isinstance(error, Image.DecompressionBombError):
        why = "it is larger than any picture should be"
        return Problem(name, "too-large", why, "make it smaller: 4,000 pixels a side are plenty", "error")
    if _is_empty(path):
        return Problem(name, "broken-picture", "it is empty", remedy, "error")
    plugin = PLUGINS.get(path.suffix.lower())
    if isinstance(error, UnidentifiedImageError) and plugin and path.suffix[1:].upper() not in _formats():
        why = f"this Pillow reads no {path.suffix} pictures"
        return Problem(name, "unknown-format", why, "save it as a PNG", "error")
    why = f"it cannot be read as a picture ({type(error).__name__})"
    if isinstance(error, OSError) and "truncated" in str(error):
        why = "its end is missing (truncated)"
    return Problem(name, "broken-picture", why, remedy, "error")


def _is_empty(path: Path) -> bool:
    try:
        return path.stat().st_size == 0
    except OSError:
        return False
