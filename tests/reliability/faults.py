"""Exceptions thrown at random places of a run's edges: host, dataset, files, optimizer, preview.

    python -m tests.reliability.faults [--faults 100] [--seed 1]

A rehearsal counts how often each edge is called in a whole run; then each fault is one random kind of error at one
random call of one edge. After each, every weight, buffer, forward, hook, flag and random state of the live model must
be as found, the run must have ended by itself with a sentence, and at the end a run in peace gives the same numbers.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from lora_lab.dataset import pictures
from lora_lab.dataset.dataset import Dataset
from lora_lab.errors import TrainingError
from lora_lab.network.streams import TensorWriter
from lora_lab.training.drawing import Previews
from lora_lab.training.jobs import JobQueue
from lora_lab.training.settings import TrainSettings
from lora_lab.training.step import Stepper
from tests.training.running import MODEL, fresh_host, same, tensors
from tests.training.tiny import TinyHost, TinyModel, fingerprint, run_settings

EDGES: dict[str, tuple[tuple[Any, str], ...]] = {
    "host": (
        (TinyHost, "lease"), (TinyHost, "memory"), (TinyHost, "lora_saved"), (TinyHost, "full_hash"),
        (TinyHost, "interrupt_requested"), (TinyModel, "tokenize"), (TinyModel, "encode_tokens"),
        (TinyModel, "predict"), (TinyModel, "encode_pixels"),
    ),
    "dataset": ((Dataset, "load"), (Dataset, "caption"), (pictures, "load"), (pictures, "read_header")),
    "files": ((TensorWriter, "__init__"), (TensorWriter, "put"), (TensorWriter, "__exit__")),
    "optimizer": ((Stepper, "_update"), (Stepper, "_backward"), (Stepper, "state"), (Stepper, "settle")),
    "preview": ((TinyModel, "generate"), (Image.Image, "save"), (Previews, "make")),
}  # fmt: skip
"""Edge -> what is called there: owner and name."""

ERRORS: tuple[Callable[[], BaseException], ...] = (
    lambda: RuntimeError("CUDA out of memory"), lambda: RuntimeError("a defect"), lambda: OSError(28, "No space left"),
    lambda: PermissionError(13, "Permission denied"), lambda: ValueError("a defect"), MemoryError, KeyboardInterrupt,
    lambda: TrainingError("a known error", remedy="do this"), lambda: FloatingPointError("a defect"), AssertionError,
)  # fmt: skip


@dataclass
class Calls:
    """Counts the calls of every edge, and throws at one of them."""

    counted: Counter[tuple[str, str]] = field(default_factory=Counter)
    target: tuple[str, str] = ("", "")
    number: int = 0
    error: Callable[[], BaseException] = RuntimeError
    thrown: bool = False

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Inside, all edges are counted."""
        found = [(owner, name, owner.__dict__[name]) for calls in EDGES.values() for owner, name in calls]
        places = [edge for edge, calls in EDGES.items() for _ in calls]
        try:
            for edge, (owner, name, original) in zip(places, found, strict=True):
                setattr(owner, name, self._counting((edge, f"{owner.__name__}.{name}"), original))
            yield
        finally:
            for owner, name, original in found:
                setattr(owner, name, original)

    def _counting(self, place: tuple[str, str], original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.counted[place] += 1
            if place == self.target and self.counted[place] == self.number:
                self.thrown = True
                raise self.error()
            return original(*args, **kwargs)

        return call


class World:
    """A tiny host, and runs of it with everything that a run can do."""

    def __init__(self, folder: Path) -> None:
        self.host = fresh_host(folder)
        self._number = 0

    def train(self, calls: Calls) -> tuple[str, Path | None]:
        """A run to its end. How it has ended, and its LoRA."""
        self._number += 1
        more = {
            "output_name": f"run{self._number}", "save_every_n_epochs": 1, "save_state_every_n_steps": 1,
            "sample_prompts": "1girl --w 64 --h 64", "cache_latents": True, "network_dropout": 0.1,
        }  # fmt: skip
        settings = TrainSettings.from_mapping(run_settings(self.host.folder, **more))
        before = fingerprint(MODEL)
        with calls.watched():
            run = JobQueue().start(settings, self.host)
            status = run.wait(120)
        assert fingerprint(MODEL) == before, f"the model is not as found after {calls}"
        assert not status.active, f"it did not end after {calls}"
        assert status.ended is not None
        assert "Traceback" not in status.ended.error
        assert (status.state == "failed") == bool(status.ended.error), f"{status.state} {status.ended.error!r}"
        return status.state, status.ended.lora


def fault_run(folder: Path, faults: int, seed: int) -> str:
    """So many faults; one line of what came of them."""
    world, r = World(folder), random.Random(seed)
    rehearsal = Calls()
    state, whole = world.train(rehearsal)
    assert state == "finished"
    edges: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    while sum(edges.values()) < faults:
        edge = list(EDGES)[sum(edges.values()) % len(EDGES)]
        place = r.choice([p for p in rehearsal.counted if p[0] == edge])
        calls = Calls(target=place, number=r.randint(1, rehearsal.counted[place]), error=r.choice(ERRORS))
        try:
            ends[world.train(calls)[0]] += 1
        except TrainingError:  # thrown before the run began: the person is told, nothing was started
            ends["refused"] += 1
        edges[edge] += calls.thrown
    state, again = world.train(Calls())
    assert state == "finished"
    assert same(tensors(whole), tensors(again))
    where = ", ".join(f"{name} {count}" for name, count in edges.items())
    how = ", ".join(f"{count} {name}" for name, count in ends.items())
    return f"{sum(edges.values())} faults ({where}): the model as found after each; runs {how}; the same numbers after"


def main() -> int:
    """The long run."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--faults", type=int, default=100)
    options.add_argument("--seed", type=int, default=1)
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        print(fault_run(Path(name), asked.faults, asked.seed))  # noqa: T201
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
