"""Runs that are killed with `kill -9` again and again, and must end with the numbers of one that was left in peace.

    python -m tests.reliability.kills [--runs 20] [--kills 10] [--steps 60] [--seed 1] [--folder DIR]

Each run is a process forked from one that has the demo checkpoint loaded, so that a start costs nothing. A kill comes
at a random time after a random number of new states, or from the very start on; a part of them waits until a state is
being written. With `--folder` the tally is written there after each kill, and a second call goes on with it.
Linux only.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
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


UNLIKE = {
    "ss_session_id", "ss_training_started_at", "ss_training_finished_at", "modelspec.date", "sshs_legacy_hash",
}  # fmt: skip
"""Entries of the metadata that tell when a run was made."""


@dataclass
class Tally:
    """What was done to the runs, and what came of it."""

    kills: int = 0
    past_first_state: int = 0
    inside_a_write: int = 0
    equal: list[bool] = field(default_factory=list)
    killed: int = 0
    """Kills of the run that is under way."""

    def line(self) -> str:
        """For people."""
        return (
            f"{len(self.equal)} runs, {self.kills} kills, {self.past_first_state} past the first state, "
            f"{self.inside_a_write} inside a write, {sum(self.equal)} runs ended with bit-identical tensors"
        )

    def save(self, folder: Path) -> None:
        """So that a second call goes on here."""
        part = folder / "tally.part"
        part.write_text(json.dumps(dataclasses.asdict(self)), encoding="utf-8")
        part.replace(folder / "tally.json")

    @classmethod
    def found(cls, folder: Path) -> Tally:
        """What an earlier call has left; a fresh one if there was none."""
        path = folder / "tally.json"
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else cls()


class World:
    """One loaded host and one dataset; every run gets a data folder of its own."""

    def __init__(self, folder: Path, steps: int) -> None:
        torch.set_num_threads(1)  # a thread pool does not outlive a fork
        self._folder = folder
        self._steps = steps
        if not (folder / "character").is_dir():
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


    def written(self, number: int) -> int:
        """Changes whenever a state was written whole."""
        return max((path.stat().st_mtime_ns for path in self._states(number, state.FILE)), default=0)


def kill_one(world: World, number: int, r: random.Random, most: int) -> tuple[bool, bool] | None:
    """Start or go on, and kill at a random moment; past the first state, inside a write. None when it ended before.

    Args:
        world: where.
        number: of the run.
        r: draws the moment.
        most: new states that may be waited for.
    """
    child, seen = world.forked(number), world.written(number)
    wait_for_write, states, delay = r.random() < 0.4, r.randint(0, most), r.uniform(0.02, 1.5)
    end = time.monotonic() + delay
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert os.waitstatus_to_exitcode(status) == 0, "a run failed by itself"
            return None
        if states and (now := world.written(number)) != seen:
            seen, states, end = now, states - 1, time.monotonic() + delay
        late = not states and time.monotonic() >= end
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
    """Bit-identical tensors and model hashes, and metadata that differs by its times alone."""
    x, y = files.read(a), files.read(b)
    equal = x.tensors.keys() == y.tensors.keys() and all(torch.equal(x.tensors[k], y.tensors[k]) for k in x.tensors)
    mine, theirs = ({k: v for k, v in f.metadata.items() if k not in UNLIKE} for f in (x, y))
    return equal and mine == theirs and "sshs_model_hash" in mine


def kill_runs(folder: Path, runs: int, kills: int, steps: int, seed: int) -> Tally:
    """Run 0 is left in peace; the others are killed so often, then finished and compared with it."""
    folder.mkdir(parents=True, exist_ok=True)
    world, tally = World(folder, steps), Tally.found(folder)
    if not world.lora(0).is_file():
        finish(world, 0)
    for number in range(len(tally.equal) + 1, runs + 1):
        while tally.killed < kills and not world.lora(number).is_file():
            r = random.Random(f"{seed} {number} {tally.killed}")
            happened = kill_one(world, number, r, max(1, steps // (2 * kills)))
            if happened is None:
                break
            tally.kills += 1
            tally.killed += 1
            tally.past_first_state += happened[0]
            tally.inside_a_write += happened[1]
            tally.save(folder)
        if not world.lora(number).is_file():
            finish(world, number)
        tally.equal.append(same(world.lora(number), world.lora(0)))
        tally.killed = 0
        tally.save(folder)
    return tally


def main() -> int:
    """The long run; exit status 1 when a run ended with other numbers."""
    options = argparse.ArgumentParser(description=__doc__)
    for name, default in (("runs", 20), ("kills", 10), ("steps", 60), ("seed", 1)):
        options.add_argument(f"--{name}", type=int, default=default)
    options.add_argument("--folder", type=Path, help="keeps everything here, and goes on with what is there")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        tally = kill_runs(asked.folder or Path(name), asked.runs, asked.kills, asked.steps, asked.seed)
    print(tally.line())  # noqa: T201
    return 0 if all(tally.equal) else 1


if __name__ == "__main__":
    raise SystemExit(main())
