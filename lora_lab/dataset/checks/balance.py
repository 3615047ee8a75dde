"""Are the concepts balanced? How often each comes in an epoch, and the repeats that would make them equal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora_lab.dataset.problems import Problem, told

if TYPE_CHECKING:
    from lora_lab.dataset.folders import Subset

UNEVEN = 1.5
"""One concept coming this many times as often as another drowns it."""
MOST_REPEATS = 100


@dataclass(frozen=True)
class Share:
    """A concept's part of an epoch."""

    subset: Subset
    items: int
    """Pictures x repeats."""
    share: float
    """Of all training items, 0..1."""
    suggested: int
    """Repeats with which all concepts would come equally often."""


def shares(subsets: Sequence[Subset]) -> list[Share]:
    """Of each training subset with pictures, in their order."""
    train = [s for s in subsets if not s.regularisation and s.pictures]
    total = sum(s.repeats * len(s.pictures) for s in train)
    if not train:
        return []
    # What the largest concept has now stays; the others are brought up to it.
    most = max(s.repeats * len(s.pictures) for s in train)
    return [
        Share(s, s.repeats * len(s.pictures), s.repeats * len(s.pictures) / total,
              min(MOST_REPEATS, max(1, round(most / len(s.pictures)))))
        for s in train
    ]  # fmt: skip


def look(subsets: Sequence[Subset]) -> list[Problem]:
    """Concepts that are drowned by others; for each the repeats that balance it."""
    found = shares(subsets)
    if len(found) < 2:
        return []
    most = max(found, key=lambda share: share.items)
    problems = []
    for share in found:
        if share.items * UNEVEN <= most.items and share.suggested != share.subset.repeats:
            why = (
                f"it comes {share.items} times in an epoch, '{most.subset.name}' {most.items} times: what is rare is "
                "learnt later"
            )
            remedy = f"give it {share.suggested} repeats instead of {share.subset.repeats}"
            problems.append(Problem(told(share.subset.folder), "imbalance", why, remedy))
    return problems
