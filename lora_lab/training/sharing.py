"""How a run shares its model with pictures: the length of a turn, when it gives way, what share it had. No torch here.

- `share`: turns of about a second; the queue is first come, first served, so a picture comes after the turn.
- `pictures first`: turns of one step, and none while a picture is made or wanted, nor in the second after.
- `training first`: turns of ten seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora_lab.training.events import Event, Progress, Warned

if TYPE_CHECKING:
    from lora_lab.host.base import Host
    from lora_lab.training.record.wish import Wishes

TURN_SECONDS = 1.0
"""A turn of training ends after about so long (at least one step), so that pictures can come in between."""
LONG_TURN_SECONDS = 10.0
"""When training comes first; and with weights in 8 bits, where putting the others aside takes a part of a second."""
QUIET_SECONDS = 1.0
"""No picture was wanted for so long: where they come first, the next step may be done."""
LOOK_SECONDS = 0.05
"""Between two looks at whether pictures are wanted, or the run may go on."""
RETRY_SECONDS = 1.0
"""How often a checkpoint that was exchanged during the run is asked for again."""
SHORT_MB = 1500.0
"""So little free memory on the device, and a picture may not have enough."""


@dataclass
class Shares:
    """The time a run had the model, and the time it waited for it."""

    held: float = 0.0
    waited: float = 0.0

    @property
    def training(self) -> float:
        """Share of the training, from 0 to 1; 1 while nothing is known."""
        return self.held / (self.held + self.waited) if self.held else 1.0


class Rest:
    """What a run does between two turns: pause, give way to pictures, wait for its checkpoint."""

    def __init__(self, host: Host, wishes: Wishes, mode: str, stop: Callable[[], bool]) -> None:
        """
        Args:
            host: where pictures are made.
            wishes: of the run.
            mode: the setting `sharing`.
            stop: asked while it waits.
        """
        self._host = host
        self._wishes = wishes
        self._mode = mode
        self._stop = stop
        self._told_busy = False
        self._told_short = False
        self.shares = Shares()
        """Filled by the turns, and by waiting here for pictures."""

    def __call__(self) -> Iterator[Event]:
        """Wait as long as the run is paused or pictures come first; a stop ends it."""
        if self._wishes.now == "pause":
            yield Progress("paused", 0, 1)
            while self._wishes.now == "pause" and not self._stop():
                time.sleep(LOOK_SECONDS)
        began = time.monotonic()
        if self._mode == "pictures_first":
            self._give_way()
        elif self._host.pictures_wanted():
            time.sleep(LOOK_SECONDS)  # who was woken by our leaving must reach the queue before we stand in it again
        self.shares.waited += time.monotonic() - began

    def busy(self, error: Exception) -> Iterator[Event]:
        """The person has loaded another checkpoint: say so once, and ask again a little later."""
        if not self._told_busy:
            yield Warned(f"Waiting to go on: {error}")
        self._told_busy = True
        time.sleep(RETRY_SECONDS)

    def had_turn(self) -> Iterator[Event]:
        """The checkpoint is there. Says once that a picture may lack memory beside the run."""
        self._told_busy = False
        if self._told_short:
            return
        self._told_short = True
        memory = self._host.memory()
        if memory.free < min(SHORT_MB, memory.total / 10):
            yield Warned(
                f"Only {memory.free:.0f} MiB of memory are free beside this run: it can hardly share, a picture made "
                "meanwhile may fail. Choose gradient_checkpointing, a smaller train_batch_size or resolution, or make "
                "pictures after it."
            )

    def _give_way(self) -> None:
        quiet = time.monotonic()
        if not self._host.pictures_wanted():
            return
        while time.monotonic() - quiet < QUIET_SECONDS and not self._stop():
            time.sleep(LOOK_SECONDS)
            if self._host.pictures_wanted():
                quiet = time.monotonic()


def turn_seconds(mode: str, *, slow_to_enter: bool) -> float:
    """How long a turn lasts; at least one step is done in any.

    Args:
        mode: the setting `sharing`.
        slow_to_enter: entering and leaving a turn takes a part of a second.
    """
    if mode == "training_first" or slow_to_enter:
        return LONG_TURN_SECONDS
    return 0.0 if mode == "pictures_first" else TURN_SECONDS
