"""Presets in the panel Train: settings under a name, without dataset and names."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from lora_lab.errors import SettingsError
from lora_lab.training.settings import TrainSettings, presets
from lora_lab.ui import train_files
from lora_lab.ui.context import UiContext
from lora_lab.ui.edge import Changes, Values, on
from lora_lab.ui.fields import Fields
from lora_lab.ui.words import esc, tag


@dataclass(frozen=True)
class PresetWidgets:
    """Two rows: what there is, and a name for the form."""

    chosen: gr.Dropdown
    use: gr.Button
    delete: gr.Button
    name: gr.Textbox
    save: gr.Button


def build(context: UiContext) -> PresetWidgets:
    """Layout."""
    names = presets.names(context.host.paths().data_dir)
    with gr.Row(elem_classes=["lora-lab-actions"]):
        chosen = gr.Dropdown(
            names, value=names[0] if names else None, show_label=False, container=False, min_width=140,
            elem_id="lora_lab_train_presets", interactive=True,
        )  # fmt: skip
        use = gr.Button("Use preset", size="sm", elem_id="lora_lab_train_preset_use")
        delete = gr.Button("Delete", size="sm", elem_id="lora_lab_train_preset_delete")
    with gr.Row(elem_classes=["lora-lab-actions"]):
        name = gr.Textbox(
            placeholder="name of a new preset", show_label=False, container=False, max_lines=1, min_width=140,
            elem_id="lora_lab_train_preset_name",
        )  # fmt: skip
        save = gr.Button("Save preset", size="sm", elem_id="lora_lab_train_preset_save")
    return PresetWidgets(chosen, use, delete, name, save)


def wire(w: PresetWidgets, fields: Fields, told: Any, context: UiContext) -> None:  # noqa: ANN401 - a component
    """`told` is where the panel says what became of a file."""
    act = partial(use, w=w, fields=fields, told=told, context=context)
    on(w.use.click, act, {w.chosen}, [told, *fields.widgets.values()], context, quiet=True)
    act = partial(delete, w=w, told=told, context=context)
    on(w.delete.click, act, {w.chosen}, [told, w.chosen], context, quiet=True)
    act = partial(save, w=w, fields=fields, told=told, context=context)
    on(w.save.click, act, fields.all | {w.name}, [told, w.chosen, w.name], context, quiet=True)


def use(values: Values, w: PresetWidgets, fields: Fields, told: Any, context: UiContext) -> Changes:  # noqa: ANN401
    """Put the preset into the form; folders and names of the form stay.

    Raises:
        SettingsError: none is chosen, or it cannot be read.
    """
    name = _chosen(values, w)
    found = presets.load(name, context.host.paths().data_dir)
    only = [n for n in fields.widgets if presets.in_preset(n)]
    return fields.show(found.settings, only) | {told: train_files.report(found, name)}


def save(values: Values, w: PresetWidgets, fields: Fields, told: Any, context: UiContext) -> Changes:  # noqa: ANN401
    """Keep the form under the typed name.

    Raises:
        SettingsError: a value is none, or the name is no file name.
        OutputError: there is a preset of that name.
    """
    settings = TrainSettings.from_mapping(fields.raw(values))
    path = presets.save(settings, str(values[w.name] or ""), context.host.paths().data_dir)
    line = train_files.saved(path) + _said("Folders, names and prompts are not in it; give the file to whom you like.")
    return {told: line, w.chosen: _list(context, path.stem), w.name: gr.update(value="")}


def delete(values: Values, w: PresetWidgets, told: Any, context: UiContext) -> Changes:  # noqa: ANN401 - a component
    """Delete the chosen preset.

    Raises:
        SettingsError: none is chosen, or it is not there any more.
    """
    name = _chosen(values, w)
    presets.delete(name, context.host.paths().data_dir)
    return {told: _said(f"The preset {name} is deleted."), w.chosen: _list(context)}


def _chosen(values: Values, w: PresetWidgets) -> str:
    name = str(values[w.chosen] or "")
    if not name:
        raise SettingsError("no preset is chosen", remedy="choose one, or save the form as one")
    return name


def _list(context: UiContext, chosen: str | None = None) -> Any:  # noqa: ANN401 - gradio's update
    names = presets.names(context.host.paths().data_dir)
    return gr.update(choices=names, value=chosen or (names[0] if names else None))


def _said(text: str) -> str:
    return tag("p", esc(text), "lora-lab-muted lora-lab-small")
