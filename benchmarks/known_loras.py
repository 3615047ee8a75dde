"""LoRAs of which the truth is known, trained on the demo checkpoint, and what Test says of them.

    python -m benchmarks.known_loras FOLDER [--only concept-out ...]

`concept-out` and `concept-mid` hold the demo's new character in OUT03-OUT05 or in M00 alone; all other blocks get
random directions of the same norm, and the influence map is to find the concept's. M00 is a single pixel at 64 px,
which the demo checkpoint passes over: without its whole output the pictures change by 0.04 of 255. So that LoRA is
trained on another, which listens to it (tools/demo_checkpoint/middle.py).
`right`, `hot` and `cold` are the demo's LoRA at its own rates, eight times and an eighth of them, with snapshots on the
way; the strengths are to say so. Exit status 1 where Test is wrong. tests/testing/loras/concept-*.safetensors were made
by this and by `lora-lab resize concept-out.safetensors --max-size 190KB --precision fp16`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from benchmarks.snapshots_demo import ASKED, LOOK, SEEDS, judge
from lora_lab.demo import assets, world
from lora_lab.host.choose import standalone_host
from lora_lab.testing.influence import InfluencePlan, run_influence
from lora_lab.testing.strengths import StrengthPlan, run_strengths
from lora_lab.training import jobs
from lora_lab.training.settings import TrainSettings
from lora_lab.workflow.demo import SETTINGS
from tests.testing.known import MID, OUT, mixed, with_a_middle

if TYPE_CHECKING:
    from lora_lab.host.base import Host

CONCEPTS: Mapping[str, tuple[str, ...]] = MappingProxyType({"concept-out": OUT, "concept-mid": MID})
CONCEPT: Mapping[str, Any] = MappingProxyType(
    {
        "algo": "locon", "network_dim": 8, "network_alpha": 8, "conv_dim": 8, "conv_alpha": 8, "unet_lr": 1e-2,
        "max_train_epochs": 150, "network_train_unet_only": True, "validate_every_n_epochs": 1000,
    }
)  # fmt: skip
RATES: Mapping[str, float] = MappingProxyType({"right": 1.0, "hot": 8.0, "cold": 1 / 8})


def train(host: Host, folder: Path, name: str, data: Path, **changes: Any) -> Path:  # noqa: ANN401 - settings
    """One run on the demo's settings.

    Raises:
        LoraLabError: what the run ended with.
    """
    values = {**SETTINGS, "train_data_dir": str(data), "output_dir": str(folder), "output_name": name, **changes}
    run = jobs.queue().start(TrainSettings.from_mapping(values), host)
    ended = run.wait().ended
    if run.error is not None:
        raise run.error
    assert ended is not None
    assert ended.lora is not None
    print(json.dumps({"lora": str(ended.lora), "seconds": round(ended.seconds), "steps": ended.step}), flush=True)
    return ended.lora


def found_by_map(host: Host, lora: Path, true: tuple[str, ...], folder: Path) -> bool:
    """Does the map of all 16 blocks give the concept to the true ones?"""
    both = mixed(host, lora, true, folder / f"{lora.stem}-mixed.safetensors")
    look, prompts = replace(LOOK, steps=8), (f"{world.CHARACTER}, smile",)
    plan = InfluencePlan(both, prompts, SEEDS, look=look, batch=20, out=folder / "cells")
    found = run_influence(host, plan, judge())
    assert found is not None
    carried = {one.block: round(one.concept, 3) for one in found.blocks}
    told = {"lora": lora.stem, "concept by block": carried, "whole": round(found.concept_whole, 3)}
    print(json.dumps({**told, "proposal": found.proposal.sentences}), flush=True)
    return max(carried, key=lambda block: carried[block]) in true


def told_by_strengths(host: Host, lora: Path, rate: float, folder: Path) -> bool:
    """Do the strengths advise the direction that the rate was off by?"""
    plan = StrengthPlan((lora,), world.CHARACTER, ASKED, SEEDS, look=LOOK, batch=16, out=folder / "cells")
    report = run_strengths(host, plan, judge())
    assert report is not None
    told = {"lora": lora.stem, "best": report.best.unet, "overall": round(report.best.overall, 3)}
    print(json.dumps({**told, "advice": report.advice.sentence}), flush=True)
    factor = report.advice.factors.get("unet_lr", 1.0)
    return (factor < 1) == (rate > 1) and (factor > 1) == (rate < 1)


def main() -> int:
    """Train and read them; the exit status is 1 if one failed, or was read wrongly."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path)
    options.add_argument("--only", nargs="+", choices=[*CONCEPTS, *RATES], default=[*CONCEPTS, *RATES])
    asked = options.parse_args()
    folder = asked.folder.resolve()
    data = assets.write_dataset(folder / "dataset")
    right = True
    for name, blocks in CONCEPTS.items():
        if name in asked.only:
            checkpoint = with_a_middle(folder / "checkpoint") if blocks == MID else None
            host = standalone_host(checkpoint, data_dir=folder / "data", lora_dir=folder)
            lora = train(host, folder, name, data["character"], train_blocks=blocks, **CONCEPT)
            right &= found_by_map(host, lora, blocks, folder)
    host = standalone_host(data_dir=folder / "data", lora_dir=folder)
    for name, factor in RATES.items():
        if name in asked.only:
            rates = {key: SETTINGS[key] * factor for key in ("unet_lr", "text_encoder_lr")}
            lora = train(host, folder, name, data["character"], save_every_n_epochs=20, **rates)
            right &= told_by_strengths(host, lora, factor, folder)
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
