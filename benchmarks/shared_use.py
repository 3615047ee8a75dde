"""A picture made during a run against one made alone, and what the run loses, in a real webui on the CPU.

    LORA_LAB_WEBUI=... LORA_LAB_WEBUI_PYTHON=... python -m benchmarks.shared_use [--json] [--rounds N]

Each round takes every way of sharing in turn: the run alone for some steps, a picture alone, then pictures one after
another while the run goes on. The latency is a ratio to the picture alone, the speed that is lost a share of the steps
per second of the run alone. Both beside whatever else the machine does in that round.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.harness import Figure, parser, show
from lora_lab.demo import assets
from tests.webui.conftest import started
from tests.webui.server import Webui
from tests.webui.test_training import start, wait

MODES = ("share", "pictures_first", "training_first")
PICTURES, STEPS = 3, 6
LONG = {"max_train_steps": 5000, "train_batch_size": 2, "sample_prompts": "", "validation_data_dir": ""}


def timed_picture(webui: Webui, seed: int) -> float:
    """Seconds from the question to the picture."""
    began = time.perf_counter()
    webui.picture("1girl, hat", seed=seed, steps=8)
    return time.perf_counter() - began


def standing(webui: Webui, run: str) -> tuple[int, float]:
    """Steps done, and the moment."""
    found: dict[str, Any] = webui.check("training", run_id=run)
    return int(found["step"]), time.perf_counter()


def one_round(webui: Webui, pictures: dict[str, Path], mode: str, number: int) -> tuple[float, float, float]:
    """Latency as a ratio, share of the training speed that pictures cost, steps of the run per picture."""
    alone = median(timed_picture(webui, n) for n in range(PICTURES))
    run = start(webui, pictures, output_name=f"{mode}{number}", sharing=mode, **LONG)
    wait(webui, run, lambda found: found["step"] >= 2)
    first, began = standing(webui, run)
    wait(webui, run, lambda found: found["step"] >= first + STEPS)
    step, now = standing(webui, run)
    quiet = (step - first) / (now - began)
    beside = [timed_picture(webui, n) for n in range(PICTURES)]
    last, end = standing(webui, run)
    busy = (last - step) / (end - now)
    webui.check("training", run_id=run, stop=True)
    wait(webui, run)
    return median(beside) / alone, 1 - busy / quiet, (last - step) / max(1, len(beside))


def main() -> int:
    """Measure and show."""
    asked = parser(__doc__ or "", 3).parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pictures = assets.write_dataset(folder / "pictures")
        webui = started(folder / "data")
        try:
            rows = {mode: [one_round(webui, pictures, mode, n) for n in range(asked.rounds)] for mode in MODES}
        finally:
            webui.stop()
    figures = []
    for mode, found in rows.items():
        latency, lost, steps = zip(*found, strict=True)
        figures += [
            Figure(f"{mode}: a picture, during a run against alone", latency),
            Figure(f"{mode}: training speed lost while pictures are made one after another", lost, ""),
            Figure(f"{mode}: steps of the run per picture", steps, ""),
        ]
    return show("shared use", figures, asked.json)


if __name__ == "__main__":
    sys.exit(main())
