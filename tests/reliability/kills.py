"""Runs that are killed with `kill -9` again and again, and must end with the numbers of one that was left in peace.

    python -m tests.reliability.kills [--runs 20] [--kills 10] [--steps 60] [--seed 1]

Each run is a process forked from one that has the demo checkpoint loaded, so that a start costs nothing. A part of the
kills waits until a state is being written. Linux only.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lora_lab.demo import assets
from lora_lab.host.choose import standalone_host
from lora_lab.network import files
from lora_lab.training.jobs import JobQueue
from lora_lab.training.record import state
from lora_lab.training.record.unfinished import unfinished
from lora_lab.training.settings import TrainSettings
from lora_lab.workflow.demo import SETTINGS

NAME = "mika"


@dataclass
class Tally:
    """What was done to the runs, and what came of it."""

    kills: int = 0
    past_first_state: int = 0
    inside_a_write: int = 0
    equal: list[bool] = field(default_factory=list)

    def line(self) -> str:
        """For people."""
        return (
            f"{len(self.equal)} runs, {self.kills} kills, {self.past_first_state} past the first state, "
            f"{self.inside_a_write} inside a write, {sum(self.equal)} runs ended with bit-identical tensors"
        )


class World:
    """One loaded host and one dataset; every run gets a data folder of its own."""

    def __init__(self, folder: Path, steps: int) -> None:
        torch.set_num_threads(1)  # a thread pool does not outlive a fork
        self._folder = folder
        self._steps = steps
        assets.write_dataset(folder)
        self._host: Any = standalone_host(data_dir=folder / "data")

    def settings(self) -> TrainSettings:
        """A longer run with a state every two steps."""
        return TrainSettings.from_mapping(
            {
                **SETTINGS, "train_data_dir": str(self._folder / "character"), "output_name": NAME,
                "max_train_epochs": None, "max_train_steps": self._steps, "train_batch_size": 1, "network_dim": 4,
                "network_dropout": 0.1, "save_state_every_n_steps": 2, "lr_warmup_steps": 5, "seed": 3,
            }  # fmt: skip
        )

    def lora(self, number: int) -> Path:
        """Where the run of that number leaves its file."""
        return self._folder / f"run{number}" / "loras" / f"{NAME}.safetensors"

    def train(self, number: int) -> bool:
        """Begin the run or go on with it, to its end; in a process of its own."""
        data = self._folder / f"run{number}"
        self._host._data_dir, self._host._lora_dir = data, data / "loras"
        left = unfinished(data)
        queue = JobQueue()
        run = queue.resume(left[0].id, self._host) if left else queue.start(self.settings(), self._host)
        return run.wait().state == "finished"

    def forked(self, number: int) -> int:
        """The process id of a child that trains and exits."""
        child = os.fork()
        if child:
            return child
        status = 1
        try:
            status = 0 if self.train(number) else 2
        finally:
            os._exit(status)

    def writing(self, number: int) -> bool:
        """Is a state half written?"""
        return any(self._states(number, f".{state.FILE}.*.part"))

    def has_state(self, number: int) -> bool:
        """Is there one to go on from?"""
        return any(self._states(number, state.FILE))

    def _states(self, number: int, pattern: str) -> Iterator[Path]:
        return (self._folder / f"run{number}" / "runs").glob(f"*/{pattern}")


def kill_one(world: World, number: int, r: random.Random, longest: float) -> tuple[bool, bool] | None:
    """Start or go on, and kill at a random moment; past the first state, inside a write. None when it ended before."""
    child = world.forked(number)
    wait_for_write, end = r.random() < 0.4, time.monotonic() + r.uniform(0.05, longest)
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert os.waitstatus_to_exitcode(status) == 0, "a run failed by itself"
            return None
        late = time.monotonic() >= end
        if late and (not wait_for_write or world.writing(number) or time.monotonic() > end + 5):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return world.has_state(number), world.writing(number)
        time.sleep(0.0002)


def finish(world: World, number: int) -> None:
    """Let it run to its end."""
    _, status = os.waitpid(world.forked(number), 0)
    assert os.waitstatus_to_exitcode(status) == 0, "a run failed by itself"


def same(a: Path, b: Path) -> bool:
    """Bit-identical tensors and model hashes."""
    x, y = files.read(a), files.read(b)
    equal = x.tensors.keys() == y.tensors.keys() and all(torch.equal(x.tensors[k], y.tensors[k]) for k in x.tensors)
    return equal and x.metadata["sshs_model_hash"] == y.metadata["sshs_model_hash"]


def kill_runs(folder: Path, runs: int, kills: int, steps: int, seed: int) -> Tally:
    """Run 0 is left in peace; the others are killed so often, then finished and compared with it."""
    world, tally, r = World(folder, steps), Tally(), random.Random(seed)
    began = time.monotonic()
    finish(world, 0)
    longest = max(0.5, (time.monotonic() - began) * 1.5 / kills)
    for number in range(1, runs + 1):
        for _ in range(kills):
            happened = kill_one(world, number, r, longest)
            if happened is None:
                break
            tally.kills += 1
            tally.past_first_state += happened[0]
            tally.inside_a_write += happened[1]
        if not world.lora(number).is_file():
            finish(world, number)
        tally.equal.append(same(world.lora(number), world.lora(0)))
    return tally


def main() -> int:
    """The long run; exit status 1 when a run ended with other numbers."""
    options = argparse.ArgumentParser(description=__doc__)
    for name, default in (("runs", 20), ("kills", 10), ("steps", 60), ("seed", 1)):
        options.add_argument(f"--{name}", type=int, default=default)
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        tally = kill_runs(Path(name), asked.runs, asked.kills, asked.steps, asked.seed)
    print(tally.line())  # noqa: T201
    return 0 if all(tally.equal) else 1


if __name__ == "__main__":
    raise SystemExit(main())
