"""Runs of the demo world, one after another, with pictures between their turns: what stays in memory at the end?

    python -m tests.reliability.soak [--minutes 60] [--warm 10] [--folder DIR]

One process, one loaded checkpoint: each run trains a few epochs with snapshots, states and validation, while another
thread makes pictures on the same model. Every half minute memory, threads and open files are written down (to
`soak.csv` in the folder); the first `--warm` minutes do not count. Exit status 1 when memory has grown by more than
2 % after them (the median of the last tenth against the first tenth), or a thread or a file is left open at the end.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from lora_lab.demo import assets
from lora_lab.errors import LoraLabError
from lora_lab.host.base import Host, PreviewRequest
from lora_lab.host.choose import standalone_host
from lora_lab.training.jobs import JobQueue
from lora_lab.training.settings import TrainSettings
from lora_lab.workflow.demo import SETTINGS

EVERY = 30.0
"""Seconds between two measurements."""
MOST_GROWTH = 0.02


@dataclass
class Pictures:
    """Somebody who makes one picture after another on the same model."""

    host: Host
    made: int = 0
    problems: list[str] = field(default_factory=list)
    _end: threading.Event = field(default_factory=threading.Event)

    def __call__(self) -> None:
        """Until `end`."""
        while not self._end.wait(0.5):
            try:
                with self.host.lease("pictures") as model:
                    model.generate(PreviewRequest(("1girl, hat",), (self.made,), width=64, height=64, steps=4))
                self.made += 1
            except LoraLabError as error:
                self.problems.append(str(error))

    def end(self) -> None:
        """After the picture under way."""
        self._end.set()


@dataclass(frozen=True)
class Measured:
    """The process at one moment."""

    seconds: float
    megabytes: float
    threads: int
    files: int


def measure(began: float) -> Measured:
    """Now."""
    process = psutil.Process()
    memory = process.memory_info().rss / (1 << 20)
    files = process.num_fds() if hasattr(process, "num_fds") else process.num_handles()
    return Measured(time.monotonic() - began, memory, threading.active_count(), files)


def settings_of(folder: Path, number: int) -> TrainSettings:
    """A short run with everything that a run does."""
    return TrainSettings.from_mapping(
        {
            **SETTINGS, "train_data_dir": str(folder / "character"), "output_name": f"soak{number % 5}",
            "output_dir": str(folder / "loras" / str(number)), "max_train_epochs": 3, "save_every_n_epochs": 1,
            "save_state_every_n_steps": 3, "validation_data_dir": str(folder / "character_validation"),
            "seed": number + 1,
        }
    )  # fmt: skip


def soak(folder: Path, minutes: float) -> tuple[list[Measured], str]:
    """Train and draw for so long. All measurements, and a line of what was done."""
    assets.write_dataset(folder)
    host = standalone_host(data_dir=folder / "data")
    queue, began, rows, runs = JobQueue(), time.monotonic(), [], 0
    rows.append(measure(began))
    pictures = Pictures(host)
    thread = threading.Thread(target=pictures, name="pictures")
    thread.start()
    while time.monotonic() - began < minutes * 60:
        run = queue.start(settings_of(folder, runs), host)
        while run.status().active and time.monotonic() - began < minutes * 60:
            run.wait(EVERY)
            rows.append(measure(began))
            with (folder / "soak.csv").open("a", encoding="utf-8") as file:
                row = rows[-1]
                file.write(f"{row.seconds:.0f},{row.megabytes:.1f},{row.threads},{row.files}\n")
        run.stop()
        assert run.wait(120).state in ("finished", "stopped"), run.status().ended
        runs += 1
    pictures.end()
    thread.join()
    gc.collect()
    rows.append(measure(began))
    done = f"{minutes:g} minutes, {runs} runs, {pictures.made} pictures, {len(pictures.problems)} pictures refused"
    return rows, done


def judged(rows: list[Measured], warm: float) -> tuple[str, bool]:
    """What the measurements say, and whether it is good."""
    counted = [row for row in rows if row.seconds >= warm * 60] or rows
    part = max(1, len(counted) // 10)
    first = statistics.median(row.megabytes for row in counted[:part])
    last = statistics.median(row.megabytes for row in counted[-part:])
    growth = last / first - 1
    threads, files = rows[-1].threads - rows[0].threads, rows[-1].files - rows[0].files
    most = max(row.megabytes for row in rows)
    text = (
        f"memory {first:.0f} MB, {last:.0f} MB at the end ({growth:+.1%}), most {most:.0f} MB, "
        f"threads left {threads}, files left open {files}"
    )
    return text, growth <= MOST_GROWTH and threads <= 0 and files <= 0


def main() -> int:
    """The long run."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--minutes", type=float, default=60.0)
    options.add_argument("--warm", type=float, default=10.0)
    options.add_argument("--folder", type=Path)
    asked = options.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as name:
        folder = asked.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        rows, done = soak(folder, asked.minutes)
    told, good = judged(rows, asked.warm)
    print(f"{done}; {told}")  # noqa: T201
    return int(not good)


if __name__ == "__main__":
    raise SystemExit(main())
