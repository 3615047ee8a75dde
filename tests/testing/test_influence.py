"""The influence map on LoRAs whose truth is known: the demo's character in OUT03-OUT05 or in M00 alone, noise of
its norm in all other blocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("onnxruntime")

from lora_lab.demo import assets, world  # noqa: E402
from lora_lab.host.choose import standalone_host  # noqa: E402
from lora_lab.testing.cells import NOTHING, GridPlan, Look  # noqa: E402
from lora_lab.testing.grid import run_grid  # noqa: E402
from lora_lab.testing.influence import InfluencePlan, run_influence  # noqa: E402
from lora_lab.testing.judge import Judge  # noqa: E402
from lora_lab.testing.words import asked_for  # noqa: E402
from tests.testing.known import BLOCKS, CONCEPT, LORAS, MID, OUT, mixed, with_a_middle  # noqa: E402


@pytest.mark.parametrize(("name", "true"), [("concept-out", OUT), ("concept-mid", MID)])
def test_the_map_finds_the_blocks_of_the_concept(name: str, true: tuple[str, ...], tmp_path: Path) -> None:
    checkpoint = None if true == OUT else with_a_middle(tmp_path / "checkpoint")
    host = standalone_host(checkpoint, data_dir=tmp_path / "data", lora_dir=tmp_path)
    lora = mixed(host, LORAS / f"{name}.safetensors", true, tmp_path / "mixed.safetensors")
    look = Look(world.PICTURE_SIZE, world.PICTURE_SIZE, 8, 5.0)
    plan = InfluencePlan(
        lora, (f"{world.CHARACTER}, smile",), (1, 2, 3, 4), look=look, batch=20, blocks=BLOCKS, out=tmp_path / "cells"
    )
    judge = Judge.of_tagger(assets.tagger_dir(), assets.character_features())
    found = run_influence(host, plan, judge)
    assert found is not None
    by_concept = sorted(found.blocks, key=lambda one: -one.concept)
    by_picture = sorted(found.blocks, key=lambda one: -one.alone.perceptual)
    assert by_concept[0].block in true
    if true == OUT:  # M00's change is the largest in the picture, too
        assert by_picture[0].block not in true, "what changes the picture most is not what carries the concept"
    carried = {one.block: max(0.0, one.concept) for one in found.blocks}
    assert sum(carried[block] for block in true) > 0.5 * sum(carried.values())
    assert by_concept[0].concept > 2 * by_concept[1].concept
    weights = found.proposal.weights.blocks
    assert weights[by_concept[0].block] == 1
    assert sum(weights[block] for block in BLOCKS if block not in true) <= 1
    assert np.asarray(by_concept[0].heat).shape == (64, 64, 3)
    told = found.to_json()
    assert [one["block"] for one in told["blocks"]] == list(BLOCKS)


def test_the_concept_is_found_without_what_chance_drew(tmp_path: Path) -> None:
    """The character's features are the truth; the LoRA, of three blocks only, has learnt some of them."""
    host = standalone_host(data_dir=tmp_path / "data", lora_dir=tmp_path)
    look = Look(world.PICTURE_SIZE, world.PICTURE_SIZE, 8, 5.0)
    prompt, seeds = f"{world.CHARACTER}, smile", (1, 2, 3, 4)
    result = run_grid(host, GridPlan(CONCEPT, (NOTHING,), (prompt,), seeds, look, 4, out=tmp_path / "cells"))
    judge, asked = Judge.of_tagger(assets.tagger_dir()), asked_for((prompt,), world.CHARACTER)
    sides = [[result.at(row, i) for i in range(4)] for row in (None, 0)]
    with_it, without = (judge.look([made.image for made in side if made is not None]) for side in sides)
    truth = {*assets.character_features(), world.CHARACTER}
    found = set(judge.found_concept(with_it, without, asked))
    assert {"horns", "twintails"} <= found <= truth
    alone = [set(judge.found_concept(with_it[i : i + 1], without[i : i + 1], asked)) for i in range(4)]
    assert any(one - truth for one in alone), "what a single seed takes for it"
