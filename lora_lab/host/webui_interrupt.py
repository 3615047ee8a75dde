"""Whether the webui's Interrupt was meant for us.

The webui has one flag, `shared.state.interrupted`, and no word about who it is for. A picture's job clears it when
it begins, and a picture made through the API leaves it set at its end. 'Reload UI' sets it too. So a raised flag
is ours only if no job ran since we last looked and no reload was asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from lora_lab.host.webui_types import State


class InterruptWatch:
    """Tells our interrupts from those of pictures and of 'Reload UI'. Each press is told once."""

    def __init__(self, state: State) -> None:
        """Begin to watch.

        Args:
            state: the webui's `shared.state`.
        """
        self._state = state
        self._job_begun: object = self
        self._reloading = False
        self._pressed = False
        self._hear_reload()

    def look(self) -> None:
        """Note what the flag means now. Called at both ends of a lease, while no job can run, and by `take`."""
        state = self._state
        if state.job:
            return  # a job is running: the flag is its own, and what we last saw stays what we last saw
        ours = self._job_begun == state.time_start and not self._reloading
        self._job_begun = state.time_start
        self._reloading = False
        if state.interrupted:
            # Nobody else reads the flag between jobs, and a second press must be seen.
            state.interrupted = False
            self._pressed = self._pressed or ours

    def take(self) -> bool:
        """True if Interrupt was pressed, for us, since the last call."""
        self.look()
        pressed, self._pressed = self._pressed, False
        return pressed

    def _hear_reload(self) -> None:
        """'Reload UI' is one call that raises the flag first: be told before it does."""
        state = self._state
        original: Callable[[], None] = getattr(state.request_restart, "lora_lab_original", state.request_restart)

        def request_restart() -> None:
            self._reloading = True
            original()

        request_restart.lora_lab_original = original  # type: ignore[attr-defined]
        state.request_restart = request_restart
