"""GACHAMAX from one single picture of the demo's character, against one long run on that picture.

    python -m benchmarks.gachamax_demo [--rounds 4] [--epochs 60] [--json]

The choices are made by the tagger's likeness. Each round is scored by pictures that nobody chose from: the trigger
alone (concept), and the trigger with other tags (flexibility: the share of them that is found). The long run has as
many steps as all rounds together.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from lora_lab.demo import assets, world
from lora_lab.host.base import Host
from lora_lab.host.choose import standalone_host
from lora_lab.tagging.score import found
from lora_lab.tagging.session import Tagger
from lora_lab.training import jobs
from lora_lab.training.settings import TrainSettings
from lora_lab.workflow.demo import BATCH, SETTINGS, adapter_of, generate, look
from lora_lab.workflow.gachamax.candidates import CandidateSettings
from lora_lab.workflow.gachamax.game import Game, GameSettings

VARY = (
    world.MOUTHS, world.FRAMINGS, (*world.SCENES, *world.PLAIN_BACKGROUNDS), ("glasses", "blush", "waving"),
)  # fmt: skip
ASKED = ("night sky", "grass", "hearts", "full body", "frown", "open mouth", "glasses", "pink background")
"""Tags that the single picture lacks: does the LoRA leave room for them?"""


def flexibility(host: Host, lora: Path, tagger: Tagger) -> float:
    """Share of `ASKED` that is found in pictures of the trigger with one of them, 0..1."""
    prompts = [f"{world.CHARACTER}, {tag}" for tag in ASKED for _ in range(2)]
    hits = []
    with host.lease("pictures") as model, adapter_of(model, lora).attached():
        images = [i for n in range(0, len(prompts), BATCH) for i in generate(model, prompts[n : n + BATCH], 5000 + n)]
    for number, image in enumerate(images):
        hits.append(found(tagger.probabilities([image]), tagger.tags, [ASKED[number // 2]]))
    return sum(hits) / len(hits)


def scored(host: Host, lora: Path, tagger: Tagger, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - a line of the table
    """One line."""
    concept, _ = look(host, lora, lambda event: None)
    return {**more, "concept": round(concept, 3), "flexibility": round(flexibility(host, lora, tagger), 3)}


def tell(line: dict[str, Any], as_json: bool) -> None:
    """Print it at once: the whole takes minutes."""
    text = json.dumps(line) if as_json else "  ".join(f"{name} {value}" for name, value in line.items())
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def training(epochs: int) -> dict[str, Any]:
    """The demo's settings for one picture: a step is that picture."""
    return {**SETTINGS, "train_batch_size": 2, "max_train_epochs": epochs, "validate_every_n_epochs": 1000}


def rounds(host: Host, dataset: Path, tagger: Tagger, args: argparse.Namespace) -> int:
    """Play them; returns the steps of all runs."""
    made = CandidateSettings(world.CHARACTER, count=args.candidates, vary=VARY, cfg_scale=5.0, sampler="Euler")
    steps = 0
    for number in range(1, args.rounds + 1):
        there = len(list(dataset.glob("*/*.png")))
        epochs = max(1, args.steps * 2 // max(2, there))
        game = Game.open(dataset, host, GameSettings(training(epochs), made))
        one = game.train(lambda event: None)
        steps += epochs * -(-there // 2)
        line = scored(host, Path(one.lora), tagger, round=number, pictures=one.pictures, steps=steps)
        game.make(tagger, lambda *told: None)
        game.choose(game.propose(args.keep, 0.5))
        kept = game.join().kept
        out = [path.name for path in game.sticking_out(tagger)]
        tell({**line, "kept": len(kept), "likeness_of_kept": [c.likeness for c in kept], "sticks_out": out}, args.json)
    return steps


def main() -> int:
    """Play, then train the long run beside it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=80, help="of each round's run")
    parser.add_argument("--candidates", type=int, default=24)
    parser.add_argument("--keep", type=int, default=4, help="at most, of a round")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, Tagger(assets.tagger_dir()) as tagger:
        folder = Path(scratch)
        everything = assets.write_dataset(folder / "all")["character"] / f"1_{world.CHARACTER}"
        for name in ("one", "long"):
            own = folder / name / f"1_{world.CHARACTER}"
            own.mkdir(parents=True)
            for ending in ("png", "txt"):
                shutil.copy(everything / f"character-01.{ending}", own)
        host = standalone_host(data_dir=folder / "data")
        steps = rounds(host, folder / "one", tagger, args)
        values = {
            **training(steps), "train_data_dir": str(folder / "long"), "output_dir": str(folder), "output_name": "long",
        }  # fmt: skip
        run = jobs.queue().start(TrainSettings.from_mapping(values), host)
        ended = run.wait().ended
        assert ended is not None
        assert ended.lora is not None
        tell(scored(host, ended.lora, tagger, round="one long run", pictures=1, steps=steps), args.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
