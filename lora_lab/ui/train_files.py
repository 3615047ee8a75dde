"""Settings as files: one into the form of the panel Train, and the form into one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import gradio as gr

from lora_lab.errors import SettingsError
from lora_lab.training import settings_file
from lora_lab.training.checks import check_name
from lora_lab.training.settings import TrainSettings
from lora_lab.ui.context import UiContext
from lora_lab.ui.edge import Changes, Values, on
from lora_lab.ui.fields import Fields
from lora_lab.ui.words import esc, tag

FOLDER = "settings"
"""Of our data folder."""
UNNAMED = "settings"


@dataclass(frozen=True)
class FileWidgets:
    """The row below the form."""

    load: gr.UploadButton
    save: gr.Button
    told: gr.HTML


def build() -> FileWidgets:
    """Layout."""
    with gr.Row(elem_classes=["lora-lab-actions"]):
        load = gr.UploadButton(
            "Load a settings file", file_types=[".json", ".toml"], size="sm", elem_id="lora_lab_train_load"
        )
        save = gr.Button("Save as a settings file", size="sm", elem_id="lora_lab_train_save")
    return FileWidgets(load, save, gr.HTML("", elem_id="lora_lab_train_told"))


def wire(w: FileWidgets, fields: Fields, context: UiContext) -> None:
    """A file that was chosen is read at once; the form is written where the line below says."""
    taken = [w.told, *fields.widgets.values()]
    on(w.load.upload, partial(load, w=w, fields=fields), {w.load}, taken, context, quiet=True)
    on(w.save.click, partial(save, w=w, fields=fields, context=context), fields.all, [w.told], context, quiet=True)


def load(values: Values, w: FileWidgets, fields: Fields) -> Changes:
    """Show the settings of a file: ours (a run's settings.json too), or kohya's.

    Raises:
        SettingsError: it is no settings file, has an unknown setting or a wrong value; the form stays as it is.
    """
    path = Path(values[w.load].name)
    try:
        found = settings_file.read(path)
    except SettingsError as error:  # the page keeps a copy under a path of its own, which tells the person nothing
        raise SettingsError(error.what, file=path.name, remedy=error.remedy) from error
    text = f"The form shows the settings of {path.name}. {found.note}".strip()
    return fields.show(found.settings) | {w.told: _line(text)}


def save(values: Values, w: FileWidgets, fields: Fields, context: UiContext) -> Changes:
    """Write the form to a new file in our data folder, under the LoRA's name; say where.

    Raises:
        SettingsError: a value is none, or the name is no file name.
        OutputError: the folder cannot be written to.
    """
    settings = TrainSettings.from_mapping(fields.raw(values))
    name = settings.output_name or UNNAMED
    check_name(name)
    path = free(context.host.paths().data_dir / FOLDER, name)
    settings_file.write(settings, path)
    return {w.told: tag("p", f"Saved: {tag('code', esc(path))}", "lora-lab-muted lora-lab-small")}


def free(folder: Path, name: str) -> Path:
    """`name.json`, or `name-2.json` and so on when there is one: no file is written over."""
    path, count = folder / f"{name}.json", 2
    while path.exists():
        path, count = folder / f"{name}-{count}.json", count + 1
    return path


def _line(text: str) -> str:
    return tag("p", esc(text), "lora-lab-muted lora-lab-small")
