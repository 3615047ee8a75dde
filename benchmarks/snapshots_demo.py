"""On the demo world: is the snapshot that Test proposes near the best one, by scores that the proposal does not read?

    python -m benchmarks.snapshots_demo [--rates 1 4 8] [--epochs 60] [--every 10] [--seed 7] [--out FOLDER]

For each multiple of the demo's rates one run with snapshots on the way. The proposal reads concept, flexibility and
fidelity on four seeds and three prompts, and of snapshots that look alike the loss on the held-out pictures of the
dataset. Held out from it are eight other seeds with three other prompts (the same measures on pictures the proposal has
not seen). Exit status 1 where the proposal is more than one snapshot away from the best of these pictures, and not as
good (0.02).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from lora_lab.demo import assets, world
from lora_lab.host.base import Host
from lora_lab.host.choose import standalone_host
from lora_lab.testing.cells import Look
from lora_lab.testing.judge import Judge
from lora_lab.testing.strengths import Point, StrengthPlan, best_snapshot, run_strengths
from lora_lab.training import jobs
from lora_lab.training.events import Event, SnapshotSaved, Validated
from lora_lab.training.settings import TrainSettings
from lora_lab.workflow.demo import SETTINGS

ASKED = ("smile, night sky", "frown, grass", "full body, white background")
HELD_OUT = ("open mouth, pink background", "waving, hearts", "upper body, grey background")
SEEDS, OTHER_SEEDS = (1, 2, 3, 4), tuple(range(101, 109))
LOOK = Look(width=world.PICTURE_SIZE, height=world.PICTURE_SIZE, steps=16, cfg_scale=5.0)


def train(host: Host, folder: Path, data: dict[str, Path], name: str, **changes: Any) -> list[tuple[Path, float]]:  # noqa: ANN401
    """Snapshots in their order, each with the held-out loss at its step.

    Raises:
        LoraLabError: what the run ended with.
    """
    values = {
        **SETTINGS, "train_data_dir": str(data["character"]), "output_dir": str(folder), "output_name": name,
        "validation_data_dir": str(data["character_validation"]), **changes,
    }  # fmt: skip
    events: list[Event] = []
    run = jobs.queue().start(TrainSettings.from_mapping(values), host)
    run.listen(events.append)
    run.wait()
    if run.error is not None:
        raise run.error
    losses = {event.step: event.loss for event in events if isinstance(event, Validated)}
    saved = {event.step: event.path for event in events if isinstance(event, SnapshotSaved)}
    return [(path, losses.get(step, losses[max(losses)])) for step, path in sorted(saved.items())]


def score(host: Host, loras: tuple[Path, ...], others: tuple[str, ...], seeds: tuple[int, ...]) -> tuple[Point, ...]:
    """Each snapshot at strength 1."""
    plan = StrengthPlan(loras, world.CHARACTER, others, seeds, (1.0,), look=LOOK)
    report = run_strengths(host, replace(plan, out=loras[0].parent / f"cells{len(seeds)}"), judge())
    assert report is not None
    return tuple(report.points)


def judge() -> Judge:
    """The demo's tagger; the concept is what the character looks like."""
    return Judge.of_tagger(assets.tagger_dir(), world.CHARACTER_FEATURES)


def main() -> int:
    """One line for each series."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rates", type=float, nargs="+", default=[1.0, 4.0, 8.0])
    options.add_argument("--epochs", type=int, default=60)
    options.add_argument("--every", type=int, default=10, help="epochs between snapshots")
    options.add_argument("--seed", type=int, default=7)
    options.add_argument("--out", type=Path, help="where LoRAs and pictures stay (default: nowhere)")
    asked = options.parse_args()
    near = True
    with tempfile.TemporaryDirectory() as name:
        folder = (asked.out or Path(name)).resolve()
        data = assets.write_dataset(folder / "dataset")
        host = standalone_host(data_dir=folder / "data", lora_dir=folder)
        for rate in asked.rates:
            found = train(
                host, folder, data, f"x{rate:g}", max_train_epochs=asked.epochs, save_every_n_epochs=asked.every,
                validate_every_n_epochs=asked.every, seed=asked.seed,
                **{key: SETTINGS[key] * rate for key in ("unet_lr", "text_encoder_lr")},
            )  # fmt: skip
            loras = tuple(path for path, _ in found)
            points = score(host, loras, ASKED, SEEDS)
            proposed = loras.index(best_snapshot(points, dict(found))[0].lora)
            others = score(host, loras, HELD_OUT, OTHER_SEEDS)
            overall = [point.overall for point in others]
            best = max(range(len(loras)), key=lambda n: overall[n])
            near &= abs(proposed - best) <= 1 or overall[proposed] >= overall[best] - 0.02
            told = {
                "rate": rate, "proposed": proposed + 1, "best": best + 1,
                "asked": [round(point.overall, 3) for point in points], "held out": [round(x, 3) for x in overall],
                "loss": [round(loss, 4) for _, loss in found],
            }  # fmt: skip
            print(json.dumps(told), flush=True)
    return 0 if near else 1


if __name__ == "__main__":
    sys.exit(main())
