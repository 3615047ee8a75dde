"""Small pictures for the tab, made once. No torch."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from PIL import Image, ImageOps

from lora_lab.dataset.pictures import to_rgb

SIDE = 256
"""Longest side in pixels."""


def thumbnail(path: Path, folder: Path) -> Path:
    """A small JPEG of a picture, kept in `folder` under a name that changes when the picture does.

    Raises:
        OSError: the picture cannot be decoded, or the folder not be written to.
    """
    state = path.stat()
    name = hashlib.sha256(f"{path} {state.st_size} {state.st_mtime_ns}".encode()).hexdigest()[:32]
    small = folder / f"{name}.jpg"
    if small.is_file():
        return small
    folder.mkdir(parents=True, exist_ok=True)
    with Image.open(path) as file:
        file.draft("RGB", (SIDE, SIDE))
        picture = to_rgb(ImageOps.exif_transpose(file) or file)
    picture.thumbnail((SIDE, SIDE))
    part = small.with_suffix(f".{os.getpid()}.part")
    picture.save(part, "JPEG", quality=88)
    part.replace(small)
    return small
