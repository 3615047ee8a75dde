"""Spelling of tags: the key, blanks and underscores, brackets, captions there and back."""

from __future__ import annotations

import pytest

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_lab.tagging import names

TEXT = st.text(alphabet=st.sampled_from("aB_ \\()^o>ßÉ,:é1"), max_size=12)
TAG = TEXT.map(lambda text: " ".join(text.replace(",", "").split())).filter(bool)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Long_Hair", " long  hair "),
        (r"ganyu \(genshin impact\)", "ganyu_(genshin_impact)"),
        ("STRASSE", "straße"),
    ],
)
def test_spellings_of_one_tag_have_one_key(one: str, other: str) -> None:
    assert names.key(one) == names.key(other)


@pytest.mark.parametrize("face", ["^_^", "o_o", "O_O", "(o)_(o)", ">_<"])
def test_a_face_keeps_its_mouth(face: str) -> None:
    assert names.spaced(face) == face
    assert names.key(face) == face.casefold()
    assert names.key(names.escape(face)) == names.key(face)


def test_tags_that_differ_have_other_keys() -> None:
    assert names.key("red boots") != names.key("redboots")
    assert names.key("a\\b") != names.key("ab")


@settings(deadline=None)
@given(TAG)
def test_escaped_and_back(tag: str) -> None:
    assert names.unescape(names.escape(tag)) == tag
    if "\\" not in tag:
        assert names.key(names.escape(tag)) == names.key(tag)
    assert names.spaced(names.spaced(tag)) == names.spaced(tag)
    assert names.underscored(names.underscored(tag)) == names.underscored(tag)


@settings(deadline=None)
@given(st.lists(TAG, max_size=6))
def test_captions_there_and_back(tags: list[str]) -> None:
    assert names.split(names.join(tags)) == tags


@settings(deadline=None)
@given(st.text(alphabet="ab, \t\n\u00a0\u2003\x1f", max_size=20))
def test_split_takes_any_blanks(caption: str) -> None:
    assert names.split(caption) == [" ".join(p.split()) for p in caption.split(",") if p.split()]


def test_empty_pieces_and_blanks_are_dropped() -> None:
    assert names.split(" a ,, b\t c ,\n,") == ["a", "b c"]
    assert names.split("") == []
