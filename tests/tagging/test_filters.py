"""The filter language, against Python's own and, or, not; what is wrong is told."""

from __future__ import annotations

import pytest

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_lab.tagging.filters import Filter, FilterError, Look, parse, quote

LOOK = Look(("Mika", "long_hair", "red boots", "ganyu (genshin impact)", "x, y"), "10_mika/close up 1.txt", True)


def holds(text: str, look: Look = LOOK) -> bool:
    return parse(text).matches(look)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "mika",
        "LONG HAIR",
        "long_hair AND NOT hat",
        "hat OR red boots",
        "hat AND hat OR mika",
        "NOT (hat OR cap), mika",
        "*boots",
        "red*",
        '"ganyu (genshin impact)"',
        r"ganyu \(genshin impact\)",
        r'"x\, y"',
        "edited",
        "NOT untagged",
        "tags>=5",
        "tags < 6",
        "folder:10_mika",
        "folder:10_*",
        "name:close*",
        'name:"close up 1"',
        "text:hair, red",
        "text:boots AND NOT text:bots",
    ],
)
def test_these_hold(text: str) -> None:
    if text == "text:hair, red":  # the comma parts it in two: the second is a tag that is not there
        assert not holds(text)
        assert holds('text:"hair, red"')
    else:
        assert holds(text)


@pytest.mark.parametrize("text", ["hat", "boots", "untagged", "NOT mika", "tags>5", "folder:mika", "name:close", "o*s"])
def test_these_do_not(text: str) -> None:
    assert not holds(text)


def test_words_of_the_language_are_tags_in_quotes_or_in_small_letters() -> None:
    look = Look(("and", "untagged", "NOT"))
    assert holds('and AND "untagged" AND "NOT"', look)
    assert not holds("untagged", look)


def test_tokens_are_counted_by_whom_can() -> None:
    look = Look(("a b", "c"), tokens=lambda text: len(text.split()))
    assert holds("tokens=3 AND over_limit:2", look)
    assert not holds("over_limit", look)
    with pytest.raises(FilterError, match="load a checkpoint"):
        holds("over_limit")
    assert parse("over_limit OR NOT edited AND name:a AND b").asks == {"tokens", "edited", "file", "tags"}


@pytest.mark.parametrize("text", ["(a", "a)", "a AND", "OR a", "NOT", '"a', "()", "a (b)", "NOT " * 60 + "a", "(" * 60])
def test_what_cannot_be_read_is_told(text: str) -> None:
    with pytest.raises(FilterError) as caught:
        parse(text)
    assert caught.value.remedy


@settings(deadline=None)
@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = parse(text)
    except FilterError:
        return
    assert isinstance(found, Filter)


TREE = st.recursive(
    st.sampled_from(["a", "b", "c d"]),
    lambda inner: st.one_of(inner.map(lambda x: ("NOT", x)), st.tuples(st.sampled_from(["AND", "OR"]), inner, inner)),
    max_leaves=8,
)


def written(tree: object) -> str:
    if isinstance(tree, str):
        return tree
    assert isinstance(tree, tuple)
    return f"NOT ({written(tree[1])})" if len(tree) == 2 else f"({written(tree[1])}) {tree[0]} ({written(tree[2])})"


def meant(tree: object, tags: set[str]) -> bool:
    if isinstance(tree, str):
        return tree in tags
    assert isinstance(tree, tuple)
    if len(tree) == 2:
        return not meant(tree[1], tags)
    one, other = meant(tree[1], tags), meant(tree[2], tags)
    return (one and other) if tree[0] == "AND" else (one or other)


@settings(deadline=None)
@given(TREE, st.sets(st.sampled_from(["a", "b", "c d"])))
def test_and_or_not_as_in_logic(tree: object, tags: set[str]) -> None:
    assert holds(written(tree), Look(tuple(tags))) == meant(tree, tags)


@settings(deadline=None)
@given(st.text(alphabet='ab*"\\(),:^_ ', min_size=1, max_size=8).filter(lambda t: t.strip() and "\\" not in t))
def test_a_quoted_tag_means_just_it(tag: str) -> None:
    assert holds(quote(tag), Look((tag,)))
    assert not holds(quote(tag), Look((tag + "x",)))
