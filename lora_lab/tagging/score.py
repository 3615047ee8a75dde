"""How much of what was asked for a tagger finds: the score of a concept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from lora_lab.errors import SettingsError
from lora_lab.tagging.tags import Tag

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def found(
    probabilities: NDArray[np.float32], tags: Sequence[Tag], wanted: Iterable[str], threshold: float = 0.5
) -> float:
    """The share of pairs (picture, wanted tag) in which the tagger finds the tag.

    Args:
        probabilities: (pictures, tags), from `Tagger.probabilities`.
        tags: the columns, `Tagger.tags`.
        wanted: names of tags, with blanks or underscores.
        threshold: a tag counts as found from this probability on.

    Returns:
        0 to 1.

    Raises:
        SettingsError: the tagger does not know a tag, or there is nothing to look at.
    """
    columns = [column(tags, name) for name in wanted]
    if not columns or len(probabilities) == 0:
        raise SettingsError("nothing to score", remedy="give at least one picture and one tag")
    return float((probabilities[:, columns] >= threshold).mean())


def column(tags: Sequence[Tag], name: str) -> int:
    """The place of a tag, written with blanks or underscores.

    Raises:
        SettingsError: the tagger does not know it.
    """
    key = name.strip().replace(" ", "_")
    for index, tag in enumerate(tags):
        if tag.name.replace(" ", "_") == key:
            return index
    raise SettingsError(f"the tagger does not know the tag {name!r}", remedy="take a tag from its selected_tags.csv")
