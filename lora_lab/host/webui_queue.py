"""Whether anything of the webui's waits for its queue, or uses it."""

from __future__ import annotations

import time

from modules import call_queue, progress

LONGEST_WAIT = 600.0
"""Seconds. A task that waits longer while none is under way was lost by the webui."""


def queue_wanted() -> bool:
    """Is a task under way or waiting? A press of Generate waits from its first moment, before it reaches the queue."""
    if progress.current_task is not None or getattr(call_queue.queue_lock, "_pending_threads", None):
        return True
    now = time.time()
    return any(now - since < LONGEST_WAIT for since in tuple(progress.pending_tasks.values()))
