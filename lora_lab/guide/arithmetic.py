"""Steps as arithmetic: pictures x repeats / batch x epochs, and what changing each number does."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Numbers:
    """What makes the steps of a run."""

    items: tuple[int, ...]
    """Training pictures of each bucket, repeats counted."""
    reg: tuple[int, ...] = ()
    """Regularisation pictures of each bucket, as an epoch takes them; as many buckets as `items`, or none."""
    batch: int = 1
    accumulation: int = 1
    epochs: int = 1
    most: int | None = None
    """max_train_steps, where that ends the run."""

    @property
    def pictures(self) -> int:
        """Training pictures of an epoch."""
        return sum(self.items)

    @property
    def regularised(self) -> int:
        """Regularisation pictures of an epoch."""
        return sum(self.reg)

    @property
    def batches(self) -> int:
        """Of an epoch: a batch never mixes buckets, each bucket's last one is short."""
        reg = self.reg or (0,) * len(self.items)
        return sum(math.ceil((a + b) / self.batch) for a, b in zip(self.items, reg, strict=True))

    @property
    def per_epoch(self) -> int:
        """Steps of an epoch."""
        return math.ceil(self.batches / self.accumulation)

    @property
    def steps(self) -> int:
        """Of the run."""
        steps = self.per_epoch * self.epochs
        return steps if self.most is None else min(steps, self.most) if self.epochs else self.most


@dataclass(frozen=True)
class Change:
    """One number changed."""

    what: str
    steps: int
    """Then."""
    effect: str
    """What that means, besides the number."""


def changes(n: Numbers) -> list[Change]:
    """What changing each number does to the steps."""
    found = [
        Change("one epoch more", replace(n, epochs=n.epochs + 1, most=None).steps, "one more pass, one more snapshot"),
        Change("repeats twice as many", _doubled(n).steps, "the same pictures, twice in an epoch: fewer snapshots"),
        Change("a batch twice as large", replace(n, batch=2 * n.batch).steps,
               "the same pictures in half of the steps, each a little surer; more memory"),
        Change("accumulation twice as much", replace(n, accumulation=2 * n.accumulation).steps,
               "as a larger batch, but in the same memory and time"),
    ]  # fmt: skip
    if n.regularised:
        effect = "half of the steps; the style comes along"
        found.append(Change("without regularisation", replace(n, reg=()).steps, effect))
    elif n.pictures:
        effect = "twice the steps; the pictures' style stays out"
        found.append(Change("with regularisation", replace(n, reg=n.items).steps, effect))
    if len(n.items) > 1:
        one = replace(n, items=(n.pictures,), reg=(n.regularised,) if n.reg else ())
        found.append(Change("all in one bucket", one.steps, "no short batches"))
    return found


def _doubled(n: Numbers) -> Numbers:
    return replace(n, items=tuple(2 * c for c in n.items), reg=tuple(2 * c for c in n.reg))
