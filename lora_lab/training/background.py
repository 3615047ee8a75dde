"""Work that reports its progress by calling back, turned into a stream of events."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from typing import Generic, TypeVar

from lora_lab.errors import Interrupted
from lora_lab.training.events import Progress

T = TypeVar("T")

Report = Callable[[int, int], None]
"""Called with pieces done and pieces in all; raises `Interrupted` when the work is to stop."""


class _Outcome(Generic[T]):
    def __init__(self) -> None:
        self.value: T | None = None
        self.error: BaseException | None = None


def reporting(stage: str, work: Callable[[Report], T], stop: Callable[[], bool]) -> Generator[Progress, None, T]:
    """Run `work` in a helper thread and yield a `Progress` for each of its reports.

    Args:
        stage: the name of the events.
        work: called with a `Report`.
        stop: asked at each report; when it says yes, the work is interrupted there.

    Returns:
        What `work` returned.

    Raises:
        Interrupted: it was stopped. Whatever else `work` raises is raised here.
    """
    reports: queue.SimpleQueue[Progress | None] = queue.SimpleQueue()
    left = threading.Event()
    outcome: _Outcome[T] = _Outcome()

    def report(done: int, total: int) -> None:
        if left.is_set() or stop():
            raise Interrupted(f"stopped while {stage}")
        reports.put(Progress(stage, done, total))

    def body() -> None:
        try:
            outcome.value = work(report)
        except BaseException as error:  # noqa: B036 - raised again in the caller's thread
            outcome.error = error
        finally:
            reports.put(None)

    thread = threading.Thread(target=body, name=f"lora-lab {stage}", daemon=True)
    thread.start()
    try:
        while (event := reports.get()) is not None:
            yield event
    finally:
        left.set()
        thread.join()
    if outcome.error is not None:
        raise outcome.error
    return outcome.value  # type: ignore[return-value]
