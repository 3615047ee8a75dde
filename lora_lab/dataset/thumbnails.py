"""Small pictures for the tab, made once. No torch."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from lora_lab.dataset import pictures
from lora_lab.dataset.buckets import Placement

SIDE = 256
"""Longest side in pixels."""


def thumbnail(path: Path, folder: Path) -> Path:
    """A small JPEG of a picture, kept in `folder` under a name that changes when the picture does.

    Raises:
        OSError: the picture cannot be decoded, or the folder not be written to.
    """
    return _kept(path, folder, "", lambda: pictures.small(path, SIDE))


def training_view(path: Path, placement: Placement, folder: Path) -> Path:
    """The very crop that training sees (centred), made small, kept like a thumbnail.

    Args:
        path: a usable picture.
        placement: from `buckets.place`, or the item's.
        folder: where to keep it.

    Raises:
        OSError: the picture cannot be decoded, or the folder not be written to.
    """

    def make() -> Image.Image:
        picture = pictures.load(path, placement)
        picture.thumbnail((SIDE, SIDE))
        return picture

    return _kept(path, folder, f"{placement.resized} {placement.bucket}", make)


def _kept(path: Path, folder: Path, kind: str, make: Callable[[], Image.Image]) -> Path:
    state = path.stat()
    told = f" {state.st_size} {state.st_mtime_ns} {kind}".encode()
    small = folder / f"{hashlib.sha256(os.fsencode(path) + told).hexdigest()[:32]}.jpg"
    if small.is_file():
        return small
    folder.mkdir(parents=True, exist_ok=True)
    picture = make()
    part = small.with_suffix(f".{os.getpid()}.{threading.get_ident()}.part")
    picture.save(part, "JPEG", quality=88)
    part.replace(small)
    return small
