"""How one batch sees a picture: where it is cut, whether it is mirrored, in which colours; its pixels and its mask."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lora_lab.dataset import pictures
from lora_lab.dataset.buckets import Placement, Size
from lora_lab.dataset.colour import Colours, draw_colours, recoloured
from lora_lab.dataset.faces import around_face, face_of
from lora_lab.dataset.problems import told
from lora_lab.dataset.scan import Item
from lora_lab.errors import DatasetError


@dataclass(frozen=True)
class View:
    """An item as one batch sees it."""

    item: Item
    flipped: bool
    placement: Placement
    """How large the picture is made before it is cut."""
    crop: Size
    """Left and top of the cut."""
    colours: Colours | None = None


def plain_view(item: Item, *, flipped: bool) -> View:
    """The centre of the picture, as the latents' cache holds it."""
    return View(item, flipped, item.placement, item.placement.centre())


def drawn_view(item: Item, r: random.Random) -> View:
    """How an item is seen this time.

    Args:
        item: with the options of its subset.
        r: of the item and the epoch.
    """
    options, place = item.subset.options, item.placement
    flipped = options.flip_aug and r.random() < 0.5
    crop = place.centre()
    face = face_of(item.picture.path) if options.face_crop_aug_range and options.faces else None
    if face is not None and options.faces is not None:
        place, crop = around_face(item.picture.size, face, options, r)
    elif options.random_crop:
        room = (place.resized[0] - place.bucket[0], place.resized[1] - place.bucket[1])
        crop = (r.randint(0, room[0]), r.randint(0, room[1]))
    return View(item, flipped, place, crop, draw_colours(r) if options.color_aug else None)


def pixels(view: View) -> Tensor:
    """(3, h, w) in -1..1.

    Raises:
        DatasetError: the picture has vanished or changed, or cannot be decoded.
    """
    item = view.item
    how = item.subset.options.resize_interpolation
    try:
        picture = pictures.load(item.picture.path, view.placement, view.crop, size=item.picture.size, how=how)
    except OSError as error:
        raise unreadable(item.picture.path, error) from error
    if view.colours is not None:
        picture = recoloured(picture, view.colours)
    array = torch.from_numpy(np.asarray(picture, dtype=np.float32) / 127.5 - 1).permute(2, 0, 1)
    return array.flip(2) if view.flipped else array


def mask(view: View) -> Tensor | None:
    """How much each place of the latent counts, (1, h/8, w/8) in 0..1; None where all of them do.

    The mask picture goes the picture's way (resized, cut, mirrored) and is then averaged over the 8 x 8 pixels of each
    place.

    Raises:
        DatasetError: as `pixels`.
    """
    item, options = view.item, view.item.subset.options
    path = item.picture.mask
    channel = "R"
    if path is None and options.alpha_mask and item.picture.has_alpha:
        path, channel = item.picture.path, "A"
    if path is None:
        return None
    try:
        found = pictures.load_channel(path, channel, view.placement, view.crop, size=item.picture.size)
    except OSError as error:
        raise unreadable(path, error) from error
    array = torch.from_numpy(np.asarray(found, dtype=np.float32) / 255)[None]
    array = array.flip(2) if view.flipped else array
    return functional.avg_pool2d(array, 8)


def unreadable(path: Path, error: OSError) -> DatasetError:
    """A picture that was good when the dataset was checked."""
    if not path.exists():
        remedy = "put it back, or check the dataset again"
        return DatasetError("the picture is gone since the dataset was checked", file=told(path), remedy=remedy)
    why = error.strerror or str(error) or type(error).__name__
    remedy = "replace it or take it out of the folder, and check the dataset again"
    return DatasetError(f"the picture cannot be read: {why}", file=told(path), remedy=remedy)
