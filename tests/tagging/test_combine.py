"""Combining taggers: against what a loop over the taggers that know a tag says."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_lab.errors import SettingsError
from lora_lab.tagging.combine import combine, moved
from lora_lab.tagging.scores import FLOOR, Scores
from lora_lab.tagging.tags import Tag

A = (Tag("blue_sky", 0, 5), Tag("hat", 0), Tag("own", 0))
B = (Tag("hat", 0, 9), Tag("blue sky", 0, 2))
C = (Tag("hat", 0), Tag("new", 4), Tag("blue_sky", 0))
NAMES = ["blue_sky", "hat", "own", "new"]
KEYS = [["blue_sky", "hat", "own"], ["hat", "blue_sky"], ["hat", "new", "blue_sky"]]

numbers = st.integers(0, 20).map(lambda n: n / 20)


def rows(width: int) -> st.SearchStrategy[list[list[float]]]:
    return st.lists(st.lists(numbers, min_size=width, max_size=width), min_size=2, max_size=2)


@settings(max_examples=40, deadline=None)
@given(rows(3), rows(2), rows(3), st.sampled_from(["mean", "max", "vote"]))
def test_only_those_that_know_a_tag_are_asked(
    a: list[list[float]], b: list[list[float]], c: list[list[float]], how: str
) -> None:
    values = [a, b, c]
    made = [Scores.from_dense(tags, np.array(v, np.float32)) for tags, v in zip((A, B, C), values, strict=True)]
    joint = combine(made, how)  # type: ignore[arg-type]
    assert [tag.name for tag in joint.tags] == NAMES
    for picture in range(2):
        found = {joint.tags[k].name: v for k, v in zip(*_row(joint, picture), strict=True)}
        for name in NAMES:
            said = [v[picture][keys.index(name)] for v, keys in zip(values, KEYS, strict=True) if name in keys]
            voted = sorted(said)[(len(said) - 1) // 2]
            expected = {"mean": statistics.mean(said), "max": max(said), "vote": voted}[how]
            assert found.get(name, 0.0) == pytest.approx(expected if expected >= FLOOR else 0.0, abs=1e-6)


def _row(scores: Scores, picture: int) -> tuple[list[int], list[float]]:
    part = slice(scores.starts[picture], scores.starts[picture + 1])
    return scores.columns[part].tolist(), scores.values[part].tolist()


def test_a_vote_passes_a_threshold_that_a_majority_passes() -> None:
    three = [Scores.from_dense((Tag("hat", 0),), np.array([[v]], np.float32)) for v in (0.9, 0.4, 0.1)]
    assert combine(three, "vote").values[0] == pytest.approx(0.4)
    assert combine(three[:2], "vote").values[0] == pytest.approx(0.4)  # both must say so
    assert combine(three[:1], "vote") is three[0]


def test_a_careful_taggers_own_threshold_becomes_the_common_one() -> None:
    one = Scores.from_dense((Tag("a", 0), Tag("b", 0), Tag("c", 0)), np.array([[0.53, 1.0, 0.265]], np.float32))
    np.testing.assert_allclose(moved(one, 0.53, 0.3).values, [0.3, 1.0, 0.15], atol=1e-6)


def test_counts_are_the_highest_and_what_cannot_be_combined_is_refused() -> None:
    a = Scores.from_dense(A, np.ones((1, 3), np.float32))
    b = Scores.from_dense(B, np.ones((1, 2), np.float32))
    assert [tag.count for tag in combine([a, b]).tags] == [5, 9, 0]
    with pytest.raises(SettingsError, match="no tagger"):
        combine([])
    with pytest.raises(SettingsError, match="different pictures"):
        combine([a, Scores.from_dense(B, np.ones((2, 2), np.float32))])
    with pytest.raises(SettingsError, match="'min'"):
        combine([a, b], "min")  # type: ignore[arg-type]
