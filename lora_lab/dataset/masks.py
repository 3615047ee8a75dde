"""Mask pictures: which parts of a picture count in the loss. Found by the pictures' names. No torch."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lora_lab.dataset.folders import THREADS, Picture, Subset
from lora_lab.dataset.pictures import EXTENSIONS, read_header
from lora_lab.dataset.problems import Problem, told

RULES = frozenset({"no-mask", "mask-size", "broken-mask"})
"""Problems that stop a training: a picture without its mask would be trained on whole."""


def with_masks(subset: Subset) -> tuple[Subset, list[Problem]]:
    """The subset, each picture with its mask, and what is wrong with them; unchanged where no masks are asked for.

    Masks lie in ``conditioning_data_dir/<folder's name>``, else in ``conditioning_data_dir`` itself, and are named as
    their pictures are, with any picture's ending.
    """
    options = subset.options
    if not options.masked_loss or not options.conditioning_data_dir or subset.regularisation:
        return subset, []
    root = Path(options.conditioning_data_dir)
    own = root / subset.folder.name
    masks = _by_stem(own if own.is_dir() else root)
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda picture: _mask(picture, masks, root), subset.pictures))
    pictures = tuple(
        dataclasses.replace(p, mask=m) if isinstance(m, Path) else p
        for p, m in zip(subset.pictures, found, strict=True)
    )
    return dataclasses.replace(subset, pictures=pictures), [m for m in found if isinstance(m, Problem)]


def _by_stem(folder: Path) -> dict[str, Path]:
    try:
        paths = sorted(folder.iterdir())
    except OSError:
        return {}
    return {path.stem: path for path in paths if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")}


def _mask(picture: Picture, masks: dict[str, Path], root: Path) -> Path | Problem:
    mask = masks.get(picture.path.stem)
    if mask is None:
        why = f"it has no mask in {told(root)}"
        remedy = f"put {picture.path.stem}.png there, white where the picture counts"
        return Problem(told(picture.path), "no-mask", why, remedy, "error")
    header = read_header(mask)
    if isinstance(header, Problem):
        return Problem(told(mask), "broken-mask", f"the mask cannot be used: {header.why}", header.remedy, "error")
    if header.size != picture.size:
        (wide, high), (w, h) = header.size, picture.size
        why = f"the mask has {wide} x {high} pixels, its picture {w} x {h}"
        return Problem(told(mask), "mask-size", why, "make it as large as its picture", "error")
    return mask
