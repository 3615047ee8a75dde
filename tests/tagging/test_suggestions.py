"""Each rule on captions in which it must speak, and on ones in which it must not; edits carried out as a panel does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_lab.tagging import names
from lora_lab.tagging.scores import Scores
from lora_lab.tagging.suggestions import Captions, Choice, Suggestion, suggest
from lora_lab.tagging.tags import Tag


def captions(*lines: str, trigger: str = "mika", chances: dict[str, Sequence[float]] | None = None) -> Captions:
    """One concept; `chances` gives a tagger's probabilities for each tag, picture by picture."""
    scores = None
    if chances is not None:
        tags = [Tag(name.replace(" ", "_"), 0) for name in chances]
        table = np.array(list(chances.values()), np.float32).T.reshape(len(lines), len(tags))
        scores = Scores.from_dense(tags, table)
    return Captions(
        files=tuple(f"10_mika/{n}.txt" for n in range(len(lines))), tags=tuple(tuple(names.split(t)) for t in lines),
        concepts=("mika",) * len(lines), triggers={"mika": (trigger,)}, scores=scores, tokens=lambda c: len(c.split()),
    )  # fmt: skip


def taken(found: Captions, choice: Choice) -> list[str]:
    """The captions after a click."""
    lines = {file: list(tags) for file, tags in zip(found.files, found.tags, strict=True)}
    for edit in choice.edits:
        for file in edit.files:
            lines[file] = edit.operation.apply(lines[file])
    return [names.join(tags) for tags in lines.values()]


def of(found: Captions, rule: str) -> list[Suggestion]:
    return [s for s in suggest(found) if s.rule == rule]


def only(found: Captions, rule: str) -> Suggestion:
    (suggestion,) = of(found, rule)
    assert suggestion.why.endswith(".")
    assert set(suggestion.files) <= set(found.files)
    return suggestion


def test_a_missing_trigger_is_put_first() -> None:
    found = captions("mika, smile", "smile, mika", "smile")
    suggestion = only(found, "trigger")
    assert suggestion.files == found.files[1:]
    assert taken(found, suggestion.choices[0]) == ["mika, smile", "mika, smile", "mika, smile"]
    assert not of(captions("mika, smile"), "trigger")


def test_the_guides_boots_become_one_tag() -> None:
    found = captions("mika, boots, red footwear, red boots, smile", "mika, red footwear, red boots")
    assert taken(found, only(found, "implied").choices[0])[0] == "mika, red footwear, red boots, smile"
    found = captions("mika, red footwear, red boots, smile", "mika, red footwear, red boots", "mika, black gloves")
    suggestion = only(found, "consolidate")
    assert taken(found, suggestion.choices[0]) == ["mika, red boots, smile", "mika, red boots", "mika, black gloves"]


def test_another_colour_is_another_thing() -> None:
    assert not of(captions("mika, red boots, black footwear", "mika, white gloves, boots"), "consolidate")


def test_what_is_nearly_everywhere_can_melt_into_the_trigger_or_be_named_everywhere() -> None:
    found = captions(*["mika, 1girl, horns, smile"] * 9, "mika, 1girl, smile")
    suggestion = only(found, "nearly-all")
    assert suggestion.tags == ("smile", "horns")
    prune, name = suggestion.choices
    assert taken(found, prune) == ["mika, 1girl"] * 10
    assert taken(found, name)[-1] == "mika, 1girl, smile, horns"


def test_a_tag_of_one_picture_is_doubted_by_its_probability() -> None:
    lines = [f"mika, smile, tag{n % 3}" for n in range(9)]
    lines[0] += ", lamp, moon"
    chances = {"lamp": [0.4, *[0.0] * 8], "moon": [0.95, *[0.0] * 8]}
    found = captions(*lines, chances=chances)
    unsure, every = only(found, "rare").choices
    assert taken(found, unsure)[0] == "mika, smile, tag0, moon"
    assert taken(found, every)[0] == "mika, smile, tag0"
    assert not of(captions("mika, lamp", "mika, smile"), "rare")  # too few pictures to call anything rare


def test_a_neighbours_tag_just_under_the_threshold_is_offered() -> None:
    lines = ["mika, scarf", "mika, scarf", "mika", "mika"]
    found = captions(*lines, chances={"scarf": [0.9, 0.8, 0.3, 0.1]})
    suggestion = only(found, "just-under")
    assert taken(found, suggestion.choices[0]) == ["mika, scarf", "mika, scarf", "mika, scarf", "mika"]
    assert not of(captions(*lines), "just-under")


def test_contradictions_keep_the_more_probable() -> None:
    chances = {"long hair": [0.5, 0.9], "short hair": [0.8, 0.1], "red eyes": [0.9, 0.9], "blue eyes": [0.4, 0.1]}
    found = captions("mika, long hair, short hair, red eyes, blue eyes", "mika, long hair, red eyes", chances=chances)
    after = [taken(found, suggestion.choices[0])[0] for suggestion in of(found, "contradiction")]
    assert after == ["mika, short hair, red eyes, blue eyes", "mika, long hair, short hair, red eyes"]
    assert not of(captions("mika, red eyes, blue eyes, heterochromia"), "contradiction")


def test_one_brown_hair_on_a_blonde() -> None:
    found = captions(*["mika, blonde hair"] * 7, "mika, brown hair")
    right, gone = only(found, "odd-colour").choices
    assert taken(found, right)[-1] == "mika, blonde hair"
    assert taken(found, gone)[-1] == "mika"
    assert not of(captions(*["mika, blonde hair"] * 4, *["mika, brown hair"] * 4), "odd-colour")


def test_spelling_repeats_and_length() -> None:
    found = captions("mika, long_hair", "mika, long hair", "mika, smile, smile")
    assert taken(found, only(found, "spelling").choices[0])[0] == "mika, long hair"
    assert taken(found, only(found, "repeated").choices[0])[2] == "mika, smile"
    long = captions("mika, " + ", ".join(f"tag{n}" for n in range(90)))
    cut = of(long, "token-limit")[0].choices[0].edits[0].operation
    assert cut.to_json()["operation"] == "limit"


def test_what_only_a_person_can_mend_has_no_button() -> None:
    found = captions("mika, watermark, smile", "mika", "mika, hat, smile", "mika, hat", "mika, hat, glasses")
    for rule in ("unwanted", "untagged", "toggles", "few-toggles", "poses"):
        assert only(found, rule).choices == ()
    assert only(found, "untagged").files == (found.files[1],)
    assert not of(captions("mika, standing", "mika, sitting, hat"), "poses")


def test_concepts_that_share_tags_and_foreign_dialects() -> None:
    shared = Captions(
        files=tuple("abcdef"), tags=(("one", "red hair"),) * 3 + (("two", "red hair"),) * 3,
        concepts=("one",) * 3 + ("two",) * 3, triggers={"one": ("one",), "two": ("two",)},
    )  # fmt: skip
    assert only(shared, "shared-tags").tags == ("red hair",)
    assert only(captions("mika, anthro, mammal, canid"), "dialect").tags == ("anthro", "canid", "mammal")
    known = captions("mika, smile, frobnicated", chances={"smile": [0.9]})
    assert only(known, "unknown-tags").tags == ("frobnicated",)


def test_a_dismissed_finding_stays_away_while_it_is_the_same() -> None:
    found = captions("smile", "smile, mika")
    shown = suggest(found)
    assert not suggest(found, {s.id for s in shown})
    assert len({s.id for s in shown}) == len(shown)


WORDS = st.sampled_from(
    ["mika", "1girl", "red boots", "boots", "red footwear", "long hair", "long_hair", "short hair", "red hair", "hat",
     "blue hair", "watermark", "smile", "standing", "black hat", "headwear"]
)  # fmt: skip


@given(st.lists(st.lists(WORDS, max_size=8), max_size=12))
def test_taking_a_finding_keeps_what_it_does_not_name_and_settles_it(lines: list[list[str]]) -> None:
    found = captions(*map(names.join, lines))
    for suggestion in suggest(found):
        for choice in suggestion.choices:
            after = [names.split(text) for text in taken(found, choice)]
            named = {names.key(tag) for tag in (*suggestion.tags, "mika")}
            for before, now in zip(found.tags, after, strict=True):
                untouched = {names.key(tag) for tag in before} - named
                if suggestion.rule not in ("implied", "nearly-all"):
                    assert untouched <= {names.key(tag) for tag in now}
            again = captions(*map(names.join, after))
            if suggestion.rule in ("trigger", "implied", "repeated", "contradiction", "consolidate"):
                assert suggestion.id not in {s.id for s in suggest(again)}


def test_the_demo_dataset_is_cleaned_by_a_few_clicks(tmp_path: object) -> None:
    """True tags of the character with its features on all pictures: trigger, then pruning, and all is done."""
    import random

    from lora_lab.demo import world

    r = random.Random(3)
    lines = [", ".join(world.tags(world.character(r))) for _ in range(18)]
    found, clicks = captions(*lines, trigger=world.CHARACTER), 0
    while clicks < 10 and (open_ := [s for s in suggest(found) if s.choices and s.rule != "rare"]):
        found, clicks = captions(*taken(found, open_[0].choices[0]), trigger=world.CHARACTER), clicks + 1
    assert clicks <= 3
    for tags in found.tags:
        assert tags[0] == world.CHARACTER
        assert not set(tags) & set(world.CHARACTER_FEATURES)


@pytest.mark.parametrize("lines", [[], [""], ["", ""]])
def test_no_captions_no_failure(lines: list[str]) -> None:
    assert all(s.rule in ("trigger", "untagged", "poses") for s in suggest(captions(*lines)))
