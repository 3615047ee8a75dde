"""Rules on a run while it goes: what its curves show. A rate that is not found is told by `training/health.py`."""

from __future__ import annotations

from lora_lab.guide.facts import Facts
from lora_lab.guide.rules.base import Fired, Rule
from lora_lab.guide.source import OURS, guide

BACK = 1.05
"""Held-out loss so far above its lowest point means learning by heart."""


def _by_heart(f: Facts) -> Fired | None:
    held = f.course.held_out
    if len(held) < 4:
        return None
    step, lowest = min(held, key=lambda point: point[1])
    last = held[-1][1]
    if last < BACK * lowest or step > 0.75 * held[-1][0]:
        return None
    text = (
        f"the held-out pictures were best at step {step:,} ({lowest:.4f}, now {last:.4f}): the rest is learnt by heart"
    )
    return Fired(text, "take the snapshot nearest to it, or stop now")


def _lower_than_usual(f: Facts) -> Fired | None:
    averages = f.course.averages
    if len(averages) < 20 or averages[-1][1] >= 0.02:
        return None
    text = f"the loss is {averages[-1][1]:.4f} on average: the pictures are copied by now"
    return Fired(text, "look at an earlier snapshot")


RULES = (
    Rule("by-heart", "learning by heart", "loss on pictures that it never sees rises while its own falls", OURS,
         _by_heart, "warning", ("max_train_epochs", "validation_split"), "during"),
    Rule("copied", "a loss below the usual", "usual are 0.05 to 0.15; much less is a copy of the pictures",
         guide("Loss"), _lower_than_usual, "note", (), "during"),
)  # fmt: skip
