"""From 'start' to the first optimizer step, with the latents cached by an earlier run: where the time goes.

    python -m benchmarks.start [--json] [--rounds N]

The demo checkpoint is loaded once, as it is in a webui; each round starts a run of one step and takes the times of its
events. No checkpoint is read from disk between the click and the step, which is counted too.
"""

from __future__ import annotations

import builtins
import io
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.harness import Figure, parser, show
from lora_lab.demo import assets
from lora_lab.host.base import Host
from lora_lab.host.choose import standalone_host
from lora_lab.training import jobs
from lora_lab.training.events import Event, Progress, RunEnded, RunStarted, StepDone
from lora_lab.training.settings import TrainSettings
from lora_lab.workflow.demo import SETTINGS


@contextmanager
def counted_opens(path: Path) -> Iterator[list[str]]:
    """The names of files that Python opened and that are `path`."""
    seen: list[str] = []
    real = io.open

    def counting(file: Any, *args: Any, **more: Any) -> Any:  # noqa: ANN401 - open's own
        if Path(str(file)) == path:
            seen.append(str(file))
        return real(file, *args, **more)

    builtins.open = counting
    try:
        yield seen
    finally:
        builtins.open = real


def one_start(host: Host, folder: Path, number: int) -> dict[str, float]:
    """Seconds of each stretch from the start to the first step's end."""
    values = {
        **SETTINGS, "train_data_dir": str(folder / "character"), "output_dir": str(folder / "out"),
        "output_name": f"start{number}", "max_train_steps": 1, "max_train_epochs": None, "cache_latents_to_disk": True,
    }  # fmt: skip
    times: list[tuple[float, Event]] = []
    began = time.perf_counter()
    run = jobs.queue().start(TrainSettings.from_mapping(values), host)
    run.listen(lambda event: times.append((time.perf_counter() - began, event)))
    if run.wait().ended is None or run.error is not None:
        raise RuntimeError(f"the run failed: {run.error}")

    def last(kind: type[Event], stage: str = "") -> float:
        found = [t for t, e in times if isinstance(e, kind) and (not stage or getattr(e, "stage", "") == stage)]
        return max(found, default=0.0)

    started, cached, stepped = last(RunStarted), last(Progress, "caching latents"), last(StepDone)
    assert isinstance(times[-1][1], RunEnded)
    return {
        "checks, pictures, adapter, optimizer": started,
        "latents from the cache": max(0.0, cached - started),
        "first step": stepped - max(started, cached),
        "start to first step": stepped,
    }


def main() -> int:
    """Measure and print."""
    args = parser(__doc__ or "", rounds=5).parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        assets.write_dataset(folder)
        host = standalone_host(data_dir=folder / "data")
        one_start(host, folder, 0)
        with counted_opens(assets.checkpoint_path()) as opened:
            rounds = [one_start(host, folder, n + 1) for n in range(args.rounds)]
    figures = [Figure(what, tuple(r[what] for r in rounds), "s") for what in rounds[0]]
    figures.append(Figure("times the checkpoint was opened", (float(len(opened)),), "", 0.0))
    return show("From start to the first step, demo checkpoint", figures, args.json)


if __name__ == "__main__":
    sys.exit(main())
