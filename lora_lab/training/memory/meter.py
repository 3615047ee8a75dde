"""How much memory a piece of work needs at its peak, above what there was: on a graphics card by the allocator's own
counters, on a CPU by torch's profiler, which is told of every allocation and every release."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

MIB = 2**20
MEMORY = "[memory]"
"""The profiler's name of an allocation or release."""


@dataclass
class Peak:
    """Filled in when the work is done."""

    mb: float = 0.0


@contextmanager
def peak(device: torch.device) -> Iterator[Peak]:
    """Inside, tensors on `device` are counted; the peak stands in what is given when it is left without an error."""
    found = Peak()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        yield found
        torch.cuda.synchronize(device)
        found.mb = (torch.cuda.max_memory_allocated(device) - before) / MIB
        return
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        yield found
    results: Any = profiler.profiler
    found.mb = _highest(results.kineto_results.events()) / MIB


def _highest(events: Any) -> int:  # noqa: ANN401 - the profiler's own
    """The highest sum of all allocations (bytes above 0) and releases (below), in the order of time."""
    marks = [(_when(event), event.nbytes()) for event in events if event.name() == MEMORY]
    now = highest = 0
    for _, size in sorted(marks, key=lambda mark: mark[0]):
        now += size
        highest = max(highest, now)
    return highest


def _when(event: Any) -> int:  # noqa: ANN401
    return int(event.start_ns() if hasattr(event, "start_ns") else event.start_us())
