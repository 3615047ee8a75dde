"""The line in which runs wait: first come, first served. No torch here."""

from __future__ import annotations

import threading
from collections.abc import Hashable


class WaitingLine:
    """Whoever stands first has the turn until they leave; the others wait, or give up."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._line: list[Hashable] = []

    def join(self, who: Hashable) -> None:
        """Stand behind all others."""
        with self._changed:
            self._line.append(who)

    def wait(self, who: Hashable) -> bool:
        """Until it is one's turn (True), or one has given up (False)."""
        with self._changed:
            self._changed.wait_for(lambda: who not in self._line or self._line[0] == who)
            return who in self._line

    def give_up(self, who: Hashable) -> bool:
        """Leave without having had a turn; False, and nothing happens, when one has it already or has left."""
        with self._changed:
            if who not in self._line[1:]:
                return False
            self._line.remove(who)
            self._changed.notify_all()
            return True

    def leave(self, who: Hashable) -> None:
        """The turn is over, or nothing came of it."""
        with self._changed:
            self._line.remove(who)
            self._changed.notify_all()
