"""Captions: kohya's options in kohya's order."""

from __future__ import annotations

import math
import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from lora_lab.dataset.captions import Moment, process, split_tags, variants, warmed_up, wildcards
from lora_lab.dataset.options import DatasetOptions

LETTERS = st.characters(blacklist_characters=",{}|", blacklist_categories=("Cs", "Cc", "Zl", "Zp"))
TAG = st.text(LETTERS, min_size=1).map(str.strip).filter(bool)


def run(text: str, seed: int = 0, epoch: int = 1, **options: object) -> str:
    return process(text, DatasetOptions(**options), Moment(epoch), random.Random(seed))


@given(st.lists(TAG, min_size=1, max_size=12), st.integers(0, 12), st.integers(0, 99))
def test_shuffling_keeps_the_front_and_loses_nothing(tags: list[str], keep: int, seed: int) -> None:
    out = split_tags(run(", ".join(tags), seed, shuffle_caption=True, keep_tokens=keep))
    assert out[:keep] == tags[:keep]
    assert Counter(out) == Counter(tags)


@given(st.lists(TAG, min_size=1, max_size=12), st.integers(1, 5), st.integers(0, 99))
def test_dropping_tags_spares_the_front(tags: list[str], keep: int, seed: int) -> None:
    text = ", ".join(tags)
    assert split_tags(run(text, seed, caption_tag_dropout_rate=1.0, keep_tokens=keep)) == tags[:keep]
    some = split_tags(run(text, seed, caption_tag_dropout_rate=0.5, keep_tokens=keep))
    assert not Counter(some) - Counter(tags)


def test_without_options_the_first_line_is_untouched() -> None:
    assert run("saber (fate),  1girl ,smile\nsecond line") == "saber (fate),  1girl ,smile"


def test_a_dropped_caption_is_empty_prefix_and_all() -> None:
    assert run("a, b", caption_prefix="p", caption_dropout_rate=1.0) == ""
    assert [run("a", epoch=e, caption_dropout_every_n_epochs=3) for e in range(1, 7)] == ["a", "a", "", "a", "a", ""]


def test_prefix_and_suffix_are_joined_with_a_blank() -> None:
    assert run("a, b", caption_prefix="p,", caption_suffix=", s") == "p, a, b , s"


def test_the_separator_beats_keep_tokens_and_can_fix_the_end() -> None:
    wanted = {"shuffle_caption": True, "keep_tokens_separator": "|||", "keep_tokens": 1}
    out = {run("x, y ||| a, b ||| z", s, **wanted) for s in range(20)}
    assert out == {"x, y, a, b, z", "x, y, b, a, z"}


def test_grouped_tags_move_as_one() -> None:
    out = {run("x, a;;;b, c", s, shuffle_caption=True, secondary_separator=";;;") for s in range(40)}
    assert all("a,b" in text for text in out)


def test_wildcards_choose_and_double_braces_stay() -> None:
    assert {wildcards("{a|b} {{c}}", random.Random(s)) for s in range(20)} == {"a {c}", "b {c}"}
    assert {run("one\ntwo", s, enable_wildcard=True) for s in range(20)} == {"one", "two"}


def test_wildcards_within_wildcards() -> None:
    found = {wildcards("{a|x {b|c} y} d", random.Random(s)) for s in range(60)}
    assert found == {"a d", "x b y d", "x c y d"}
    assert wildcards("{} } {", random.Random(0)) == "{} } {"


@given(st.text(), st.integers(0, 9))
def test_wildcards_take_any_text(text: str, seed: int) -> None:
    wildcards(text, random.Random(seed))


def test_prefix_and_suffix_go_to_the_line_that_is_used() -> None:
    options = {"enable_wildcard": True, "caption_prefix": "{p|q},", "caption_suffix": "s"}
    found = {run("a\r\n\r\nb\n", s, **options) for s in range(60)}
    assert found == {"p, a s", "q, a s", "p, b s", "q, b s"}
    assert run("\n\n a \nb") == "a"
    assert run("one\u2028still one\x0band on\ntwo") == "one\u2028still one\x0band on"


def test_the_order_is_kohyas() -> None:
    # The prefix counts as a kept tag, wildcards are chosen before tags move, the second separator comes last.
    options = {"caption_prefix": "p,", "enable_wildcard": True, "shuffle_caption": True, "keep_tokens": 1}
    found = {run("{a|b};;;c, d", s, secondary_separator=";;;", **options) for s in range(80)}
    assert found == {"p, a,c, d", "p, b,c, d", "p, d, a,c", "p, d, b,c"}


def test_the_same_seed_gives_the_same_caption() -> None:
    assert len({run("a, b, c, d, e", 5, shuffle_caption=True) for _ in range(5)}) == 1


@given(st.integers(0, 12), st.integers(0, 6), st.integers(1, 50), st.integers(0, 60))
def test_tags_warm_up_as_kohya_counts_them(count: int, least: int, length: int, step: int) -> None:
    tags = [f"t{i}" for i in range(count)]
    options = DatasetOptions(token_warmup_min=least, token_warmup_step=length)
    judge = tags
    if step < length:
        judge = tags[: math.floor(step * ((count - least) / length)) + least]
    found = warmed_up(count, options, Moment(1, step, 1000))
    exact = step * (count - least) % length == 0  # there kohya's float may fall short of a whole number
    assert abs(found - len(judge)) <= int(exact)
    assert warmed_up(count, options, Moment(1, length, 1000)) == count


def test_a_warmup_below_one_is_a_share_of_the_run_and_spares_the_kept_tags() -> None:
    options = DatasetOptions(token_warmup_step=0.5, token_warmup_min=1, keep_tokens=1)

    def at(step: int) -> str:
        return process("k, a, b, c, d, e", options, Moment(1, step, 20), random.Random(0))

    assert [at(step) for step in (0, 5, 9, 10)] == ["k, a", "k, a, b, c", "k, a, b, c, d", "k, a, b, c, d, e"]


def test_another_separator_parts_the_tags() -> None:
    options = {"caption_separator": ";", "shuffle_caption": True, "keep_tokens": 1}
    found = {run("k; a, b; c", s, **options) for s in range(20)}
    assert found == {"k, a, b, c", "k, c, a, b"}
    assert run("a||b", secondary_separator="||", caption_separator=";") == "a;b"


WILD = st.text(st.sampled_from("ab{}|, \n"), max_size=24)


@given(WILD, st.booleans(), st.booleans(), st.integers(0, 99))
def test_every_caption_is_among_its_variants(text: str, wild: bool, drops: bool, seed: int) -> None:
    options = {"enable_wildcard": wild, "caption_prefix": "p", "caption_suffix": "{x|y}"}
    options |= {"caption_dropout_rate": 0.3 * drops}
    every = variants(text, DatasetOptions(**options))
    if every is not None:
        assert run(text, seed, **options) in every


def test_variants_are_all_that_can_come_and_no_more() -> None:
    options = {"enable_wildcard": True, "caption_prefix": "{p|q}", "caption_dropout_every_n_epochs": 2}
    every = variants("{a|{b|c} } {{d}}\nx", DatasetOptions(**options))
    assert every == {run("{a|{b|c} } {{d}}\nx", s, e, **options) for s in range(300) for e in (1, 2)}
    assert len(every) == 2 * 3 + 2 + 1
    assert variants("{a|b}" * 7, DatasetOptions(enable_wildcard=True)) is None
    assert variants("a, b", DatasetOptions(shuffle_caption=True)) is None
    assert variants("{a|b}", DatasetOptions()) == {"{a|b}"}
