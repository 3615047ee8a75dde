"""Several taggers as one: the mean, the highest, or what a majority says, over all tags that any of them knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from lora_lab.errors import SettingsError
from lora_lab.tagging import names
from lora_lab.tagging.scores import FLOOR, Scores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lora_lab.tagging.tags import Tag

How = Literal["mean", "max", "vote"]


def combine(all_scores: Sequence[Scores], how: How = "mean") -> Scores:
    """One set of probabilities out of several, of the same pictures.

    A tagger says nothing of tags that it does not know; only those that know a tag are asked. `vote` gives the
    probability that more than half of them reach: it passes any threshold that a majority passes.

    Args:
        all_scores: of each tagger; at least one.
        how: see above.

    Raises:
        SettingsError: nothing to combine, another word for `how`, or not the same number of pictures.
    """
    if how not in get_args(How):
        raise SettingsError(f"taggers cannot be combined by {how!r}", remedy=f"use one of {', '.join(get_args(How))}")
    if not all_scores:
        raise SettingsError("there is no tagger to combine", remedy="choose at least one")
    if len({len(scores) for scores in all_scores}) > 1:
        raise SettingsError("the taggers saw different pictures", remedy="tag them all with each")
    if len(all_scores) == 1:
        return all_scores[0]
    joint = _joint([scores.tags for scores in all_scores])
    width = len(joint.tags)
    places = [
        scores.rows * width + columns[scores.columns] for scores, columns in zip(all_scores, joint.columns, strict=True)
    ]
    where, inverse = np.unique(np.concatenate(places), return_inverse=True)
    values = _spread(all_scores, joint, inverse.reshape(-1), where % width)
    found = _taken(values, joint.known[where % width], how)
    kept = found >= FLOOR
    rows, columns = where[kept] // width, (where[kept] % width).astype(np.int32)
    starts = np.searchsorted(rows, np.arange(len(all_scores[0]) + 1))
    return Scores(joint.tags, starts.astype(np.int64), columns, found[kept].astype(np.float32))


def moved(scores: Scores, own: float, common: float) -> Scores:
    """Bend probabilities so that a tagger's own threshold becomes the common one; 0 and 1 stay.

    Taggers differ much in where precision equals recall: .26 for one, .53 for another. Combined as they are, the
    careful one would be overruled.

    Args:
        scores: of one tagger.
        own: its threshold, between 0 and 1.
        common: where that is to come to lie, between 0 and 1.
    """
    values = np.interp(scores.values, (0.0, own, 1.0), (0.0, common, 1.0)).astype(np.float32)
    return replace(scores, values=values)


@dataclass(frozen=True)
class _Joint:
    """All taggers' tags in one list."""

    tags: tuple[Tag, ...]
    columns: list[NDArray[np.int64]]
    """For each tagger: its column -> the joint one."""
    known: NDArray[np.int64]
    """(joint tags,): how many taggers know it."""


def _joint(lists: Sequence[Sequence[Tag]]) -> _Joint:
    """The first tagger's names and categories win; counts are the highest."""
    place: dict[str, int] = {}
    tags: list[Tag] = []
    columns = []
    for known in lists:
        mine = []
        for tag in known:
            column = place.setdefault(names.key(tag.name), len(tags))
            if column == len(tags):
                tags.append(tag)
            elif tag.count > tags[column].count:
                tags[column] = replace(tags[column], count=tag.count)
            mine.append(column)
        columns.append(np.array(mine, np.int64))
    counts = np.zeros(len(tags), np.int64)
    for mapping in columns:
        counts[np.unique(mapping)] += 1
    return _Joint(tuple(tags), columns, counts)


def _spread(
    all_scores: Sequence[Scores], joint: _Joint, inverse: NDArray[np.int64], column: NDArray[np.int64]
) -> NDArray[np.float32]:
    """(taggers, places): each one's probability; 0 where it gave none, -1 where it does not know the tag."""
    values = np.zeros((len(all_scores), len(column)), np.float32)
    begin = 0
    for row, scores, columns in zip(values, all_scores, joint.columns, strict=True):
        unknown = np.ones(len(joint.tags), bool)
        unknown[columns] = False
        row[unknown[column]] = -1
        end = begin + len(scores.values)
        np.maximum.at(row, inverse[begin:end], scores.values)
        begin = end
    return values


def _taken(values: NDArray[np.float32], known: NDArray[np.int64], how: How) -> NDArray[np.float32]:
    if how == "max":
        return np.asarray(values.max(axis=0), np.float32)
    if how == "mean":
        return np.asarray(np.maximum(values, 0).sum(axis=0) / known, np.float32)
    falling = -np.sort(-values, axis=0)  # those that do not know the tag come last
    return np.asarray(np.take_along_axis(falling, (known // 2)[None], axis=0)[0], np.float32)
