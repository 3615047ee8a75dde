"""Is the run well? Plain sentences, each said once, from the figures of its steps. No torch here."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Iterator, Mapping

from lora_lab.families import BASE

MOST_SKIPPED = 5
"""So many steps in a row without a number, and the run ends: it does not come back by itself."""
SETTLED = 20
"""Steps before any figure is judged."""
EXPLODED = 3.0
"""Times its best that the loss may grow to, as a mean of the last `SETTLED` averages: the average is one epoch's, which
may be five steps, and a loss moves by the noise of its timesteps."""
STUCK_AFTER = 50
"""Steps in which an adaptive optimizer has usually left its first d (prodigyopt's d0 is 1e-6)."""
SLOWER = 3.0
"""Times the usual seconds of a step that the latest ones may take."""
WINDOW = 10
RUNAWAY = 3.0
"""Times that what the adapter adds may grow from one epoch to the next, from the third on: it grows with the steps."""
FINDING = 1.1
"""Times that an adaptive optimizer's d grows in an epoch while it is being found; weights grow with it."""


class Health:
    """Watches the figures of a run."""

    def __init__(self, optimizer: str) -> None:
        """
        Args:
            optimizer: its name, for the sentences.
        """
        self._optimizer = optimizer
        self._steps = 0
        self._best = float("inf")
        self._averages: deque[float] = deque(maxlen=SETTLED)
        self._first: Mapping[str, float] = {}
        self._seconds: deque[float] = deque(maxlen=200)
        self._told: set[str] = set()
        self._d, self._d_before = 0.0, 0.0
        self._norms: dict[str, list[float]] = {"UNet": [], "text encoder": []}
        self._in_a_row = 0
        self._any_good = False
        self.skipped = 0
        """Steps whose loss or gradients were no numbers; they have changed nothing."""

    def skip(self) -> bool:
        """A step was no number. False when the run should end: no step was good yet, or too many in a row were not."""
        self.skipped += 1
        self._in_a_row += 1
        return self._any_good and self._in_a_row < MOST_SKIPPED

    def good(self) -> None:
        """A step was a number."""
        self._any_good = True
        self._in_a_row = 0

    def take_skipped(self, step: int) -> str | None:
        """Said once: a step was left out."""
        if not self.skipped or "skipped" in self._told:
            return None
        self._told.add("skipped")
        return (
            f"The loss of a step was no number (by step {step}): it was left out and has changed nothing. If there are "
            "more, lower unet_lr and text_encoder_lr, or choose mixed_precision bf16 or no."
        )

    def watch(self, average: float, sizes: Mapping[str, float], seconds: float) -> Iterator[str]:
        """What there is to say after a good step.

        Args:
            average: of the loss.
            sizes: the d that an adaptive optimizer has found, by group; empty for others.
            seconds: of the step.
        """
        self._steps += 1
        self._d = max(sizes.values(), default=0.0)
        yield from self._once("loss", self._loss(average))
        yield from self._once("rate", self._rate(sizes))
        yield from self._once("time", self._time(seconds))

    def watch_norms(self, blocks: Mapping[str, float]) -> Iterator[str]:
        """What there is to say after an epoch.

        Args:
            blocks: the norm of what the adapter adds to each block; BASE stands for the text encoders.
        """
        rates = {"UNet": "unet_lr", "text encoder": "text_encoder_lr"}
        finding, self._d_before = self._d > FINDING * self._d_before, self._d
        for part, known in self._norms.items():
            inside = [norm for name, norm in blocks.items() if (name == BASE) == (part == "text encoder")]
            known.append(math.hypot(*inside))
            if not finding and len(known) >= 3 and known[-1] > RUNAWAY * known[-2] > 0:
                yield from self._once(f"norm {part}", (
                    f"The weights of the {part} run away: what is added to them has grown {known[-1] / known[-2]:.1f} "
                    f"times in an epoch, to a norm of {known[-1]:.3g}. Stop and halve {rates[part]}, or set "
                    "scale_weight_norms."
                ))

    def _once(self, topic: str, text: str) -> Iterator[str]:
        if text and topic not in self._told:
            self._told.add(topic)
            yield text

    def _loss(self, average: float) -> str:
        self._averages.append(average)
        if len(self._averages) < SETTLED:
            return ""
        now = statistics.fmean(self._averages)
        self._best = min(self._best, now)
        if now <= EXPLODED * self._best:
            return ""
        return (
            f"The average loss is {now / self._best:.1f} times its best ({now:.3f} against {self._best:.3f}): the "
            "learning rates are too high, stop and halve unet_lr and text_encoder_lr."
        )

    def _rate(self, sizes: Mapping[str, float]) -> str:
        """d has not moved at all."""
        if not sizes:
            return ""
        self._first = self._first or dict(sizes)
        stuck = all(value <= self._first.get(name, 0.0) * 1.01 for name, value in sizes.items())
        if self._steps < STUCK_AFTER or not stuck:
            return ""
        return (
            f"{self._optimizer} has not found a learning rate in {self._steps} steps, and so learns next to nothing: "
            "stop, and give optimizer_args d_coef=2 or a larger d0, or choose AdamW with a rate of your own."
        )

    def _time(self, seconds: float) -> str:
        self._seconds.append(seconds)
        if len(self._seconds) < SETTLED + WINDOW:
            return ""
        usual = statistics.median(list(self._seconds)[: -WINDOW])
        now = statistics.median(list(self._seconds)[-WINDOW:])
        if now <= SLOWER * usual:
            return ""
        return (
            f"A step takes {now:.2f} s, {now / usual:.1f} times as long as before: the device is asked too much, "
            "close other programs that use it, or choose gradient_checkpointing or a smaller train_batch_size."
        )
