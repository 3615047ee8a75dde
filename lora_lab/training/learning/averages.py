"""Running figures: kohya's moving average of the loss, and the speed."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence


class LossAverage:
    """Mean over the last epoch's worth of batches, as kohya's progress line shows it.

    During the first epoch the mean of all so far; from the second on each batch takes the place of the same batch of
    the epoch before.
    """

    def __init__(self, batches_per_epoch: int, before: Sequence[float] = ()) -> None:
        self._losses: deque[float] = deque(before[-max(1, batches_per_epoch) :], maxlen=max(1, batches_per_epoch))

    def add(self, loss: float) -> None:
        """One batch's loss."""
        self._losses.append(loss)

    @property
    def window(self) -> tuple[float, ...]:
        """The losses that it is the mean of, the oldest first."""
        return tuple(self._losses)

    @property
    def value(self) -> float:
        """The mean; 0 before the first."""
        return sum(self._losses) / len(self._losses) if self._losses else 0.0


class Speed:
    """Seconds per step over the last steps, waiting for pictures in between not counted."""

    def __init__(self, window: int = 50) -> None:
        self._seconds: deque[float] = deque(maxlen=window)

    def add(self, seconds: float) -> None:
        """How long one step took."""
        self._seconds.append(seconds)

    @property
    def per_step(self) -> float:
        """Seconds; 0 before the first step."""
        return sum(self._seconds) / len(self._seconds) if self._seconds else 0.0
