"""The words of --write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_lab.errors import SettingsError
from lora_lab.tagging import names
from lora_lab.tagging.write_modes import WRITE_MODES, once, written

OLD = ["mika", "Long_hair", "hat"]
NEW = ["smile", "long hair", "sky"]
KNOWN = frozenset({"smile", "long hair", "sky", "hat"})


@pytest.mark.parametrize(
    ("mode", "tags"),
    [
        ("if-empty", "mika, Long_hair, hat"),
        ("append", "mika, Long_hair, hat, smile, sky"),
        ("prepend", "smile, sky, mika, Long_hair, hat"),
        ("replace", "smile, long hair, sky"),
        ("merge", "mika, smile, Long_hair, sky, hat"),
        ("no", "mika, Long_hair, hat"),
    ],
)
def test_each_mode(mode: str, tags: str) -> None:
    assert ", ".join(written(OLD, NEW, mode, KNOWN)) == tags


def test_pictures_without_a_caption_get_one_except_by_no() -> None:
    for mode in WRITE_MODES:
        assert written([], NEW, mode, KNOWN) == ([] if mode == "no" else NEW)


def test_a_tagger_that_finds_nothing_takes_nothing_away() -> None:
    for mode in WRITE_MODES:
        assert written(OLD, [], mode, KNOWN) == OLD or mode == "merge"
        assert sorted(written(OLD, [], mode, KNOWN)) == sorted(OLD)


def test_a_tag_that_was_found_twice_does_not_move_at_the_next_merge() -> None:
    twice = ["hat", "smile", "hat"]
    assert written(written([], twice, "merge", KNOWN), twice, "merge", KNOWN) == ["hat", "smile"]


def test_another_word_is_refused() -> None:
    with pytest.raises(SettingsError, match="'overwrite'"):
        written(OLD, NEW, "overwrite")


tags = st.lists(st.sampled_from(["mika", "long hair", "long_hair", "hat", "smile", "sky", "red boots"]), max_size=6)


@given(tags, tags, st.sampled_from(sorted(WRITE_MODES)))
def test_twice_is_once_and_nothing_is_lost_but_by_replace(old: list[str], new: list[str], mode: str) -> None:
    after = written(old, new, mode, KNOWN)
    assert written(after, new, mode, KNOWN) == after
    keys = [names.key(tag) for tag in after]
    if mode != "replace":
        assert {names.key(tag) for tag in old} <= set(keys)
    if len(once(old)) == len(old):
        assert len(set(keys)) == len(keys)
