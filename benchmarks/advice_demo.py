"""On the demo world: what is recommended, beside kohya's defaults and the guide's two scripts, at equal steps.

    python -m benchmarks.advice_demo [--kinds character style] [--rows recommended ...] [--seeds 1 2 3] [--out FILE]
        [--steps 300] [--batch 6] [--pictures 16]

All rates are multiplied by one factor, since the narrow demo checkpoint learns at twenty times a real one's rates
(docs/demo.md); ``--measure`` runs the recommended AdamW settings at several factors, so that the factor is a measured
one. Adaptive optimizers find their own. Only relations are compared (rank to alpha, schedule, min-SNR): values for real
checkpoints do not follow from this.

A line is printed for each run, and kept in ``--out``; runs that stand there are not done again.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lora_lab.demo import assets, world
from lora_lab.guide.answers import Answers, Making
from lora_lab.guide.bases import BY_NAME
from lora_lab.guide.recommend import recommend
from lora_lab.host.base import Host
from lora_lab.host.choose import standalone_host
from lora_lab.training import jobs
from lora_lab.training.settings import TrainSettings
from lora_lab.workflow.demo import SETTINGS, adapter_of, concept_score, generate

FACTOR = 20.0
STEPS = 300
PICTURES = 16
"""With the trigger, and as many without it."""
FACTORS = (5.0, 10.0, 20.0, 40.0)
Planned = tuple[Making, tuple[str, Mapping[str, Any]], int]
"""Kind, row with its settings, seed."""
KOHYA: Mapping[str, Any] = {
    "network_dim": 4, "network_alpha": 1, "learning_rate": 2e-6, "lr_scheduler": "constant", "min_snr_gamma": 0,
    "optimizer_type": "AdamW", "shuffle_caption": False, "keep_tokens": 0,
}  # fmt: skip
"""What kohya's script takes when nothing is said, its rate as it is: the default is what beginners run into."""
RATES = ("learning_rate", "unet_lr", "text_encoder_lr")
FIXED = (
    "resolution", "min_bucket_reso", "max_bucket_reso", "bucket_reso_steps", "clip_skip",
)  # fmt: skip
"""The demo's own, the same for every row; so are steps and pictures."""
TONES = ((28, 40, 112), (112, 146, 204), (252, 240, 208))
"""Navy, steel blue and cream: the style's (demo/drawing.py)."""
NEAR = 60.0
"""Distance of a pixel from a tone, of 255 in each colour."""
PLAIN = "1girl, red hair, bob cut, green eyes, blue dress"
"""A prompt without the trigger, which should stay as it was."""


def answers(kind: Making, *, adaptive: bool) -> Answers:
    """Of the demo's project."""
    return Answers(
        making=kind, difficulty="B", pictures=assets.PICTURES, knows="other", vram=0, adaptive=adaptive,
        resolution=world.PICTURE_SIZE,
    )  # fmt: skip


def rows(kind: Making, factor: float) -> dict[str, dict[str, Any]]:
    """Name -> settings, their rates multiplied."""
    found = {
        "recommended": recommend(answers(kind, adaptive=True)).settings,
        "recommended AdamW": recommend(answers(kind, adaptive=False)).settings,
        "kohya's defaults": dict(KOHYA),
        "kohya's defaults at 1e-4": {**KOHYA, "learning_rate": 1e-4},
        "PowerShell script": dict(BY_NAME["script-powershell"].settings),
        "bash script": dict(BY_NAME["script-bash"].settings),
    }
    return {name: scaled(values, factor) for name, values in found.items()}


def scaled(values: Mapping[str, Any], factor: float) -> dict[str, Any]:
    """The rates times the factor, unless the optimizer finds its own; no 8 bits, which need a card."""
    adaptive = values.get("optimizer_type") in ("Prodigy", "DAdaptAdam")
    more = {n: values[n] * factor for n in RATES if values.get(n) and not adaptive}
    plain = {"optimizer_type": "AdamW"} if values.get("optimizer_type") == "AdamW8bit" else {}
    return {**values, **more, **plain}


@dataclass(frozen=True)
class Bench:
    """Where rows are run, and with how much."""

    host: Host
    folder: Path
    steps: int
    batch: int
    pictures: int
    bare: dict[str, list[Image.Image]] = field(default_factory=dict)
    """Prompt -> what the bare checkpoint makes of it, made once."""


def run_row(bench: Bench, planned: Planned) -> dict[str, Any]:
    """One run and its figures."""
    kind, (name, settings), seed = planned
    folder, host = bench.folder, bench.host
    values = {
        **settings, **{key: SETTINGS[key] for key in FIXED}, "max_train_epochs": None, "max_train_steps": bench.steps,
        "train_batch_size": bench.batch,
        "seed": seed, "train_data_dir": str(folder / kind), "validation_data_dir": str(folder / f"{kind}_validation"),
        "validation_split": 0, "save_every_n_epochs": None, "output_dir": str(folder / "out"), "flip_aug": False,
        "color_aug": False, "output_name": f"{kind}_{name.replace(' ', '_').replace(chr(39), '')}_{seed}",
    }  # fmt: skip
    run = jobs.queue().start(TrainSettings.from_mapping(values), host)
    ended = run.wait().ended
    told = {"kind": kind, "row": name, "seed": seed}
    if ended is None or ended.lora is None or run.error is not None:
        return {**told, "error": str(run.error)}
    return {
        **told, **figures(bench, kind, ended.lora), "held_out": ended.val_loss_last, "seconds": round(ended.seconds),
    }  # fmt: skip


def figures(bench: Bench, kind: Making, lora: Path) -> dict[str, float]:
    """The concept's score, and the leakage: change of pictures without the trigger, in parts of those with it."""
    trigger = world.CHARACTER if kind == "character" else f"{world.STYLE}, {PLAIN}"
    prompts = (trigger, PLAIN)
    with bench.host.lease("pictures") as model:
        for prompt in prompts:
            if prompt not in bench.bare:
                bench.bare[prompt] = generate(model, [prompt] * bench.pictures)
        with adapter_of(model, lora).attached():
            after = [generate(model, [prompt] * bench.pictures) for prompt in prompts]
    concept = concept_score(after[0]) if kind == "character" else few_colours(after[0])
    called, plain = (change(a, b) for a, b in zip([bench.bare[p] for p in prompts], after, strict=True))
    return {"concept": round(concept, 3), "leakage": round(plain / max(called, 1e-6), 3)}


def change(one: list[Image.Image], other: list[Image.Image]) -> float:
    """Mean difference of pixels, 0..1."""
    pairs = ((np.asarray(a, np.float32), np.asarray(b, np.float32)) for a, b in zip(one, other, strict=True))
    return float(np.mean([np.abs(a - b).mean() / 255 for a, b in pairs]))


def few_colours(pictures: list[Image.Image]) -> float:
    """Share of pixels that are near to one of the style's three tones, 0..1."""
    shares = []
    for picture in pictures:
        rgb = np.asarray(picture.convert("RGB"), np.float32)
        away = [np.sqrt(((rgb - np.array(tone, np.float32)) ** 2).sum(axis=2)) for tone in TONES]
        shares.append(float((np.min(away, axis=0) < NEAR).mean()))
    return float(np.mean(shares))


def main() -> int:
    """Do what is not done yet; the exit status is 1 if a run failed."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--kinds", nargs="+", choices=("character", "style"), default=["character", "style"])
    options.add_argument("--rows", nargs="+", choices=list(rows("character", 1)), default=list(rows("character", 1)))
    options.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    options.add_argument("--steps", type=int, default=STEPS, help="of each run (default 300)")
    options.add_argument("--batch", type=int, default=SETTINGS["train_batch_size"], help="pictures of a step")
    options.add_argument("--pictures", type=int, default=PICTURES, help="of each prompt (default 16)")
    options.add_argument("--factor", type=float, default=FACTOR, help="of all rates (default 20)")
    options.add_argument("--measure", action="store_true", help="find the factor: held-out loss at several")
    options.add_argument("--out", type=Path, default=Path("advice_demo.jsonl"), help="where lines are kept")
    options.add_argument("--json", action="store_true", help="lines for machines")
    asked = options.parse_args()
    done = [json.loads(line) for line in asked.out.read_text().splitlines()] if asked.out.is_file() else []
    known = {(row["kind"], row["row"], row["seed"]) for row in done if "error" not in row}
    failed = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        assets.write_dataset(folder)
        host = standalone_host(data_dir=folder / "data")
        bench = Bench(host, folder, asked.steps, asked.batch, asked.pictures)
        for planned in plan(asked):
            if (planned[0], planned[1][0], planned[2]) in known:
                continue
            found = run_row(bench, planned)
            failed |= "error" in found
            with asked.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(found) + "\n")
            print(json.dumps(found) if asked.json else "  ".join(f"{k} {v}" for k, v in found.items()), flush=True)
    return int(failed)


def plan(asked: argparse.Namespace) -> list[Planned]:
    """Kind, row and seed of each run, seed by seed, so that an early end leaves whole tables."""
    if asked.measure:
        name = "recommended AdamW"
        table = {k: {f"{name} x {x:g}": rows(k, x)[name] for x in FACTORS} for k in asked.kinds}
    else:
        table = {k: {n: v for n, v in rows(k, asked.factor).items() if n in asked.rows} for k in asked.kinds}
    return [(kind, row, seed) for seed in asked.seeds for kind in asked.kinds for row in table[kind].items()]


if __name__ == "__main__":
    sys.exit(main())
