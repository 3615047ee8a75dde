"""On top of the panel Train: what are you making? Out of the answers come settings, each with its reason."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr

from lora_lab.dataset.options import DatasetOptions
from lora_lab.dataset.scan import ScanReport, epoch_items, scan
from lora_lab.errors import SettingsError
from lora_lab.families import Family
from lora_lab.guide import answers as asked
from lora_lab.guide.arithmetic import Numbers
from lora_lab.guide.difficulty import TABLE
from lora_lab.guide.recommend import recommend
from lora_lab.guide.rules.base import Finding
from lora_lab.training.settings import TrainSettings
from lora_lab.ui import advice_view, difficulty_view
from lora_lab.ui.context import UiContext
from lora_lab.ui.edge import Changes, Values, on
from lora_lab.ui.fields import Fields
from lora_lab.ui.words import tag
from lora_lab.workflow import advice

if TYPE_CHECKING:
    from lora_lab.training.plan import Plan

LETTERS = {row.letter: f"{row.letter}: {row.text}" for row in TABLE}
YES_NO: dict[str, str] = {
    "good": "pictures are good, and their style is welcome",
    "captions": "they have captions",
    "male": "a male character",
    "asymmetric": "one side differs from the other",
    "known": "the checkpoint draws it already",
    "flexible": "other clothes and poses matter more than likeness",
    "small_file": "a very small file",
    "dull": "dull colours, to be bolder",
}
"""Field of `Answers` -> what the switch says."""


@dataclass(frozen=True)
class AdviceWidgets:
    """The questions, the answer, and where buttons of the lists report to."""

    making: gr.Dropdown
    difficulty: gr.Dropdown
    pictures: gr.Textbox
    knows: gr.Dropdown
    vram: gr.Textbox
    look: gr.Dropdown
    switches: dict[str, gr.Checkbox]
    recommend: gr.Button
    told: gr.HTML
    answers: gr.State
    """What was answered last, as plain values; None while nothing was."""
    act: gr.Button
    pressed: gr.Textbox

    @property
    def asked(self) -> set[Any]:
        """The questions."""
        return {self.making, self.difficulty, self.pictures, self.knows, self.vram, self.look, *self.switches.values()}


def build(context: UiContext) -> AdviceWidgets:
    """Layout; what the checkpoint draws is read off its name."""
    info = context.host.current()
    kind = asked.knows_by_name("" if info is None else info.name) or "other"
    with gr.Accordion("What are you making?", open=False, elem_id="lora_lab_advice"):
        with gr.Row(elem_classes=["lora-lab-row"]):
            making = _choice("making", "what", asked.MAKINGS, "character")
            difficulty = _choice("difficulty", "how hard (a character)", LETTERS, "B")
        gr.HTML(difficulty_view.gallery("B"), elem_id="lora_lab_advice_examples")
        with gr.Row(elem_classes=["lora-lab-row"]):
            knows = _choice("knows", "what the checkpoint draws", asked.CHECKPOINTS, kind)
            look = _choice("look", "how it is to look", asked.LOOKS, "keep")
        with gr.Row(elem_classes=["lora-lab-row"]):
            pictures = gr.Textbox(
                label="how many pictures", placeholder="counted in train_data_dir", max_lines=1,
                elem_id="lora_lab_advice_pictures",
            )  # fmt: skip
            vram = gr.Textbox(
                label="the card's memory in GB", placeholder="asked of the card", max_lines=1,
                elem_id="lora_lab_advice_vram",
            )  # fmt: skip
        switches = {}
        names = list(YES_NO)
        for row in (names[:4], names[4:]):
            with gr.Row(elem_classes=["lora-lab-row", "lora-lab-advice-switches"]):
                for name in row:
                    usual = name in ("good", "captions")
                    switches[name] = gr.Checkbox(usual, label=YES_NO[name], elem_id=f"lora_lab_advice_{name}")
        button = gr.Button("Recommend settings", variant="primary", elem_id="lora_lab_advice_recommend")
        told = gr.HTML("", elem_id="lora_lab_advice_told")
    act = gr.Button("act", elem_id="lora_lab_advice_act", elem_classes=["lora-lab-hidden"])
    pressed = gr.Textbox("", visible=False, elem_id="lora_lab_advice_pressed")
    return AdviceWidgets(
        making, difficulty, pictures, knows, vram, look, switches, button, told, gr.State(None), act, pressed
    )


def _choice(name: str, label: str, words: Mapping[str, str], usual: str) -> gr.Dropdown:
    """Words to choose from; `_key` finds what they stand for."""
    return gr.Dropdown(
        list(words.values()), value=words[usual], label=label, elem_id=f"lora_lab_advice_{name}", interactive=True
    )


def _key(words: Mapping[str, str], text: Any) -> str:  # noqa: ANN401 - a widget's value
    """The key of a word that was chosen; what is none is told by `from_values`."""
    return next((key for key, word in words.items() if word == text), str(text))


def wire(w: AdviceWidgets, fields: Fields, plan: Any, context: UiContext) -> None:  # noqa: ANN401 - a component
    """Recommend, and the buttons of the lists."""
    act = partial(propose, w=w, fields=fields, context=context)
    on(w.recommend.click, act, w.asked | fields.all, [w.told, w.answers, *fields.widgets.values()], context, quiet=True)
    do = partial(press, w=w, fields=fields, plan=plan, context=context)
    which = "async (...values) => { values[PLACE] = window.loraLab.advice; return values; }"
    inputs = {w.pressed, *fields.all}
    place = sorted(inputs, key=lambda component: component._id).index(w.pressed)
    on(w.act.click, do, inputs, [plan, w.difficulty, *fields.widgets.values()], context, quiet=True,
       js=which.replace("PLACE", str(place)))  # fmt: skip
    w.difficulty.change(None, w.difficulty, None, _js="(chosen) => window.loraLab.mark(chosen)")


def propose(values: Values, w: AdviceWidgets, fields: Fields, context: UiContext) -> Changes:
    """Put what is recommended into the form; folders, names and prompts stay.

    Raises:
        SettingsError: an answer is none.
        LoraLabError: the folder cannot be read.
    """
    given = read(values, w, fields, context)
    report = _report(fields, values, context)
    train = [s for s in report.subsets if not s.regularisation and s.pictures] if report else []
    items, pictures = sum(s.repeats * len(s.pictures) for s in train), sum(len(s.pictures) for s in train)
    found = recommend(asked.from_values(given), max(1, round(items / pictures)) if pictures else 1)
    settings = TrainSettings.from_mapping(found.settings)
    shown = fields.show(settings, [value.name for value in found.values if value.name in fields.widgets])
    return {w.told: advice_view.recommendation(found), w.answers: given, **shown}


def read(values: Values, w: AdviceWidgets, fields: Fields, context: UiContext) -> dict[str, Any]:
    """The answers as plain values; what was left empty is counted, or asked of the card.

    Raises:
        LoraLabError: the folder cannot be read.
    """
    info = context.host.current()
    given: dict[str, Any] = {name: bool(values[widget]) for name, widget in w.switches.items()}
    given |= {
        "making": _key(asked.MAKINGS, values[w.making]), "difficulty": _key(LETTERS, values[w.difficulty]),
        "knows": _key(asked.CHECKPOINTS, values[w.knows]), "look": _key(asked.LOOKS, values[w.look]),
        "family": (info.family if info else Family.SD1).value, "bf16": advice.bf16(),
        "bits8": advice.has_8bit(), "resolution": advice.unusual_resolution(info),
    }  # fmt: skip
    typed = str(values[w.vram] or "").strip()
    given["vram"] = typed or advice.card_memory()
    counted = str(values[w.pictures] or "").strip()
    report = None if counted else _report(fields, values, context)
    if report is not None:
        counted = str(sum(len(s.pictures) for s in report.subsets if not s.regularisation))
    if counted and counted != "0":
        given["pictures"] = counted
    return given


def _report(fields: Fields, values: Values, context: UiContext) -> ScanReport | None:
    """What is in the folder of the form, whatever sizes stand beside it; None while none is given."""
    typed = str(values[fields.widgets["train_data_dir"]] or "")
    if not typed.strip():
        return None
    ending = str(values[fields.widgets["caption_extension"]] or ".txt")
    return scan(context.folder(typed, "the folder of your pictures"), DatasetOptions(caption_extension=ending))


def press(values: Values, w: AdviceWidgets, fields: Fields, plan: Any, context: UiContext) -> Changes:  # noqa: ANN401
    """Do what a button says: set settings, choose a difficulty, or do not hear a rule any more.

    Raises:
        SettingsError: the settings cannot be had so.
        OutputError: it cannot be written down.
    """
    try:
        asked_for: dict[str, Any] = json.loads(str(values[w.pressed] or "{}"))
    except ValueError:
        raise SettingsError("the button was not understood", remedy="load the page again") from None
    folder = context.host.paths().data_dir
    act = asked_for.get("act")
    if act == "set":
        changes = asked_for.get("changes") or {}
        settings = TrainSettings.from_mapping(fields.raw(values)).replace(**changes)
        return fields.show(settings, [name for name in changes if name in fields.widgets])
    if act == "difficulty":
        return {w.difficulty: LETTERS[letter]} if (letter := str(asked_for.get("letter"))) in LETTERS else {}
    if act == "silence":
        advice.silence(folder, str(asked_for.get("rule")))
        return {plan: tag("p", "Not said again.", "lora-lab-muted")}
    if act == "hear":
        for rule in advice.silenced(folder):
            advice.silence(folder, rule, heard=True)
        return {plan: tag("p", "All rules are heard again.", "lora-lab-muted")}
    return {}


def said(
    settings: TrainSettings, report: ScanReport, given: dict[str, Any] | None, context: UiContext
) -> list[Finding]:
    """What the rules say of the form.

    Args:
        settings: as they are.
        report: of the dataset.
        given: answers, where there are any.
        context: of the tab.
    """
    known = advice.around(context.host, asked.from_values(given) if given else None, settings)
    return advice.advise(settings, report, known, advice.silenced(context.host.paths().data_dir))


def numbers(settings: TrainSettings, report: ScanReport, plan: Plan) -> Numbers:
    """The steps' arithmetic of this dataset."""
    buckets: dict[tuple[int, tuple[int, int]], list[int]] = {}
    for item, n in epoch_items(report):
        buckets.setdefault((item.subset.dataset, item.placement.bucket), [0, 0])[item.subset.regularisation] += n
    train, reg = zip(*buckets.values(), strict=True)
    most = settings.max_train_steps if settings.max_train_epochs is None else None
    return Numbers(
        tuple(train), tuple(reg) if any(reg) else (), settings.train_batch_size, settings.gradient_accumulation_steps,
        plan.epochs, most,
    )  # fmt: skip


def silenced_count(context: UiContext) -> int:
    """How many rules are not heard."""
    return len(advice.silenced(context.host.paths().data_dir))


