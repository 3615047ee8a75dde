"""Choosing tags: against a plain loop over dense numbers, and each option by a case that can be worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_lab.errors import SettingsError
from lora_lab.tagging.choose import CHARACTER_FLOOR, Choice, choose, choose_tags
from lora_lab.tagging.scores import FLOOR, Scores
from lora_lab.tagging.tags import CHARACTER, GENERAL, RATING, Tag

TAGS = (
    Tag("general", RATING), Tag("explicit", RATING), Tag("1girl", GENERAL, 9), Tag("long_hair", GENERAL, 7),
    Tag("red_hair", GENERAL), Tag(">_<", GENERAL), Tag("saber_(fate)", CHARACTER), Tag("rin", CHARACTER),
)  # fmt: skip
VALUES = [
    [0.9, 0.2, 0.99, 0.36, 0.1, 0.8, 0.9, 0.5],
    [0.1, 0.6, 0.5, 0.9, 0.35, 0.0, 0.1, 0.0],
]


def scores(values: Any = VALUES) -> Scores:
    return Scores.from_dense(TAGS, np.array(values, np.float32))


def test_thresholds_of_both_categories_and_the_order_by_probability() -> None:
    found = choose(scores(), Choice())
    assert [s.tag for s in found[0]] == ["1girl", "saber (fate)", ">_<", "long hair"]
    assert [s.tag for s in found[1]] == ["long hair", "1girl", "red hair"]
    assert found[0][0].probability == pytest.approx(0.99)
    assert found[0][1].category == CHARACTER


@pytest.mark.parametrize(
    ("options", "first", "second"),
    [
        ({"general_threshold": 0.85}, "1girl, saber (fate)", "long hair"),
        ({"character_threshold": 0.5}, "1girl, saber (fate), >_<, rin, long hair", "long hair, 1girl, red hair"),
        ({"per_tag": (("long hair", 1), ("red_hair", 0.05))}, "1girl, saber (fate), >_<, red hair", "1girl, red hair"),
        ({"ratings": "first"}, "general, 1girl, saber (fate), >_<, long hair", "explicit, long hair, 1girl, red hair"),
        ({"ratings": "last"}, "1girl, saber (fate), >_<, long hair, general", "long hair, 1girl, red hair, explicit"),
        ({"ratings": "last", "exclude": ("general", "*hair")}, "1girl, saber (fate), >_<, explicit", "1girl, explicit"),
        ({"exclude": ("re:.*hair|rin",)}, "1girl, saber (fate), >_<", "1girl"),
        ({"exclude": ("SABER (fate)",)}, "1girl, >_<, long hair", "long hair, 1girl, red hair"),
        ({"replace": (("* hair", "hair"),)}, "1girl, saber (fate), >_<, hair", "hair, 1girl"),
        ({"replace": (("long_hair", ""),)}, "1girl, saber (fate), >_<", "1girl, red hair"),
        ({"underscores": True}, "1girl, saber_(fate), >_<, long_hair", "long_hair, 1girl, red_hair"),
        ({"escape": True}, r"1girl, saber \(fate\), >_<, long hair", "long hair, 1girl, red hair"),
        ({"max_tags": 2}, "1girl, saber (fate)", "long hair, 1girl"),
        ({"max_tags": 1, "ratings": "first"}, "general, 1girl", "explicit, long hair"),
        ({"min_share": 0.6}, "1girl, long hair", "long hair, 1girl"),
        ({"order": "model"}, "1girl, long hair, >_<, saber (fate)", "1girl, long hair, red hair"),
        ({"order": "alphabet"}, "1girl, >_<, long hair, saber (fate)", "1girl, long hair, red hair"),
        ({"order": "frequency"}, "1girl, long hair, saber (fate), >_<", "long hair, 1girl, red hair"),
        ({"characters_first": True}, "saber (fate), 1girl, >_<, long hair", "long hair, 1girl, red hair"),
    ],
)  # fmt: skip
def test_each_option(options: dict[str, Any], first: str, second: str) -> None:
    assert [", ".join(tags) for tags in choose_tags(scores(), Choice(**options))] == [first, second]


def test_the_cards_threshold_is_for_general_tags_where_it_is_known() -> None:
    choice = Choice(use_card=True)
    assert choose_tags(scores(), choice, 0.85) == [["1girl", "saber (fate)"], ["long hair"]]
    assert choose_tags(scores(), choice, None) == choose_tags(scores(), Choice())


def test_mcut_is_in_the_middle_of_the_largest_gap() -> None:
    found = choose_tags(scores([[0, 0, 0.8, 0.7, 0.2, 0.1, 0.1, 0.0], [0] * 8]), Choice(mcut=True))
    assert found == [["1girl", "long hair"], []]
    # A lone character below the floor is noise, however large the gap under it.
    assert choose_tags(scores([[0, 0, 0, 0, 0, 0, CHARACTER_FLOOR - 0.01, 0]]), Choice(mcut=True)) == [[]]
    assert choose_tags(scores([[0, 0, 0, 0, 0, 0, CHARACTER_FLOOR + 0.01, 0]]), Choice(mcut=True)) == [["saber (fate)"]]


def plain_mcut(values: list[float]) -> float:
    falling = [*sorted((v for v in values if v >= FLOOR), reverse=True), 0.0]
    gaps = [(a - b, (a + b) / 2) for a, b in zip(falling, falling[1:], strict=False)]
    return max(gaps, key=lambda gap: gap[0])[1] if gaps else 1.0


numbers = st.integers(0, 100).map(lambda n: float(np.float32(n / 100)))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(numbers, min_size=8, max_size=8), max_size=4), st.booleans(), numbers, numbers)
def test_as_a_plain_loop_would(values: list[list[float]], mcut: bool, general: float, character: float) -> None:
    choice = Choice(mcut=mcut, general_threshold=general, character_threshold=character)
    found = choose_tags(scores(np.array(values).reshape(-1, 8)), choice)
    for row, tags in zip(values, found, strict=True):
        limits = {GENERAL: general, CHARACTER: character}
        if mcut:
            limits[GENERAL] = plain_mcut(row[2:6])
            limits[CHARACTER] = max(CHARACTER_FLOOR, plain_mcut(row[6:]))
        expected = {
            tag.name for tag, value in zip(TAGS, row, strict=True)
            if tag.category != RATING and value >= FLOOR and np.float32(value) >= np.float32(limits[tag.category])
        }  # fmt: skip
        assert {tag if tag == ">_<" else tag.replace(" ", "_") for tag in tags} == expected
        assert len(tags) == len(expected)


def test_a_choice_is_kept_as_json_and_read_again() -> None:
    choice = Choice(0.3, per_tag=(("a", 0.5),), exclude=("b", "re:c.*"), replace=(("d", "e"),), order="model")
    assert Choice.from_json(choice.to_json()) == choice


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"general_threshold": 1.5}, "general_threshold is 1.5"),
        ({"per_tag": [["a", -1]]}, "the threshold of 'a' is -1"),
        ({"max_tags": -1}, "max_tags"),
        ({"order": "size"}, "order is 'size'"),
        ({"ratings": "all"}, "ratings is 'all'"),
        ({"exclude": ["re:("]}, "no regular expression"),
        ({"thresold": 1}, "no 'thresold'"),
        ({"replace": ["abc"]}, "damaged"),
        ({"general_threshold": "high"}, "damaged"),
    ],
)
def test_what_cannot_be_meant_is_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        Choice.from_json(values)


def test_no_pictures() -> None:
    assert choose(scores(np.zeros((0, 8))), Choice(ratings="first", mcut=True, max_tags=3)) == []


def test_one_picture_and_one_tag_can_be_looked_at() -> None:
    s = scores()
    assert list(s.picture(1).items())[:2] == [("long hair", pytest.approx(0.9)), ("explicit", pytest.approx(0.6))]
    np.testing.assert_allclose(s.tag("Long hair"), [0.36, 0.9], atol=1e-6)
    np.testing.assert_array_equal(s.tag("unknown"), [0, 0])
    assert choose_tags(s.take([1, 1]), Choice()) == [choose_tags(s, Choice())[1]] * 2
