"""The line in which runs wait: first come, first served. No torch here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable

LOOK_SECONDS = 0.5
"""Between two questions whether one that waits gives up."""


class WaitingLine:
    """Whoever stands first has the turn until they leave; the others wait, or give up."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._line: list[Hashable] = []

    def join(self, who: Hashable) -> None:
        """Stand behind all others."""
        with self._changed:
            self._line.append(who)

    def wait(self, who: Hashable, leave: Callable[[], bool] = lambda: False) -> bool:
        """Until it is one's turn (True), or one has given up (False).

        Args:
            who: waits.
            leave: asked twice a second; True gives up.
        """
        with self._changed:
            while not self._changed.wait_for(lambda: who not in self._line or self._line[0] == who, LOOK_SECONDS):
                if leave():
                    self._line.remove(who)
                    self._changed.notify_all()
            return who in self._line

    def give_up(self, who: Hashable) -> bool:
        """Leave without having had a turn; False, and nothing happens, when one has it already or has left."""
        with self._changed:
            if who not in self._line[1:]:
                return False
            self._line.remove(who)
            self._changed.notify_all()
            return True

    def order(self) -> tuple[Hashable, ...]:
        """Whoever is in it, the one with the turn first."""
        with self._changed:
            return tuple(self._line)

    def move(self, who: Hashable, by: int) -> bool:
        """Forward (below 0) or back in the line, behind the one that has the turn; False when one waits no more."""
        with self._changed:
            if who not in self._line[1:]:
                return False
            place = self._line.index(who)
            self._line.remove(who)
            self._line.insert(max(1, place + by), who)
            return True

    def leave(self, who: Hashable) -> None:
        """The turn is over, or nothing came of it."""
        with self._changed:
            self._line.remove(who)
            self._changed.notify_all()
