"""What is read out of pictures: measures, the advice from strengths, the best snapshot, proposals, words of prompts."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from lora_lab.demo import assets, drawing, world
from lora_lab.families import Family
from lora_lab.tagging.tags import RATING, Tag
from lora_lab.testing import measures
from lora_lab.testing.diagnosis import find_copies
from lora_lab.testing.influence import BlockInfluence, Change
from lora_lab.testing.judge import Judge
from lora_lab.testing.proposal import propose
from lora_lab.testing.strengths import Point, advise, best_of, best_snapshot
from lora_lab.testing.words import asked_for, has_tag, without_tag


def person(seed: int) -> Image.Image:
    return drawing.draw(world.sample(random.Random(seed)), seed, 64)


def test_other_people_look_more_different_than_the_same_one_shifted_or_brighter() -> None:
    for seed in range(5):
        one, other = person(seed), person(seed + 100)
        brighter = ImageEnhance.Brightness(one).enhance(1.1)
        assert measures.perceptual_distance(one, one) == 0
        assert measures.perceptual_distance(one, brighter) < measures.perceptual_distance(one, other) / 2


def test_saturation_and_contrast_follow_what_is_done_to_a_picture() -> None:
    one = person(3)
    assert measures.saturation(ImageEnhance.Color(one).enhance(0.3)) < measures.saturation(one)
    assert measures.contrast(ImageEnhance.Contrast(one).enhance(0.5)) < measures.contrast(one)


def test_heat_is_where_the_difference_is() -> None:
    one = Image.new("RGB", (32, 32), "white")
    other = one.copy()
    other.paste((0, 0, 0), (4, 4, 8, 8))
    warmth = measures.heat([(one, other)])
    assert warmth[6, 6] == pytest.approx(1)
    assert warmth[20, 20] == 0
    over = np.asarray(measures.heat_over(one, warmth, 1.0))
    assert over[6, 6, 0] > over[6, 6, 2] + 100
    assert tuple(over[20, 20]) == (178, 178, 178)


def test_copies_of_dataset_pictures_are_found_mirrored_too(tmp_path: Path) -> None:
    data = assets.write_dataset(tmp_path)["character"]
    own = sorted(data.rglob("*.png"))[3]
    with Image.open(own) as file:
        copy = file.convert("RGB").resize((64, 64)).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    found = find_copies(
        [(Path("a.png"), ImageEnhance.Brightness(copy).enhance(0.9)), (Path("b.png"), person(50))], data
    )
    assert [(one.preview.name, one.picture) for one in found] == [("a.png", own)]


def point(strength: float, concept: float, fidelity: float = 1.0, name: str = "a", obeyed: float = 1.0) -> Point:
    return Point(Path(name), strength, strength, concept, obeyed, fidelity)


def test_good_only_at_half_says_halve_the_rates() -> None:
    hot = [point(0.5, 0.9), point(1.0, 0.9, 0.3), point(2.0, 0.5, 0.0)]
    advice = advise(hot)
    assert dict(advice.factors) == {"unet_lr": 0.5, "text_encoder_lr": 0.5}
    assert (
        advice.sentence
        == "Best at 0.5, so it learnt too fast: unet_lr down to 0.5 times and text_encoder_lr down to 0.5 times."
    )


def test_needed_at_two_says_double_them_and_a_sound_one_stays() -> None:
    assert dict(advise([point(0.5, 0.1), point(1.0, 0.2), point(2.0, 0.9)]).factors)["unet_lr"] == 2
    sound = [point(0.5, 0.5), point(1.0, 0.9), point(1.5, 0.905)]
    assert best_of(sound).unet == 1
    assert not advise(sound).factors


MEASURED = {
    "right": [(0.5, 0.54, 0.86, 1), (1, 0.98, 0.66, 1), (1.5, 1, 0.71, 1), (2, 0.93, 0.75, 0.75)],
    "hot": [(0.25, 0.32, 0.87, 0.88), (0.5, 0.37, 0.78, 0.69), (1, 0.87, 0.74, 0.56), (1.5, 0.36, 0.7, 0.06)],
    "cold": [(0.5, 0.3, 0.91, 0.94), (1, 0.72, 0.8, 0.94), (1.5, 0.91, 0.71, 0.81), (2, 0.93, 0.61, 0.88)],
}  # fmt: skip
"""The demo's LoRA at its own rates, eight times and an eighth of them: strength, concept, fidelity, obeyed."""


@pytest.mark.parametrize(("name", "factor"), [("right", None), ("hot", 0.5), ("cold", 1.5)])
def test_wrong_rates_that_the_overall_score_evens_out(name: str, factor: float | None) -> None:
    points = [point(strength, concept, sound, obeyed=free) for strength, concept, sound, free in MEASURED[name]]
    assert best_of(points).unet == (1.5 if name == "right" else 1)
    advice = advise(points)
    assert dict(advice.factors) == ({"unet_lr": factor, "text_encoder_lr": factor} if factor else {})
    assert ("too fast" in advice.sentence, "too slowly" in advice.sentence) == (name == "hot", name == "cold")


def test_where_no_strength_is_good_broken_and_untouched_are_told_apart() -> None:
    """The first as measured on the demo's LoRA at eight times its rates (`benchmarks.known_loras`)."""
    hot = [point(0.25, 0.33, 0.88, obeyed=0.0), point(0.5, 0.11, 0.61, obeyed=0.17), point(2, 0.11, 0.78, obeyed=0.0)]
    assert dict(advise(hot).factors) == {"unet_lr": 0.25, "text_encoder_lr": 0.25}
    cold = [point(0.5, 0.05), point(2.0, 0.1)]
    assert dict(advise(cold).factors) == {"unet_lr": 2.0, "text_encoder_lr": 2.0}
    assert not advise([point(0.5, 0.05), point(2.0, 0.1, 0.2)]).factors


def test_parts_are_read_apart() -> None:
    best = Point(Path("a"), 2.0, 0.5, 0.9, 1.0, 1.0)
    assert dict(advise([best], apart=True).factors) == {"unet_lr": 0.5, "text_encoder_lr": 2.0}


def test_the_earliest_of_the_best_snapshots_is_kept() -> None:
    series = [point(1, 0.2, name="e1"), point(1, 0.9, name="e2"), point(1, 0.91, name="e3"), point(1, 0.9, 0.4, "e4")]
    best, why = best_snapshot(series)
    assert best.lora.name == "e2"
    assert "e2: 90% of the concept" in why


def test_of_snapshots_that_look_alike_the_lowest_held_out_loss_is_kept() -> None:
    """Earliest where one of them has no loss; a worse looking one is not kept for its loss."""
    series = [point(1, 0.2, name="e1"), point(1, 0.9, name="e2"), point(1, 0.91, name="e3"), point(1, 0.9, 0.4, "e4")]
    losses = {Path("e2"): 0.051, Path("e3"): 0.047, Path("e4"): 0.040}
    best, why = best_snapshot(series, losses)
    assert best.lora.name == "e3"
    assert "of 2 that look alike it has the lowest held-out loss" in why
    assert best_snapshot(series, {Path("e3"): 0.047})[0].lora.name == "e2"
    assert "look alike" not in best_snapshot([series[0], series[2]], losses)[1]


def influence(block: str, concept: float, other: float = 1.0, bleed: float = 0.1) -> BlockInfluence:
    change = Change(0.1, 0.1, 0.1)
    return BlockInfluence(block, change, change, concept, other, bleed, Image.new("RGB", (8, 8)))


TAGS = [Tag(name, category) for name, category in (
    ("horns", 0), ("white_hair", 0), ("smile", 0), ("blue_background", 0), ("saber_(fate)", 4), ("1girl", 0),
    ("rating:sensitive", RATING),
)]  # fmt: skip
WITH_IT = np.array([
    [0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9], [0.9, 0.8, 0.9, 0.1, 0.9, 0.9, 0.9],
    [0.9, 0.9, 0.9, 0.8, 0.9, 0.9, 0.9], [0.1, 0.9, 0.9, 0.0, 0.9, 0.9, 0.9],
], np.float32)  # fmt: skip
"""Four seeds: horns nearly always, white hair always, a smile that is asked for, a background by chance."""
WITHOUT = np.array([
    [0.0, 0.0, 0.1, 0.0, 0.0, 0.9, 0.0], [0.1, 0.9, 0.0, 0.1, 0.0, 0.1, 0.0],
    [0.0, 0.1, 0.0, 0.0, 0.0, 0.8, 0.0], [0.0, 0.0, 0.0, 0.1, 0.0, 0.1, 0.0],
], np.float32)  # fmt: skip


def test_the_concept_is_what_most_seeds_get_and_nobody_asked_for() -> None:
    judge = Judge(TAGS, lambda images: WITH_IT)
    asked = asked_for(["saber \\(fate\\), (Smile:1.2)"], "saber (fate)")
    assert asked == {"smile"}
    assert set(judge.found_concept(WITH_IT, WITHOUT, asked)) == {"horns", "white hair", "saber (fate)"}
    assert "blue background" in judge.found_concept(WITH_IT[:1], WITHOUT[:1], asked), "one seed cannot tell"
    assert "One seed cannot tell" in judge.doubt([7, 7])
    assert not judge.doubt([7, 8])
    named = Judge(TAGS, lambda images: WITH_IT, ("1girl",))
    assert named.found_concept(WITH_IT, WITHOUT, asked) == ("1girl",)
    assert not named.doubt([7])


def test_tags_of_prompts_are_read_as_the_tagger_writes_them() -> None:
    prompts = ["mika, [blue sky], ((Night_Sky:1.3))", "a \\(b\\):0.5, :d, :3, (:3:1.2)"]
    assert asked_for(prompts, "mika") == {"blue sky", "night sky", "a (b)", ":d", ":3"}


def test_a_proposal_keeps_the_concept_and_drops_the_rest() -> None:
    found = [influence("IN04", 0.0, 9.0), influence("OUT03", 0.3), influence("OUT04", 0.4), influence("OUT07", 0.1)]
    proposal = propose(found, Family.SD1, judged=True, called="mika")
    weights = proposal.weights.blocks
    assert (weights["OUT03"], weights["OUT04"], weights["OUT07"], weights["IN04"], weights["BASE"]) == (1, 1, 0.5, 0, 0)
    assert proposal.sentences[0] == "OUT03-OUT04 carries 88% of mika: keep it at 1."
    assert "IN04 changes most" in proposal.sentences[-1]


def test_without_a_tagger_only_what_bleeds_is_held_back() -> None:
    proposal = propose(
        [influence("OUT03", 0.0, bleed=0.5), influence("OUT04", 0.0)], Family.SD1, judged=False, called="it"
    )
    assert (proposal.weights.blocks["OUT03"], proposal.weights.blocks["OUT04"]) == (0.5, 1)


@given(st.lists(st.text("abcd ", min_size=1, max_size=6), max_size=5))
def test_a_prompt_without_a_tag_lacks_it(tags: list[str]) -> None:
    prompt = ", ".join([*tags, "zuli girl", "zuli"])
    rest = without_tag(prompt, "zuli")
    assert has_tag(prompt, "ZULI")
    assert not has_tag(rest, "zuli")
    assert "girl" in rest
    assert without_tag(rest, "zuli") == rest
