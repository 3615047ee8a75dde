"""Block presets of one's own, a part of the panel Test: a slider for each block in the shape of the UNet."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from lora_lab.families import Family
from lora_lab.network import own_presets
from lora_lab.network.presets import Preset, by_name
from lora_lab.network.vectors import FORMATS, listed, vector
from lora_lab.testing.rows import unknown_preset
from lora_lab.ui import testing_view
from lora_lab.ui.context import UiContext
from lora_lab.ui.edge import Changes, Values, on
from lora_lab.ui.testing_form import GridForm, family_now
from lora_lab.ui.words import esc, tag

WEIGHTS = "lora_lab_test_own_weights"
FAMILIES = {Family.SD1: frozenset({Family.SD1, Family.SD2}), Family.SD2: frozenset({Family.SD1, Family.SD2})}
"""Families whose blocks are the same; SDXL's are its own."""


@dataclass(frozen=True)
class PresetWidgets:
    """All that handlers read or change."""

    which: gr.Dropdown
    name: gr.Textbox
    note: gr.Textbox
    weights: gr.Textbox
    shape: gr.HTML
    look: gr.Button
    save: gr.Button
    delete: gr.Button
    told: gr.HTML

    @property
    def form(self) -> set[Any]:
        """What is filled in."""
        return {self.which, self.name, self.note, self.weights}


def build(context: UiContext) -> PresetWidgets:
    """Layout. The U is that of the loaded checkpoint, drawn when the fold's button asks."""
    info = context.host.current()
    family = info.family if info else Family.SD1
    with gr.Accordion("Block weights by hand, presets of your own", open=False, elem_id="lora_lab_test_own"):
        with gr.Row():
            names = [preset.name for preset in _known(context)]
            which = gr.Dropdown(names, label="begin with", elem_id="lora_lab_test_own_which", allow_custom_value=True)
            look = gr.Button("Show it", elem_id="lora_lab_test_own_look")
        shape = gr.HTML(testing_view.sliders(family, WEIGHTS), elem_id="lora_lab_test_own_shape")
        weights = gr.Textbox("", label="weights of all blocks", elem_id=WEIGHTS)
        with gr.Row():
            name = gr.Textbox("", label="name", elem_id="lora_lab_test_own_name")
            note = gr.Textbox("", label="note", elem_id="lora_lab_test_own_note")
        with gr.Row(elem_classes=["lora-lab-actions"]):
            save = gr.Button("Save as a preset", elem_id="lora_lab_test_own_save")
            delete = gr.Button("Delete", elem_id="lora_lab_test_own_delete")
        told = gr.HTML("", elem_id="lora_lab_test_own_told")
    return PresetWidgets(which, name, note, weights, shape, look, save, delete, told)


def _known(context: UiContext) -> tuple[Preset, ...]:
    """All presets; only those that everybody has where the person's file is damaged (its error comes at first use)."""
    from lora_lab.errors import LoraLabError
    from lora_lab.network.presets import DEFAULTS

    try:
        return own_presets.all_presets(context.host.paths().data_dir)
    except LoraLabError:
        return DEFAULTS


def wire(w: PresetWidgets, form: GridForm, context: UiContext) -> None:
    """Show, save, delete."""
    shown = [w.shape, w.weights, w.note, w.name, w.told]
    on(w.look.click, partial(look, w=w, context=context), w.form, shown, context, quiet=True)
    inputs, outputs = {*w.form, form.presets}, [w.which, form.presets, w.told]
    on(w.save.click, partial(save, w=w, form=form, context=context), inputs, outputs, context, quiet=True)
    on(w.delete.click, partial(delete, w=w, form=form, context=context), inputs, outputs, context, quiet=True)


def look(values: Values, w: PresetWidgets, context: UiContext) -> Changes:
    """A preset onto the sliders.

    Raises:
        LoraLabError: there is no such preset, or it is for other families.
    """
    family, known = family_now(context), own_presets.all_presets(context.host.paths().data_dir)
    preset = by_name(str(values[w.which] or ""), known)
    if preset is None:
        raise unknown_preset(str(values[w.which] or ""), [p.name for p in known], family)
    blocks = preset.blocks(family, 0.5)
    text = ",".join(f"{number:.4g}" for number in blocks.values())
    own = by_name(preset.name, own_presets.load(context.host.paths().data_dir)) is not None
    return {
        w.shape: testing_view.sliders(family, WEIGHTS), w.weights: text, w.note: preset.note,
        w.name: preset.name if own else "", w.told: "",
    }  # fmt: skip


def save(values: Values, w: PresetWidgets, form: GridForm, context: UiContext) -> Changes:
    """The sliders as a preset; it is chosen for the grid.

    Raises:
        LoraLabError: the name or the weights will not do.
    """
    family, folder = family_now(context), context.host.paths().data_dir
    blocks = vector(str(values[w.weights] or ""), family).blocks
    families = FAMILIES.get(family, frozenset({family}))
    name = str(values[w.name] or "").strip()
    own_presets.save(Preset(name, listed(blocks, family), str(values[w.note] or "").strip(), families), folder)
    counts = " or ".join(map(str, FORMATS[family]))
    said = f"{name} is saved; it holds for {' and '.join(sorted(f.value for f in families))} ({counts} values)."
    return _lists(values, w, form, context, said, add=name)


def delete(values: Values, w: PresetWidgets, form: GridForm, context: UiContext) -> Changes:
    """Forget a preset of one's own.

    Raises:
        LoraLabError: it is none of one's own.
    """
    name = str(values[w.name] or values[w.which] or "").strip()
    own_presets.delete(name, context.host.paths().data_dir)
    return _lists(values, w, form, context, f"{name} is deleted.")


def _lists(
    values: Values, w: PresetWidgets, form: GridForm, context: UiContext, said: str, add: str = ""
) -> Changes:
    names = [preset.name for preset in own_presets.all_presets(context.host.paths().data_dir)]
    chosen = [name for name in [*(values[form.presets] or []), add] if name in names]
    return {
        w.which: gr.update(choices=names),
        form.presets: gr.update(choices=names, value=list(dict.fromkeys(chosen))),
        w.told: tag("p", esc(said), "lora-lab-good"),
    }
