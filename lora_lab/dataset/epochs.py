"""What an epoch is: its items, their order in batches, their captions. Pure: no torch, nothing is decoded.

Every draw is keyed by seed, epoch and item, so that a run that is resumed at any step goes on with the same batches.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass

from lora_lab.dataset import captions
from lora_lab.dataset.buckets import Size
from lora_lab.dataset.captions import Moment
from lora_lab.dataset.scan import ScanReport, epoch_items, require_pictures


@dataclass(frozen=True)
class BatchPlan:
    """Which items make a batch; all of one bucket of one dataset."""

    epoch: int
    """1-based."""
    indices: tuple[int, ...]
    """Positions in the epoch's items, repeats counted."""
    step: int = 0
    """Optimizer steps done before it."""


class Epochs:
    """The epochs of a scan."""

    def __init__(self, report: ScanReport) -> None:
        """
        Args:
            report: from `scan`.

        Raises:
            DatasetError: there is no picture to train on, or a mask is missing.
        """
        require_pictures(report)
        self.items = [item for item, count in epoch_items(report) for _ in range(count)]
        self.steps = 0
        """Of the whole run; token_warmup_step below 1 is a share of it."""
        self._seed = report.options.seed

    def batches(self, epoch: int) -> list[BatchPlan]:
        """The batches of an epoch (1-based), shuffled; a bucket's last batch is short."""
        r = self.random("order", epoch, 0)
        buckets: dict[tuple[int, Size], list[int]] = defaultdict(list)
        for index, item in enumerate(self.items):
            buckets[item.subset.dataset, item.placement.bucket].append(index)
        plans: list[BatchPlan] = []
        for indices in buckets.values():
            size = self.items[indices[0]].subset.options.train_batch_size
            r.shuffle(indices)
            plans += [BatchPlan(epoch, tuple(indices[i : i + size])) for i in range(0, len(indices), size)]
        r.shuffle(plans)
        return plans

    def caption(self, index: int, epoch: int, step: int = 0) -> str:
        """The caption of an item (its place in the epoch's items) in an epoch, all options applied."""
        item = self.items[index]
        r = self.random("caption", epoch, index)
        return captions.process(item.picture.caption, item.subset.options, Moment(epoch, step, self.steps), r)

    def random(self, what: str, epoch: int, index: int) -> random.Random:
        """The chance of one item in one epoch."""
        # A text seeds by its hash (version 2), the same in every process; a tuple would not.
        return random.Random(f"{what} {self._seed} {epoch} {index}")
