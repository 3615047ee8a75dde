"""What are you making?, the list of rules with its buttons, the steps and the words, as handlers and as HTML."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from lora_lab.guide.arithmetic import Numbers
from lora_lab.guide.diagnosis import SYMPTOMS
from lora_lab.guide.difficulty import TABLE
from lora_lab.guide.glossary import WORDS, find
from lora_lab.training.settings import TrainSettings, settings_file
from lora_lab.ui import advice_part, advice_view, difficulty_view, symptoms_part, train_panel
from lora_lab.ui.svg import step_chain
from lora_lab.workflow import compare_runs
from lora_lab.workflow.project_folder import project_folder
from tests.ui.shown import SMALL, Tab


def form(shown: Tab, pictures: Path, **more: str) -> dict[Any, Any]:
    given = {"train_data_dir": str(pictures), "output_name": "mika", "train_batch_size": "4", **SMALL}
    return shown.train(**given | more)


def plan(shown: Tab, values: dict[Any, Any]) -> str:
    w = shown.panels.train
    return str(train_panel.plan(values, w, shown.context)[w.plan])


def press(shown: Tab, values: dict[Any, Any], **asked: Any) -> dict[Any, Any]:
    w = shown.panels.train
    values = values | {w.advice.pressed: json.dumps(asked)}
    return advice_part.press(values, w.advice, w.fields, w.plan, shown.context)


def test_answers_fill_the_form_and_each_value_has_its_reason(shown: Tab, pictures: Path) -> None:
    w = shown.panels.train
    values = form(shown, pictures) | {w.advice.making: advice_part.asked.MAKINGS["style"], w.advice.vram: "12"}
    changes = advice_part.propose(values, w.advice, w.fields, shown.context)
    assert changes[w.fields.widgets["algo"]] == "locon"
    assert w.fields.widgets["train_data_dir"] not in changes, "folders stay"
    html = changes[w.advice.told]
    assert html.count("data-setting") == html.count("back to recommended") > 15
    assert "later than the guide" in html
    assert changes[w.advice.answers]["pictures"] == "4", "counted"
    after = values | changes
    TrainSettings.from_mapping(w.fields.raw(after))


def test_every_difficulty_can_be_chosen(shown: Tab, pictures: Path) -> None:
    w = shown.panels.train
    assert len(advice_part.LETTERS) == len(TABLE)
    dims = set()
    for text in advice_part.LETTERS.values():
        values = form(shown, pictures) | {w.advice.difficulty: text, w.advice.pictures: "50"}
        changes = advice_part.propose(values, w.advice, w.fields, shown.context)
        dims.add(changes[w.fields.widgets["network_dim"]])
    assert len(dims) >= 6


def test_an_example_that_is_pressed_is_chosen(shown: Tab, pictures: Path) -> None:
    w = shown.panels.train
    html = unescape(difficulty_view.gallery("B"))
    assert re.findall(r'value="(.)"[^>]* aria-pressed="true"', html) == ["B"]
    pressed = [json.loads(asked) for asked in re.findall(r'data-advice="({.*?})"', html)]
    for asked, row in zip(pressed, TABLE, strict=True):
        changes = press(shown, form(shown, pictures), **asked)
        assert list(changes) == [w.advice.difficulty]
        given = advice_part.read(form(shown, pictures) | changes, w.advice, w.fields, shown.context)
        assert given["difficulty"] == row.letter
    assert press(shown, form(shown, pictures), act="difficulty", letter="Z") == {}


def test_the_list_of_rules_has_buttons_that_do_it(shown: Tab, pictures: Path) -> None:
    w = shown.panels.train
    values = form(shown, pictures, network_dim="8", network_alpha="64")
    html = plan(shown, values)
    assert 'data-rule="alpha-above-dim"' in html
    assert html.count("is above network_dim") == 1, "said once, with a button"
    changes = press(shown, values, act="set", changes={"network_alpha": 8.0})
    assert changes == {w.fields.widgets["network_alpha"]: "8"}
    assert 'data-rule="alpha-above-dim"' not in plan(shown, values | changes)


def test_a_rule_can_be_silenced_and_heard_again(shown: Tab, pictures: Path) -> None:
    values = form(shown, pictures, network_dim="8", network_alpha="64")
    press(shown, values, act="silence", rule="alpha-above-dim")
    html = plan(shown, values)
    assert 'data-rule="alpha-above-dim"' not in html
    assert "hear them again" in html
    press(shown, values, act="hear")
    assert 'data-rule="alpha-above-dim"' in plan(shown, values)


def test_the_answers_make_rules_sharper(shown: Tab, pictures: Path) -> None:
    w = shown.panels.train
    values = form(shown, pictures, network_dim="128", network_alpha="64")
    assert "dim-for-difficulty" not in plan(shown, values)
    assert "dim-for-difficulty" in plan(shown, values | {w.advice.answers: {"difficulty": "A"}})


def test_steps_are_drawn_and_explained(shown: Tab, pictures: Path) -> None:
    html = plan(shown, form(shown, pictures, max_train_epochs="5"))
    assert "12 pictures" in html, "4 pictures x 3"
    assert "one epoch more" in html
    chain = step_chain(Numbers((30, 7), (30, 7), 4, 2, 10))
    for part in ("37", "regularisation", "accumulation", "steps"):
        assert f">{part}</text>" in chain


def test_words_are_shown_and_are_not_twice() -> None:
    html = advice_view.glossary()
    assert all(f"<dt>{word.word}</dt>" in html for word in WORDS)
    keys = [word.word.lower() for word in WORDS]
    assert len(keys) == len(set(keys))
    settings = {spec.name for spec in TrainSettings.specs()}
    named = {name for word in WORDS for name in word.also if "_" in name}
    assert named <= settings | {"d_coef"}, "a word is about a setting that does not exist"
    assert list(find("clip_skip"))


@pytest.mark.parametrize("text", ["", "{}", "not json", '{"act": "dance"}'])
def test_a_button_that_says_nothing_does_nothing(shown: Tab, pictures: Path, text: str, told: list[str]) -> None:
    w = shown.panels.train
    values = form(shown, pictures) | {w.advice.pressed: text}
    if text == "not json":
        with pytest.raises(Exception, match="not understood"):
            advice_part.press(values, w.advice, w.fields, w.plan, shown.context)
    else:
        assert advice_part.press(values, w.advice, w.fields, w.plan, shown.context) == {}


def test_what_pictures_show_has_a_button_for_the_next_bake(shown: Tab, pictures: Path) -> None:
    w = shown.panels.train
    for symptom in SYMPTOMS:
        values = form(shown, pictures, network_dim="8") | {w.symptoms.seen: symptom.seen}
        html = str(symptoms_part.answer(values, w.symptoms, w.fields)[w.symptoms.told])
        assert symptom.means[1:] in unescape(html)
        changes = symptom.change(TrainSettings.from_mapping(w.fields.raw(values)).to_mapping(), False)
        assert ("data-advice" in html) == bool(changes)
        if changes:
            asked = json.loads(unescape(html.split('data-advice="')[1].split('"')[0]))
            after = values | press(shown, values, **asked)
            read = TrainSettings.from_mapping(w.fields.raw(after))
            assert all(getattr(read, name) == getattr(TrainSettings.from_mapping(changes), name) for name in changes)
    values = form(shown, pictures) | {w.symptoms.seen: symptoms_part.NOTHING}
    assert symptoms_part.answer(values, w.symptoms, w.fields) == {w.symptoms.told: ""}


def test_a_seed_that_never_gave_a_good_bake_is_spoken_of(shown: Tab, pictures: Path) -> None:
    data = shown.context.host.paths().data_dir
    for number in range(3):
        folder = data / "runs" / f"{number}-mika"
        folder.mkdir(parents=True)
        settings_file.write(TrainSettings(train_data_dir=str(pictures), seed=7), folder / "settings.json")
        (folder / "events.jsonl").write_text(json.dumps({"event": "RunEnded", "reason": "finished", "step": 9}) + "\n")
        compare_runs.keep(project_folder(pictures, data), folder.name, stars=1)
    assert 'data-rule="bad-seed"' in plan(shown, form(shown, pictures, seed="7"))
    assert 'data-rule="bad-seed"' not in plan(shown, form(shown, pictures, seed="8"))
