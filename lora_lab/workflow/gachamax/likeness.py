"""How like the originals a picture is, and how unlike all others: by a tagger and by the eye of a thumbnail. No torch.

What the trigger stands for is what a tagger finds in the originals that their captions do not say: the captions name
what is to stay separable, the trigger takes in the rest (the guide's way of tagging).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lora_lab.tagging import names
from lora_lab.tagging.tags import CHARACTER, GENERAL

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from lora_lab.tagging.tags import Tag

PRESENT = 0.35
"""A tag counts as seen from this probability on: the WD taggers' usual threshold."""
SIDE = 16
"""Of the thumbnails that pictures are compared by, in pixels."""
COPY = 0.02
"""Mean difference of thumbnails (0..1) below which two pictures are the same one."""
LIKENESS_SHARE = 0.7
"""Of the order: likeness against variety."""


@dataclass(frozen=True)
class Concept:
    """What is to be learnt, as a tagger sees it."""

    columns: tuple[int, ...]
    """Of the tagger's output."""
    tags: tuple[str, ...]
    """Their names, with blanks."""

    def likeness(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        """(pictures, tags) to (pictures,): the mean probability of the concept's tags, 0..1."""
        if not self.columns:
            return np.zeros(len(probabilities), np.float32)
        return np.asarray(probabilities[:, list(self.columns)].mean(1), np.float32)


def concept_of(
    probabilities: NDArray[np.float32], tags: Sequence[Tag], captions: Sequence[Sequence[str]]
) -> Concept:
    """What the originals show and their captions do not say; all that they show where the captions say it all.

    Args:
        probabilities: (originals, tags), 0..1.
        tags: the columns.
        captions: each original's tags; any trigger among them is unknown to the tagger.
    """
    seen = [
        column
        for column, tag in enumerate(tags)
        if tag.category in (GENERAL, CHARACTER) and float(probabilities[:, column].mean()) >= PRESENT
    ]
    said = {names.key(tag) for caption in captions for tag in caption}
    unsaid = [column for column in seen if names.key(tags[column].name) not in said]
    columns = tuple(unsaid or seen)
    return Concept(columns, tuple(names.spaced(tags[column].name) for column in columns))


def thumbnails(images: Sequence[Image.Image]) -> NDArray[np.float32]:
    """Pictures of any size as (pictures, SIDE * SIDE * 3) in 0..1."""
    small = [np.asarray(image.convert("RGB").resize((SIDE, SIDE)), np.float32) / 255 for image in images]
    return np.stack(small).reshape(len(small), -1) if small else np.zeros((0, SIDE * SIDE * 3), np.float32)


def distances(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean absolute differences of thumbnails, (one, other), 0..1."""
    return np.asarray(np.abs(one[:, None] - other[None]).mean(2), np.float32)


def order(
    likeness: NDArray[np.float32], small: NDArray[np.float32], there: NDArray[np.float32]
) -> tuple[list[int], NDArray[np.float32]]:
    """The best first: each next one is like the originals, and unlike what is there and what stands before it.

    Args:
        likeness: (candidates,), 0..1.
        small: their thumbnails.
        there: thumbnails of the pictures that the dataset has, at least one.

    Returns:
        The order, and of each candidate the distance to the nearest picture of the dataset.
    """
    nearest = distances(small, there).min(1)
    apart = nearest.copy()
    left, found = list(range(len(likeness))), []
    while left:
        widest = max(float(apart.max()), 1e-6)
        best = max(left, key=lambda i: LIKENESS_SHARE * likeness[i] + (1 - LIKENESS_SHARE) * apart[i] / widest)
        found.append(best)
        left.remove(best)
        apart = np.minimum(apart, distances(small, small[best : best + 1])[:, 0])
    return found, nearest


def outliers(likeness: Sequence[float]) -> list[int]:
    """Which stick out below: by more than one and a half times the middle half's width, and by a tenth at least."""
    if len(likeness) < 4:
        return []
    low, high = np.percentile(np.asarray(likeness), (25, 75))
    edge = min(low - 1.5 * (high - low), low - 0.1)
    return [i for i, value in enumerate(likeness) if value < edge]
