"""face_crop_aug_range: a cut around the face whose place the file's name tells. Pure, kohya's arithmetic."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from lora_lab.dataset.buckets import Placement, Size
from lora_lab.dataset.options import DatasetOptions

SMALL_FACE = 40
"""Pixels below which the place is not shaken."""


@dataclass(frozen=True)
class Face:
    """In pixels of the picture."""

    x: int
    """Of its middle."""
    y: int
    width: int
    height: int


def face_of(path: Path) -> Face | None:
    """``mika_320_200_80_90.png``: middle and size after the last four underscores; None where they are not there."""
    numbers = path.stem.split("_")[-4:]
    if path.stem.count("_") < 4 or not all(n.isascii() and n.isdigit() and len(n) < 7 for n in numbers):
        return None
    face = Face(*map(int, numbers))
    return face if face.x > 0 and face.width > 0 and face.height > 0 else None


def around_face(size: Size, face: Face, options: DatasetOptions, r: random.Random) -> tuple[Placement, Size]:
    """How large the picture is made and where it is cut, so that the cut is so many faces wide.

    Args:
        size: the picture's width and height.
        face: in it.
        options: a face range, the resolution (the size of the cut), random_crop for a wider spread.
        r: of the item.
    """
    target = options.resolution
    faces = options.faces
    assert faces is not None
    if size == target:
        return Placement(target, target, 0.0), (0, 0)
    scale = _scale(size, face, options, r)
    resized = (max(target[0], int(size[0] * scale + 0.5)), max(target[1], int(size[1] * scale + 0.5)))
    middle = (int(face.x * scale + 0.5), int(face.y * scale + 0.5))
    ends = []
    for axis in (1, 0):  # kohya draws for the height first
        start = middle[axis] - target[axis] // 2
        start += _shake(resized[axis], middle[axis], face, options, r)
        ends.append(max(0, min(start, resized[axis] - target[axis])))
    error = abs(target[0] / target[1] - size[0] / size[1])
    return Placement(target, resized, error), (ends[1], ends[0])


def _scale(size: Size, face: Face, options: DatasetOptions, r: random.Random) -> float:
    """The picture is shrunk until the cut is within the range of face sizes, and never below the cut's own size."""
    target, faces = options.resolution, options.faces
    assert faces is not None
    side, largest = min(target), max(face.width, face.height)
    cover = max(target[0] / size[0], target[1] / size[1])
    if cover > 1:
        return cover  # smaller than the cut: kohya's scripts stop here
    low = min(1.0, max(cover, side / (largest * faces[1])))
    high = min(1.0, max(low, side / (largest * faces[0])))
    return low if low >= high else r.uniform(low, high)


def _shake(length: int, middle: int, face: Face, options: DatasetOptions, r: random.Random) -> int:
    """How far the cut is moved off the face's middle."""
    if options.random_crop:
        reach = max(length - middle, middle)
        return r.randint(0, reach) + r.randint(0, reach) - reach
    largest, faces = max(face.width, face.height), options.faces
    assert faces is not None
    if faces[0] == faces[1] or largest <= min(options.resolution) // 10 or largest < SMALL_FACE:
        return 0
    return r.randint(-largest // 20, largest // 20)  # kohya rounds the lower end down
