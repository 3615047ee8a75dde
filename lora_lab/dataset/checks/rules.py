"""Checks on measured pictures: each a small function from numbers to what will hurt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lora_lab.dataset.checks.measure import Measures
from lora_lab.dataset.problems import Problem, told

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lora_lab.dataset.scan import Item

BLURRED = 0.10
DARK, BRIGHT = 38.0, 249.0
FLAT = 14.0
BAR = 0.03
"""Share of a side from which on a bar is told."""
LONG = 2.5
"""Sides beyond this ratio leave little of the picture in any bucket."""
NEAR_BITS, NEAR_COLOUR = 10, 12.0
"""Of 128 bits, and of 255: two pictures that differ by no more are nearly the same."""
NEAR_FIELD = 40.0
"""Of 255, in any of the 16 fields: a character with another hair is another picture."""
ALIKE = 0.8
"""A background on this share of the pictures is learnt with the subject."""

Measured = Mapping[Path, Measures]


def look(items: Sequence[Item], measured: Measured) -> list[Problem]:
    """All of them, picture by picture, then those between pictures."""
    found = [problem for item in items if item.picture.path in measured for problem in single(item, measured)]
    train = [item for item in items if not item.subset.regularisation and item.picture.path in measured]
    return [*found, *near_duplicates(train, measured), *same_background(train, measured)]


def single(item: Item, measured: Measured) -> Iterator[Problem]:
    """Blur, light, bars, shape."""
    numbers, name = measured[item.picture.path], told(item.picture.path)
    if numbers.brightness < DARK:
        yield Problem(name, "dark", f"it is very dark (mean {numbers.brightness:.0f} of 255)", "brighten it")
    elif numbers.brightness > BRIGHT:
        yield Problem(name, "bright", f"it is nearly white (mean {numbers.brightness:.0f} of 255)", "darken it")
    elif numbers.contrast < FLAT:
        why = f"it is nearly one colour (contrast {numbers.contrast:.0f} of 127)"
        yield Problem(name, "flat", why, "raise its contrast, or take it out")
    elif numbers.sharpness < BLURRED:
        why = "it is blurred: no edge in it is sharp, and what is soft is learnt as soft"
        yield Problem(name, "blurred", why, "use a sharper version")
    left, top, right, bottom = numbers.bars
    if max(left + right, top + bottom) > BAR:
        sides = [
            s for s, share in zip(("left", "top", "right", "bottom"), numbers.bars, strict=True) if share > BAR / 2
        ]
        why = f"it has bars of one colour ({', '.join(sides)}), which are learnt as a part of it"
        yield Problem(name, "bars", why, "crop them off")
    width, height = item.picture.size
    if max(width, height) > LONG * min(width, height):
        why = f"{width} x {height} is very long: scaled down to its bucket little is left of the subject"
        yield Problem(name, "long", why, "cut it into several pictures")


def near_duplicates(items: Sequence[Item], measured: Measured) -> list[Problem]:
    """Each picture that is nearly the same as an earlier one."""
    if len(items) < 2:
        return []
    bits = np.array([np.frombuffer(bytes.fromhex(measured[i.picture.path].fingerprint), np.uint8) for i in items])
    colours = np.array([measured[i.picture.path].colours for i in items], np.float32)
    problems = []
    for n in range(1, len(items)):
        near = np.flatnonzero(_differing(bits[:n] ^ bits[n]) <= NEAR_BITS)
        away = np.abs(colours[near] - colours[n])
        if (same := near[(away.mean(axis=1) <= NEAR_COLOUR) & (away.max(axis=1) <= NEAR_FIELD)]).size:
            twin = items[int(same[0])].picture.path
            why = f"it is nearly the same as {told(Path(twin.name))}: what both show is learnt twice"
            remedy = "keep the better one"
            problems.append(Problem(told(items[n].picture.path), "near-duplicate", why, remedy))
    return problems


def _differing(bits: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(n, bytes) -> (n,): bits that are set."""
    found: NDArray[np.int64] = np.unpackbits(bits, axis=1).sum(axis=1, dtype=np.int64)
    return found


def same_background(items: Sequence[Item], measured: Measured) -> list[Problem]:
    """Nearly all pictures of a concept have the same colours along their upper edge and corners."""
    by_subset: dict[Path, list[Item]] = {}
    for item in items:
        by_subset.setdefault(item.subset.folder, []).append(item)
    problems = []
    for folder, members in by_subset.items():
        if len(members) < 8:
            continue
        # Four fields of the upper row, and the lower corners' fields above the last row.
        edge = np.array([measured[i.picture.path].colours for i in members], np.float32).reshape(-1, 16, 3)
        edge = edge[:, [0, 1, 2, 3, 4, 7]]
        usual = np.median(edge, axis=0)
        share = float((np.abs(edge - usual).mean(axis=(1, 2)) < NEAR_COLOUR).mean())
        if share >= ALIKE:
            why = f"{share:.0%} of its pictures have one background, which will come with the subject"
            remedy = "use pictures with other backgrounds, or tag this one in each"
            problems.append(Problem(told(folder), "one-background", why, remedy))
    return problems
