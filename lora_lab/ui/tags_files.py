"""Files of captions, a part of the Tags panel: recipes, kohya's metadata json, letters that are not plain UTF-8."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from lora_lab.errors import SettingsError
from lora_lab.tagging.operations import Operation
from lora_lab.tagging.recipe import Step, read_recipe, write_recipe
from lora_lab.training.prepare import check_allowed
from lora_lab.ui.context import UiContext
from lora_lab.ui.edge import Changes, Values, on
from lora_lab.ui.tags_acts import Place
from lora_lab.ui.tags_data import Opened
from lora_lab.ui.words import count, esc, tag


@dataclass(frozen=True)
class FilesWidgets:
    """All that handlers read or change."""

    file: gr.Textbox
    add: gr.Button
    run: gr.Button
    read: gr.Button
    write: gr.Button
    convert: gr.Button
    told: gr.HTML


@dataclass(frozen=True)
class Panel:
    """What this part needs of the Tags panel."""

    place: Any
    filter: Any
    shown: list[Any]
    show: Callable[[Place], Changes]
    opened: Callable[[Place], Opened]
    form: set[Any]
    operation: Callable[[Values], Operation]
    """The bulk edit as its form says."""


def build() -> FilesWidgets:
    """Layout."""
    with gr.Accordion("Recipes and files", open=False, elem_id="lora_lab_tags_files"):
        file = gr.Textbox(
            label="file", placeholder="recipe.json, or kohya's meta_cap.json", elem_id="lora_lab_tags_file",
            info="a recipe keeps operations with their filters, to be run again after a new tagging",
        )  # fmt: skip
        with gr.Row(elem_classes=["lora-lab-actions"]):
            add = gr.Button("Add the operation of 'Edit many' to the recipe", elem_id="lora_lab_tags_recipe_add")
            run = gr.Button("Preview the recipe", elem_id="lora_lab_tags_recipe_run")
        with gr.Row(elem_classes=["lora-lab-actions"]):
            read = gr.Button("Preview captions of kohya's json", elem_id="lora_lab_tags_json_read")
            write = gr.Button("Write kohya's json", elem_id="lora_lab_tags_json_write")
        convert = gr.Button("Preview letters to plain UTF-8", elem_id="lora_lab_tags_convert")
        told = gr.HTML("", elem_id="lora_lab_tags_files_told")
    return FilesWidgets(file, add, run, read, write, convert, told)


def wire(w: FilesWidgets, panel: Panel, context: UiContext) -> None:
    """Each button; what would change becomes the panel's pending edit."""
    inputs = {w.file, panel.place, panel.filter, *panel.form}
    outputs = [*panel.shown, w.told]
    acts: dict[Any, Any] = {
        w.add: add_step, w.run: run_recipe, w.read: read_json, w.write: write_json, w.convert: convert
    }  # fmt: skip
    for button, act in acts.items():
        on(button.click, partial(act, w=w, panel=panel, context=context), inputs, outputs, context)


def add_step(values: Values, w: FilesWidgets, panel: Panel, context: UiContext) -> Changes:
    """Put the bulk edit, with the filter, behind the recipe's steps; a file that is not there yet is made.

    Raises:
        LoraLabError: the operation cannot be meant, or the file is no recipe or cannot be written.
    """
    path, operation = _file(values, w, context), panel.operation(values)
    steps = list(read_recipe(path).steps) if path.exists() else []
    step = Step(operation, str(values[panel.filter] or "").strip())
    write_recipe(path, [*steps, step], replace=True)
    return {w.told: tag("p", esc(f"Step {len(steps) + 1} of {path.name}: {step.told()}."), "lora-lab-good")}


def run_recipe(values: Values, w: FilesWidgets, panel: Panel, context: UiContext) -> Changes:
    """What the recipe would change.

    Raises:
        LoraLabError: no dataset is open, or the file is no recipe.
    """
    path = _file(values, w, context)
    recipe = read_recipe(path)
    one = panel.opened(values[panel.place])
    return _pending(values, w, panel, tuple(one.project.preview(recipe)), f"recipe {path.name}")


def read_json(values: Values, w: FilesWidgets, panel: Panel, context: UiContext) -> Changes:
    """What taking over the captions of kohya's metadata would change.

    Raises:
        LoraLabError: no dataset is open, or the file is no metadata.
    """
    path = _file(values, w, context)
    changes, unknown = panel.opened(values[panel.place]).project.preview_json(path)
    note = f" {count(len(unknown), 'entry', 'entries')} of the file belong to no picture here." if unknown else ""
    return _pending(values, w, panel, tuple(changes), f"captions of {path.name}", note)


def write_json(values: Values, w: FilesWidgets, panel: Panel, context: UiContext) -> Changes:
    """Write all captions as kohya's metadata; a file that is there is kept.

    Raises:
        LoraLabError: no dataset is open, or the file cannot be written.
    """
    path = _file(values, w, context)
    written = panel.opened(values[panel.place]).project.write_json(path)
    return {w.told: tag("p", esc(f"{count(written, 'caption')} written to {path.name}."), "lora-lab-good")}


def convert(values: Values, w: FilesWidgets, panel: Panel, context: UiContext) -> Changes:
    """Captions that are not plain UTF-8, as they would be.

    Raises:
        LoraLabError: no dataset is open.
    """
    changes = tuple(panel.opened(values[panel.place]).project.preview_conversion())
    kinds = sorted({change.converts for change in changes if change.converts})
    note = f" They are {' and '.join(kinds)} now; their text stays." if kinds else " All are plain UTF-8."
    return _pending(values, w, panel, changes, "to plain UTF-8", note)


def _pending(
    values: Values, w: FilesWidgets, panel: Panel, changes: tuple[Any, ...], label: str, note: str = ""
) -> Changes:
    said = f"{count(len(changes), 'caption')} would change.{note}"
    shown = panel.show(replace(values[panel.place], pending=changes, label=label))
    return {**shown, w.told: tag("p", esc(said))}


def _file(values: Values, w: FilesWidgets, context: UiContext) -> Path:
    """The file that was typed.

    Raises:
        SettingsError: none was.
        OutputError: a host that listens to a network does not allow it.
    """
    text = str(values[w.file] or "").strip().strip('"')
    if not text:
        raise SettingsError("no file is given", remedy="type its path, such as recipe.json")
    check_allowed(text, context.host.paths())
    return Path(text).expanduser()
