"""What is wrong with the last bake, a part of the Train panel: what is seen, what it means, what to change.

Test's *What is wrong with it?* finds some of these by itself; here a person says what they see.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import gradio as gr

from lora_lab.guide.diagnosis import SYMPTOMS
from lora_lab.training.settings import TrainSettings
from lora_lab.ui import advice_view
from lora_lab.ui.context import UiContext
from lora_lab.ui.edge import Changes, Values, on
from lora_lab.ui.fields import Fields
from lora_lab.workflow.advice import next_bake

NOTHING = "nothing chosen"
IDS = {symptom.seen: symptom.id for symptom in SYMPTOMS}


@dataclass(frozen=True)
class SymptomWidgets:
    """All that the handler reads or changes."""

    seen: gr.Dropdown
    told: gr.HTML


def build() -> SymptomWidgets:
    """Layout."""
    with gr.Accordion("What is wrong with the last bake?", open=False, elem_id="lora_lab_symptoms"):
        seen = gr.Dropdown(
            [NOTHING, *IDS], value=NOTHING, label="what its pictures show", elem_id="lora_lab_symptoms_seen",
            info="the changes are worked out from the form below: take the bake's settings over first",
        )  # fmt: skip
        told = gr.HTML("", elem_id="lora_lab_symptoms_told")
    return SymptomWidgets(seen, told)


def wire(w: SymptomWidgets, fields: Fields, context: UiContext) -> None:
    """Answer as soon as something is chosen."""
    on(w.seen.change, partial(answer, w=w, fields=fields), {w.seen, *fields.all}, [w.told], context, quiet=True)


def answer(values: Values, w: SymptomWidgets, fields: Fields) -> Changes:
    """What it means, and a button for the changes.

    Raises:
        SettingsError: the form holds what no setting is.
    """
    chosen = IDS.get(str(values[w.seen]))
    if chosen is None:
        return {w.told: ""}
    found, changes = next_bake(TrainSettings.from_mapping(fields.raw(values)), chosen)
    return {w.told: advice_view.symptom(found, changes)}
