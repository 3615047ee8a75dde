"""Settings as files: one of any kind into the form of the panel Train, the form into one; what is left out is told."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from lora_lab.errors import OutputError, SettingsError
from lora_lab.training.checks import check_name
from lora_lab.training.exporting.options import Export, Target
from lora_lab.training.exporting.texts import FORMATS, write
from lora_lab.training.importing.files import ENDINGS
from lora_lab.training.importing.found import MayLook, SettingsFile, listed
from lora_lab.training.prepare import check_allowed
from lora_lab.training.settings import TrainSettings, presets, settings_file
from lora_lab.ui.context import UiContext
from lora_lab.ui.edge import Changes, Values, on
from lora_lab.ui.fields import Fields
from lora_lab.ui.words import bullets, count, esc, tag

FOLDER = "settings"
"""Of our data folder."""
UNNAMED = "settings"

EXPORTS = {"kohya's TOML": "toml", "bash script": "bash", "PowerShell script": "ps1"}
"""What the list offers -> the format."""


@dataclass(frozen=True)
class FileWidgets:
    """The rows below the form."""

    load: gr.UploadButton
    save: gr.Button
    export_as: gr.Dropdown
    export: gr.Button
    told: gr.HTML


def build() -> FileWidgets:
    """Layout."""
    with gr.Row(elem_classes=["lora-lab-actions"]):
        load = gr.UploadButton(
            "Load a settings file", file_types=list(ENDINGS), size="sm", elem_id="lora_lab_train_load"
        )
        save = gr.Button("Save as a settings file", size="sm", elem_id="lora_lab_train_save")
    with gr.Row(elem_classes=["lora-lab-actions"]):
        export_as = gr.Dropdown(
            list(EXPORTS), value=next(iter(EXPORTS)), show_label=False, container=False, min_width=140,
            elem_id="lora_lab_train_export_as", interactive=True,
        )  # fmt: skip
        export = gr.Button("Export for kohya's scripts", size="sm", elem_id="lora_lab_train_export")
    told = gr.HTML("", elem_id="lora_lab_train_told", render=False)  # the panel puts it below the presets
    return FileWidgets(load, save, export_as, export, told)


def wire(w: FileWidgets, fields: Fields, context: UiContext) -> None:
    """A file that was chosen is read at once; the form is written where the line below says."""
    taken = [w.told, *fields.widgets.values()]
    on(w.load.upload, partial(load, w=w, fields=fields, context=context), {w.load}, taken, context, quiet=True)
    on(w.save.click, partial(save, w=w, fields=fields, context=context), fields.all, [w.told], context, quiet=True)
    inputs = fields.all | {w.export_as}
    on(w.export.click, partial(export, w=w, fields=fields, context=context), inputs, [w.told], context, quiet=True)


def load(values: Values, w: FileWidgets, fields: Fields, context: UiContext) -> Changes:
    """Show the settings of a file: ours (a run's settings.json, a preset), kohya's, a launch script's, a LoRA's.

    Raises:
        SettingsError: it is no settings file, has an unknown setting or a wrong value; the form stays as it is.
    """
    path = Path(values[w.load].name)
    try:
        found = settings_file.read(path, may_look(context))
    except SettingsError as error:  # the page keeps a copy under a path of its own, which tells the person nothing
        raise SettingsError(error.what, file=path.name, remedy=error.remedy) from error
    only = None
    if found.values == ("dataset_config",):
        found, only = _kept(found, path, context), ["dataset_config"]
    elif found.preset:
        only = [name for name in fields.widgets if presets.in_preset(name)]
    return fields.show(found.settings, only) | {w.told: report(found, path.name)}


def may_look(context: UiContext) -> MayLook:
    """A host that listens to a network opens nothing outside its own folders for the sake of a settings file."""
    paths = context.host.paths()

    def look(path: Path) -> bool:
        try:
            check_allowed(str(path), paths)
        except OutputError:
            return False
        return True

    return look


def _kept(found: SettingsFile, path: Path, context: UiContext) -> SettingsFile:
    """A dataset_config is named by a setting: the page's copy of it moves into our data folder."""
    place = free(context.host.paths().data_dir / FOLDER, path.stem, path.suffix)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    except OSError as error:
        raise OutputError(f"the file cannot be kept, {error.strerror}", file=place) from error
    return replace(found, settings=found.settings.replace(dataset_config=str(place)))


def report(found: SettingsFile, name: str) -> str:
    """What was taken, what was not and why, what does not go together."""
    what = "preset" if found.preset else "settings"
    head = f"The form shows the {what} of {name}: {found.origin}, {count(len(found.values), 'setting')} given."
    lines = [tag("p", esc(head), "lora-lab-small")]
    if found.checkpoint:
        lines.append(_muted(f"It names the checkpoint {found.checkpoint[:200]}; training here goes on the loaded one."))
    refused = {item.name for item in found.refused}
    rows = [
        tag("b", esc(listed(names))) + esc(f": {why}.")
        for names, why in found.by_reason()
    ]  # fmt: skip
    marks = [
        tag("span", row, "lora-lab-refused" if refused & set(names) else "")
        for row, (names, _) in zip(rows, found.by_reason(), strict=True)
    ]
    if marks:
        title = tag("summary", esc(f"Not taken over: {count(len(found.skipped), 'key')}"))
        lines.append(tag("details", title + bullets(marks, "lora-lab-notes"), open="open"))
    if found.remarks:
        title = tag("summary", esc(count(len(found.remarks), "remark")))
        lines.append(tag("details", title + bullets(map(esc, found.remarks), "lora-lab-notes"), open="open"))
    if found.values:
        title = tag("summary", "What the file gives")
        lines.append(tag("details", title + _muted(", ".join(found.values))))
    return tag("div", "".join(lines), "lora-lab-told")


def save(values: Values, w: FileWidgets, fields: Fields, context: UiContext) -> Changes:
    """Write the form to a new file in our data folder, under the LoRA's name; say where.

    Raises:
        SettingsError: a value is none, or the name is no file name.
        OutputError: the folder cannot be written to.
    """
    settings = TrainSettings.from_mapping(fields.raw(values))
    path = free(context.host.paths().data_dir / FOLDER, _name(settings), ".json")
    settings_file.write(settings, path)
    return {w.told: saved(path)}


def export(values: Values, w: FileWidgets, fields: Fields, context: UiContext) -> Changes:
    """Write the form for kohya's scripts to a new file in our data folder; say where, and what they lack.

    Raises:
        SettingsError: a value is none, or the name is no file name.
        OutputError: the folder cannot be written to.
    """
    settings = TrainSettings.from_mapping(fields.raw(values))
    form = EXPORTS[str(values[w.export_as])]
    path = free(context.host.paths().data_dir / FOLDER, _name(settings), FORMATS[form])
    made: Export = write(settings, form, path, target(context))
    lacking = bullets((esc(f"{text}.") for text in made.lacking), "lora-lab-notes")
    return {w.told: saved(path) + lacking}


def target(context: UiContext) -> Target:
    """The loaded checkpoint, as kohya's scripts are to find it."""
    info = context.host.current()
    if info is None:
        return Target(clip_skip=context.host.default_clip_skip())
    path = str(info.path) if info.path is not None else ""
    velocity = info.prediction_type == "v_prediction"
    return Target(path, info.family, velocity, context.host.default_clip_skip())


def _name(settings: TrainSettings) -> str:
    name = settings.output_name or UNNAMED
    check_name(name)
    return name


def free(folder: Path, name: str, ending: str = ".json") -> Path:
    """`name.json`, or `name-2.json` and so on when there is one: no file is written over."""
    path, number = folder / f"{name}{ending}", 2
    while path.exists():
        path, number = folder / f"{name}-{number}{ending}", number + 1
    return path


def saved(path: Path) -> str:
    """Where a file was written to."""
    return tag("p", tag("span", "Saved:") + " " + tag("code", esc(path)), "lora-lab-muted lora-lab-small")


def _muted(text: Any) -> str:  # noqa: ANN401 - shown as text
    return tag("p", esc(text), "lora-lab-muted lora-lab-small")
