"""Tooltips: everything that a person can press, fill in or unfold says what it is for."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from lora_lab.guide import glossary
from lora_lab.ui import tab
from lora_lab.ui.context import UiContext
from lora_lab.ui.tips import dataset, tags, testing, tools, train
from tests.ui.shown import ShowHost

PANELS = (dataset.TIPS, tags.TIPS, train.TIPS, testing.TIPS, tools.TIPS)
NEVER_SHOWN = {"lora_lab_train_chosen", "lora_lab_advice_pressed"}
SILENT = (gr.Row, gr.Column, gr.Group, gr.HTML, gr.State, gr.Tabs)
"""Layout and text; what HTML holds has titles of its own."""


@pytest.fixture(params=["standalone", "webui"])
def blocks(tmp_path: Path, request: pytest.FixtureRequest) -> gr.Blocks:
    host = ShowHost(tmp_path)
    host.kind = request.param
    return tab.build(UiContext(host))


def tips_of(blocks: gr.Blocks) -> dict[str, str]:
    """As the page's JavaScript reads them."""
    found: dict[str, str] = {}
    for component in blocks.blocks.values():
        held = re.search(r'data-hints="([^"]*)"', str(getattr(component, "value", "") or ""))
        if isinstance(component, gr.HTML) and held:
            found |= json.loads(html.unescape(held[1]))
    return found


def asks_something(component: Any) -> bool:
    hidden = "lora-lab-hidden" in (component.elem_classes or []) or component.elem_id in NEVER_SHOWN
    form = type(component).__name__ == "Form"  # gradio's own, around neighbouring boxes
    return not (hidden or form or isinstance(component, (gr.Blocks, *SILENT)))


def test_every_widget_has_an_explanation(blocks: gr.Blocks) -> None:
    tips = tips_of(blocks)
    asked = [component for component in blocks.blocks.values() if asks_something(component)]
    assert len(asked) > 400
    silent = [c.elem_id or repr(c) for c in asked if not (getattr(c, "info", None) or tips.get(c.elem_id))]
    assert silent == []


def test_every_tooltip_has_its_widget(tmp_path: Path) -> None:
    host = ShowHost(tmp_path)
    host.kind = "webui"
    built = tab.build(UiContext(host))
    ids = {getattr(component, "elem_id", None) for component in built.blocks.values()}
    assert set(tips_of(built)) <= ids, "a text without a widget"
    assert sum(map(len, PANELS)) == len({name for tips in PANELS for name in tips}), "one widget, two texts"


def test_tooltips_are_short_sentences() -> None:
    for name, text in ((name, text) for tips in PANELS for name, text in tips.items()):
        assert 10 < len(text) < 260, name
        assert text[0].isupper(), name
        assert text.endswith((".", "?")), name


def test_a_term_of_the_glossary_is_told_in_its_words(blocks: gr.Blocks) -> None:
    tips = tips_of(blocks)
    own = {f"lora_lab_{name}" for panel in PANELS for name in panel}
    meanings = {word.word.lower(): word.meaning for word in glossary.WORDS}
    for component in blocks.blocks.values():
        meaning = meanings.get(str(getattr(component, "label", "")).lower())
        if component.elem_id in own and meaning:
            assert meaning in tips[component.elem_id] or getattr(component, "info", None), component.elem_id


def test_a_word_that_is_not_in_the_glossary_has_no_meaning() -> None:
    assert glossary.meaning("Rank").startswith("How much")
    with pytest.raises(KeyError):
        glossary.meaning("dim")  # a word beside "rank", not a heading
