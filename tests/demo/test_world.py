"""The world's pictures and captions: true, repeatable, and without what a LoRA is to teach."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_lab.demo import drawing, world
from lora_lab.demo.world import Attributes


def pixels(a: Attributes, seed: int = 1) -> np.ndarray:
    return np.asarray(drawing.draw(a, seed, 64)).astype(int)


def test_it_has_at_least_sixty_tags_all_different() -> None:
    words = world.vocabulary()
    assert len(words) == len(set(words)) >= 60


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31))
def test_every_tag_of_an_inhabitant_is_in_the_vocabulary(seed: int) -> None:
    tags = world.tags(world.sample(random.Random(seed)))
    assert len(tags) == len(set(tags))
    assert set(tags) <= set(world.vocabulary())


def test_every_tag_is_met() -> None:
    r = random.Random(0)
    seen = {tag for _ in range(3000) for tag in world.tags(world.sample(r))}
    assert seen == set(world.vocabulary())


def test_the_same_seed_draws_the_same_picture_and_another_one_does_not() -> None:
    a = world.sample(random.Random(4))
    assert (pixels(a, 7) == pixels(a, 7)).all()
    assert (pixels(a, 7) != pixels(a, 8)).any()


CHANGES = [
    {"hair": "red"}, {"hair_style": "twintails"}, {"eyes": "red"}, {"closed_eyes": True}, {"mouth": "open mouth"},
    {"clothes": "red hoodie"}, {"headwear": "crown"}, {"scarf": "red scarf"}, {"glasses": True}, {"eyepatch": True},
    {"blush": True}, {"dark_skin": True}, {"waving": True}, {"holding": "sword"}, {"background": "night sky"},
    {"framing": "full body"}, {"person": "1boy"}, {"style": world.STYLE},
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda c: next(iter(c)))
def test_a_changed_tag_is_a_visible_change(change: dict[str, object]) -> None:
    plain = Attributes()
    other = replace(plain, **change)
    assert world.tags(plain) != world.tags(other)
    assert (np.abs(pixels(plain) - pixels(other)).max(axis=2) > 40).sum() >= 8


def test_each_headwear_object_and_background_looks_different() -> None:
    backgrounds = (*world.PLAIN_BACKGROUNDS, *world.SCENES)
    for name, values in (("headwear", world.HEADWEAR), ("holding", world.OBJECTS), ("background", backgrounds)):
        pictures = [pixels(replace(Attributes(), **{name: value})).tobytes() for value in values]
        assert len(set(pictures)) == len(values)


def test_captions_in_the_style_name_no_colour_that_its_three_tones_cannot_show() -> None:
    a = Attributes(hair="red", eyes="green", clothes="blue dress", headwear="crown", background="grey background")
    assert world.tags(world.in_style(a)) == ["1girl", "short hair", "smile", "crown", "portrait", world.STYLE]


def test_one_hand_cannot_do_two_things() -> None:
    with pytest.raises(ValueError, match="one hand"):
        Attributes(waving=True, holding="book")


def test_the_base_never_meets_the_character_nor_the_style() -> None:
    r = random.Random(1)
    for _ in range(2000):
        tags = world.tags(world.sample(r))
        assert sum(f in tags for f in world.CHARACTER_FEATURES) <= 2
        assert world.STYLE not in tags


def test_the_character_always_has_its_features() -> None:
    r = random.Random(2)
    for _ in range(50):
        assert set(world.CHARACTER_FEATURES) <= set(world.tags(world.character(r)))


def test_its_features_are_rare_in_the_base() -> None:
    r = random.Random(3)
    people = [world.tags(world.sample(r)) for _ in range(3000)]
    shares = [sum(f in tags for tags in people) / len(people) for f in world.CHARACTER_FEATURES]
    assert sum(shares) / len(shares) < 0.15
