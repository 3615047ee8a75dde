"""Influence map, strengths and diagnosis from the panel Test, on a tiny model; their pages are escaped HTML."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("diffusers", reason="diffusers is not installed")

from lora_lab.errors import CheckpointError, SettingsError  # noqa: E402
from lora_lab.ui import answers_part, testing_form, testing_panel  # noqa: E402
from lora_lab.ui.context import UiContext  # noqa: E402
from lora_lab.workflow.tasks import tasks  # noqa: E402
from tests.testing.small import PictureModel  # noqa: E402
from tests.ui.shown import Tab  # noqa: E402
from tests.ui.test_testing_panel import context, panel, values  # noqa: E402, F401 - fixtures


@pytest.fixture
def asked(panel: Any, values: Any) -> dict[Any, Any]:  # noqa: F811
    w, form = panel.answers, panel.form
    filled = {box: box.value for box in w.form}
    one = {form.prompts: "mika, <u>", form.seeds: "3, 4", form.blocks: "M00 OUT03", w.trigger: "mika"}
    return {**values, **filled, **one, w.tagger: "demo", w.concept: "smile"}


def answer(panel: Any) -> str:  # noqa: F811
    task = tasks().latest(answers_part.KIND)
    assert task is not None
    status = task.wait(120)
    assert status.state == "done", status.error
    changes, known = answers_part.refresh(panel.answers, "")
    assert answers_part.refresh(panel.answers, known) == ({}, known)
    html: str = changes[panel.answers.answer]
    assert "<u>" not in html
    return html


def test_the_map_proposes_and_the_proposal_goes_on(
    panel: Any, asked: Any, context: UiContext, shown: Tab  # noqa: F811
) -> None:
    w, form, train = panel.answers, panel.form, shown.panels.train.fields
    with pytest.raises(SettingsError, match="nothing is proposed yet"):
        answers_part.send_proposal({}, w, shown.panels.tabs, train, context)
    answers_part.ask_map(asked, w, form, context)
    html = answer(panel)
    assert html.count("<svg") == 2
    assert html.count("<img") == 2
    assert "Proposal" in html
    tried = answers_part.try_proposal({form.lists: "1,1,1"}, w, form)
    assert tried[form.lists].splitlines()[0] == "1,1,1"
    assert tried[form.mode] == testing_form.PRESETS
    rows = testing_form.plan_of({**asked, form.lists: tried[form.lists].splitlines()[1]}, form, context).rows
    assert len(rows) == 7
    sent = answers_part.send_proposal({}, w, shown.panels.tabs, train, context)
    assert train.widgets["mid_lr_weight"] in sent


def _saved_by_a_run(host_data: Path, lora: Path) -> None:
    run = host_data / "runs" / "1"
    run.mkdir(parents=True)
    (run / "settings.json").write_text("{}", encoding="utf-8")
    saved = {"event": "SnapshotSaved", "step": 2, "path": str(lora)}
    lines = [json.dumps(event) for event in (saved, {"event": "Validated", "step": 2, "loss": 0.0625})]
    (run / "events.jsonl").write_text("\n".join(lines), encoding="utf-8")


def test_strengths_are_drawn_with_advice(panel: Any, asked: Any, context: UiContext) -> None:  # noqa: F811
    w, form = panel.answers, panel.form
    strengths = {form.mode: testing_form.STRENGTHS, form.values: "1, 0.5", form.seeds: "3", w.others: "smile\nfrown"}
    answers_part.ask_strengths({**asked, **strengths}, w, form, context)
    html = answer(panel)
    assert html.count("<polyline") == 2 * 4, "a line and its leader"
    lines = [[float(x) for x in re.findall(r"([\d.]+),", line)] for line in re.findall('points="(.*?)"', html)]
    assert all(line == sorted(line) and len(line) == 2 for line in lines), "however they were typed"
    assert "held-out loss" not in html
    assert "One seed cannot tell" not in html, "the concept's tags are given"
    answers_part.ask_strengths({**asked, **strengths, w.concept: ""}, w, form, context)
    assert "One seed cannot tell" in answer(panel)
    _saved_by_a_run(context.host.paths().data_dir, testing_form.plan_of(asked, form, context).lora)
    answers_part.ask_strengths({**asked, **strengths}, w, form, context)
    assert "held-out loss 0.0625" in answer(panel)
    answers_part.ask_strengths({**asked, **strengths, w.apart: True}, w, form, context)
    assert "te \\ unet" in answer(panel)


def test_strengths_on_checkpoints(panel: Any, asked: Any, context: UiContext, monkeypatch: Any) -> None:  # noqa: F811
    w, form, host = panel.answers, panel.form, context.host
    second = PictureModel()  # type: ignore[abstract]
    second.info = replace(second.info, name="<b>.safetensors", identity="b")
    monkeypatch.setattr(host, "others", {"tiny.safetensors": host.model, "<b>.safetensors": second})  # type: ignore[attr-defined]
    read = testing_panel.reread({form.others: []}, panel, context)
    assert read[w.checkpoints]["choices"] == list(host.checkpoints())
    one = {**asked, form.seeds: "3", w.checkpoints: list(host.checkpoints())}
    one |= {form.mode: testing_form.STRENGTHS, form.values: "0.5, 1"}
    said = answers_part.ask_strengths(one, w, form, context)[w.told]
    assert "2 checkpoints with 4 pictures each: 8 pictures" in said
    html = answer(panel)
    assert html.count("<polyline") == 2 * 2 * 4
    assert html.count("<img") == 2
    assert "&lt;b&gt;.safetensors" in html
    with pytest.raises(CheckpointError, match=r"gone\.safetensors"):
        answers_part.ask_strengths({**one, w.checkpoints: ["gone.safetensors"]}, w, form, context)


def test_a_diagnosis_names_the_tags(panel: Any, asked: Any, context: UiContext, shown: Tab) -> None:  # noqa: F811
    w, form, dataset = panel.answers, panel.form, shown.panels.train.fields.widgets["train_data_dir"]
    one = {**asked, dataset: "", form.prompts: "mika, smile"}
    answers_part.ask_diagnosis({**one, form.seeds: "3"}, w, form, dataset, context)
    task = tasks().latest(answers_part.KIND)
    assert task is not None
    assert "all seeds are equal" in str(task.wait(60).error)
    answers_part.ask_diagnosis(one, w, form, dataset, context)
    html = answer(panel)
    assert '<td translate="no">smile</td>' in html
    assert "variety" in html


def test_what_the_bare_checkpoint_knows(panel: Any, asked: Any, context: UiContext) -> None:  # noqa: F811
    w, form = panel.answers, panel.form
    with pytest.raises(SettingsError, match="no word"):
        answers_part.ask_prior({**asked, w.trigger: "", form.prompts: ""}, w, form, context)
    answers_part.ask_prior({**asked, w.trigger: "mika", form.prompts: "smile, mika"}, w, form, context)
    html = answer(panel)
    assert html.count("<tr>") == 3
    assert "mika" in html
