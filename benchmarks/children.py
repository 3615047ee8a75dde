"""Candidates that are processes of their own, each doing one step when asked: a peer may need packages of its own.

A child prints a line of JSON when it is ready, then reads lines: after each it does one step and answers with `seconds`
of its own clock, the `loss`, and `grown`, the MiB above its size before the first step. An empty line or the end of the
input ends it.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CLOCKS: Mapping[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


class Child:
    """A candidate's process, seen from the outside."""

    def __init__(self, command: Sequence[str], log: Path, *, counted: bool = False) -> None:
        """
        Args:
            command: what starts it.
            log: gets what it says on standard error.
            counted: tensors from 64 KiB on become mappings of their own, so that its memory is what lives, exactly. The
                system clears each page of each: the time is not what a user sees.

        Raises:
            RuntimeError: it ends before it is ready; with the end of its log.
        """
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        if counted:
            environment["MALLOC_MMAP_THRESHOLD_"] = str(64 * 1024)
        self._log = log
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
            )
        self.ready = self._answer()

    def step(self) -> dict[str, Any]:
        """Ask for a step; its answer.

        Raises:
            RuntimeError: the child has ended.
        """
        assert self._process.stdin is not None
        self._process.stdin.write("step\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End it."""
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                found: dict[str, Any] = json.loads(line)
                return found
        raise RuntimeError("a candidate has ended:\n" + self._log.read_text(errors="replace")[-3000:])


def resident() -> float:
    """MiB of this process now (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def serve(step: Callable[[], float], clock: str, ready: Mapping[str, Any]) -> None:
    """The child's side: say that it is ready, then step when asked."""
    now, before = CLOCKS[clock], resident()
    print(json.dumps(dict(ready)), flush=True)
    for line in sys.stdin:
        if not line.strip():
            return
        began = now()
        loss = step()
        seconds = now() - began
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
        print(json.dumps({"seconds": seconds, "loss": loss, "grown": grown}), flush=True)
