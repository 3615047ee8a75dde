"""Operations: what each does by example; twice is once; tags that are not named stay, in their order; JSON and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_lab.tagging import names
from lora_lab.tagging.operations import (
    OPERATIONS,
    PLAIN,
    Context,
    Operation,
    OperationError,
    from_json,
    from_texts,
)

WORDS = ("mika", "1girl", "boots", "red boots", "red footwear", "long hair", "Hair", "blue_eyes", "scarf", "no boots")
OTHERS = ("^_^", "sky", "ganyu (genshin impact)", "solo", "star*", "white shirt", "Sky")
TAGS = st.lists(st.sampled_from(WORDS + OTHERS), max_size=9)
CONTEXT = Context({"sky": 3, "boots": 7}, lambda text: len(text.split()), {"boots": 0.9, "sky": 0.4})


def made(name: str, **values: Any) -> Operation:
    found = from_texts(name, values)
    assert from_json(found.to_json()) == found
    return found


CASES: list[tuple[str, dict[str, Any], str, str]] = [
    ("trigger-first", {"trigger": "mika"}, "1girl, Mika, sky", "mika, 1girl, sky"),
    ("trigger-first", {"trigger": "mika, winter mika"}, "sky, winter_mika", "mika, winter mika, sky"),
    ("trigger-first", {"trigger": "mika"}, "", "mika"),
    ("trigger-first", {"trigger": "a*"}, "abc", "a*, abc"),
    ("add", {"tags": "sky, day"}, "Sky, boots", "Sky, boots, day"),
    ("add", {"tags": "day", "position": "front", "keep": 1}, "mika, sky", "mika, day, sky"),
    ("remove", {"tags": "*hair, sky"}, "long hair, Hair, sky, hair ribbon", "hair ribbon"),
    ("remove", {"tags": r"star\*"}, "star*, start", "start"),
    ("remove", {"tags": "ganyu (genshin impact)"}, r"ganyu \(genshin impact\), sky", "sky"),
    ("replace", {"pairs": "boots=red boots"}, "boots, sky, red boots", "red boots, sky"),
    ("replace", {"pairs": "sky=; boots=shoes, red shoes"}, "sky, boots", "shoes, red shoes"),
    ("regex", {"pattern": r"^(\w+) boots$", "replacement": r"\1 shoes"}, "red boots, boots", "red shoes, boots"),
    ("regex", {"pattern": "sky|^s.*f$", "replacement": ""}, "sky, scarf, red", "red"),
    ("regex", {"pattern": "SKY", "replacement": "blue, sky", "ignore_case": "yes"}, "sky", "blue, sky"),
    ("rename", {"old": "mika", "new": "mika v2"}, "Mika, mika v2, mika's hat", "mika v2, mika's hat"),
    ("rename", {"old": "mika", "new": "rin", "inside": True}, "mika, mika's hat, mikado", "rin, rin's hat, mikado"),
    ("consolidate", {"group": "boots, red footwear, red boots", "into": "red boots"}, "1girl, red footwear, boots, sky", "1girl, red boots, sky"),  # noqa: E501
    ("consolidate", {"group": "boots, red footwear", "into": "red boots", "where": "all"}, "boots, sky", "boots, sky"),
    ("consolidate", {"group": "boots, red footwear", "into": "red boots", "where": "all"}, "red footwear, boots", "red boots"),  # noqa: E501
    ("prune", {"tags": "blue eyes, mika", "trigger": "mika"}, "mika, blue_eyes, sky", "mika, sky"),
    ("prune", {"tags": "blue eyes", "trigger": "mika"}, "rin, blue eyes", "rin, blue eyes"),
    ("duplicates", {}, "Long_Hair, sky, long hair, sky", "Long_Hair, sky"),
    ("implications", {}, "boots, red boots, no boots, girl, 1girl", "red boots, no boots, girl, 1girl"),
    ("implications", {}, "shirt, no shirt", "shirt, no shirt"),
    ("implications", {"pairs": "katana=sword, weapon", "endings": "off"}, "sword, katana, weapon, boots, red boots", "katana, boots, red boots"),  # noqa: E501
    ("implications", {"keep": "mika"}, "mika, winter mika", "mika, winter mika"),
    ("spelling", {"to": "spaces", "keep": "mika_v2"}, "mika_v2, long_hair, ^_^", "mika_v2, long hair, ^_^"),
    ("spelling", {"to": "escaped"}, r"a (b), c \(d\)", r"a \(b\), c \(d\)"),
    ("spelling", {"to": "plain"}, r"a \(b\)", "a (b)"),
    ("on-off", {"tag": "winter", "when": "scarf OR coat"}, "mika, scarf", "mika, scarf, winter"),
    ("on-off", {"tag": "winter", "when": "scarf OR coat", "keep": 1}, "mika, scarf", "mika, winter, scarf"),
    ("on-off", {"tag": "winter", "when": "scarf"}, "mika, Winter, sky", "mika, sky"),
    ("order", {"by": "groups", "subject": "*hair"}, "mika, sky, red hair, 1girl, solo", "mika, 1girl, solo, red hair, sky"),  # noqa: E501
    ("order", {"by": "alphabet", "keep": 0}, "b, C, a", "a, b, C"),
    ("order", {"by": "frequency", "keep": 1}, "mika, x, sky, boots", "mika, boots, sky, x"),
    ("order", {"by": "score", "keep": 1}, "mika, sky, boots, by hand", "mika, by hand, boots, sky"),
    ("limit", {"tokens": 3}, "mika, red boots, sky", "mika, red boots"),
    ("limit", {"tokens": 3, "keep": "sky"}, "mika, red boots, sky", "mika, sky"),
    ("limit", {"tokens": 0, "tags": 2}, "mika, red boots, sky", "mika, red boots"),
    ("prefix", {"tags": "sketch", "keep": 1}, "mika, sky, sketch", "mika, sketch, sky"),
    ("prefix", {"tags": "sketch", "at": "end"}, "sketch, sky", "sky, sketch"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "values", "before", "after"), CASES)
def test_examples(name: str, values: dict[str, Any], before: str, after: str) -> None:
    operation = made(name, **values)
    tags = names.split(before)
    assert names.join(operation.apply(tags, CONTEXT)) == after
    assert names.join(tags) == before, "the given list is never changed"


OPERATIONS_TO_TRY = [made(name, **values) for name, values, _, _ in CASES]


def test_every_operation_is_tried_explained_and_has_an_example_that_can_be_meant() -> None:
    assert {o.name for o in OPERATIONS_TO_TRY} == set(OPERATIONS)
    for name, kind in OPERATIONS.items():
        assert kind.name == name
        assert kind.about.endswith(".")
        assert all(option.help for option in kind.options())
        example = kind(**kind.example)
        example.check()
        assert from_json(example.to_json()) == example


@settings(deadline=None, max_examples=400)
@given(st.sampled_from([o for o in OPERATIONS_TO_TRY if o.name != "regex"]), TAGS)
def test_twice_is_once(operation: Operation, tags: list[str]) -> None:
    once = operation.apply(tags, CONTEXT)
    assert operation.apply(once, CONTEXT) == once


def untouched(operation: Operation, tags: Sequence[str]) -> list[str]:
    """Tags that an operation has no word for: made up, so that no pattern of the cases names them."""
    return [tag for tag in tags if tag.startswith("zz")]


@settings(deadline=None, max_examples=400)
@given(
    st.sampled_from([o for o in OPERATIONS_TO_TRY if o.name not in ("limit", "order", "duplicates", "spelling")]),
    st.lists(st.sampled_from([*WORDS, *OTHERS, "zz", "zz one", "Zz_two", "zz (x)", "zzz"]), max_size=9),
)
def test_tags_that_are_not_named_stay_in_their_order(operation: Operation, tags: list[str]) -> None:
    if operation.name == "implications":
        tags = list(dict.fromkeys(tags))
    assert untouched(operation, operation.apply(tags, CONTEXT)) == untouched(operation, tags)


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(["alphabet", "frequency", "score", "groups"]), TAGS, st.integers(0, 3))
def test_ordering_neither_adds_nor_loses(by: str, tags: list[str], keep: int) -> None:
    found = made("order", by=by, keep=keep).apply(tags, CONTEXT)
    assert sorted(found) == sorted(tags)
    assert found[:keep] == tags[:keep]


@settings(deadline=None, max_examples=200)
@given(TAGS, st.integers(1, 12), st.integers(0, 6))
def test_a_limit_is_kept_and_no_tighter_than_needed(tags: list[str], tokens: int, most: int) -> None:
    count = CONTEXT.tokens
    assert count is not None
    found = made("limit", tokens=tokens, tags=most).apply(tags, CONTEXT)
    assert found == tags[: len(found)]
    assert count(names.join(found)) <= tokens
    assert not most or len(found) <= most
    if len(found) < len(tags) and not (most and len(found) == most):
        assert count(names.join(tags[: len(found) + 1])) > tokens


@pytest.mark.parametrize(
    ("name", "values", "word"),
    [
        ("ad", {"tags": "a"}, "did you mean add"),
        ("add", {"tag": "a"}, "use tags"),
        ("add", {}, "lacks tags"),
        ("add", {"tags": " , "}, "empty"),
        ("add", {"tags": "a", "position": "middle"}, "end, front"),
        ("add", {"tags": "a", "keep": "x"}, "whole number"),
        ("add", {"tags": "a", "keep": -1}, "0 or more"),
        ("replace", {"pairs": "a"}, "old=new"),
        ("replace", {"pairs": "a=b;b=c"}, "two steps"),
        ("regex", {"pattern": "(", "replacement": ""}, "backslash"),
        ("regex", {"pattern": "a*", "replacement": "b"}, "everywhere"),
        ("regex", {"pattern": "a", "replacement": r"\2"}, "not right"),
        ("rename", {"old": "mika", "new": "mika v2", "inside": "on"}, "grow"),
        ("rename", {"old": "mika", "new": "a, b"}, "comma"),
        ("rename", {"old": "mika", "new": "x", "inside": "perhaps"}, "true or false"),
        ("consolidate", {"group": "a", "into": "b, c"}, "one tag"),
        ("implications", {"pairs": "a=b;b=a"}, "imply each other"),
        ("implications", {"endings": "off"}, "nothing is implied"),
        ("limit", {"tokens": 0}, "no limit"),
        ("order", {"by": "colour"}, "alphabet"),
        ("on-off", {"tag": "a", "when": "(b"}, "not closed"),
        ("on-off", {"tag": "a", "when": "folder:x"}, "narrow"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_way_out(name: str, values: dict[str, Any], word: str) -> None:
    with pytest.raises(Exception, match=word) as caught:
        from_texts(name, values)
    assert type(caught.value).__name__ in ("OperationError", "FilterError")


@pytest.mark.parametrize(
    "values", [None, [], {"operation": "add", "tags": "a"}, {"operation": "add", "tags": [1]}, {"operation": ["add"]}]
)
def test_files_with_wrong_types_are_refused(values: object) -> None:
    with pytest.raises(OperationError):
        from_json(values)


def test_tokens_that_nobody_can_count_are_told() -> None:
    with pytest.raises(OperationError, match="load a checkpoint"):
        made("limit", tokens=75).apply(["a"], PLAIN)


@pytest.mark.parametrize("name", ["consolidate", "duplicates", "implications", "limit"])
def test_100_000_tags_are_no_problem(name: str) -> None:
    tags = [f"tag {n}" for n in range(100_000)]
    assert next(o for o in OPERATIONS_TO_TRY if o.name == name).apply(tags, CONTEXT)
