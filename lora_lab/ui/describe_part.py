"""Captions as sentences by a captioner of the host's own (the webui's BLIP), a part of the Tags panel."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import gradio as gr

from lora_lab.errors import SettingsError
from lora_lab.host.base import HostCaptioner
from lora_lab.tagging.write_modes import WRITE_MODES
from lora_lab.ui.context import UiContext
from lora_lab.ui.edge import Changes, Values, on
from lora_lab.ui.ended import ended
from lora_lab.ui.tags_acts import Place
from lora_lab.ui.tags_files import Panel
from lora_lab.ui.words import count, esc, tag
from lora_lab.workflow import tag_captions
from lora_lab.workflow.tasks import Task, tasks

KIND = "describing"


@dataclass(frozen=True)
class DescribeWidgets:
    """All that handlers read or change; they are not seen where the host has no captioner."""

    captioner: gr.Dropdown
    mode: gr.Radio
    run: gr.Button
    preview: gr.Button
    told: gr.HTML


@dataclass(frozen=True)
class Described:
    """What a round has said of the pictures of a folder."""

    folder: str
    captioner: str
    sentences: dict[Path, list[str]]


def captioners(context: UiContext) -> dict[str, HostCaptioner]:
    """The host's, by name."""
    return {found.name: found for found in context.host.interrogators() if isinstance(found, HostCaptioner)}


def build(context: UiContext) -> DescribeWidgets:
    """Layout."""
    names = list(captioners(context))
    with gr.Accordion("Describe in sentences", open=False, visible=bool(names), elem_id="lora_lab_describe"):
        captioner = gr.Dropdown(
            names, value=names[0] if names else None, label="captioner", elem_id="lora_lab_describe_captioner"
        )
        mode = gr.Radio(
            list(WRITE_MODES), value="if-empty", label="captions that are there already",
            elem_id="lora_lab_describe_mode",
        )  # fmt: skip
        with gr.Row(elem_classes=["lora-lab-actions"]):
            run = gr.Button("Describe the pictures", elem_id="lora_lab_describe_run")
            preview = gr.Button("Preview captions", elem_id="lora_lab_describe_preview")
        told = gr.HTML("", elem_id="lora_lab_describe_told")
    return DescribeWidgets(captioner, mode, run, preview, told)


def wire(w: DescribeWidgets, panel: Panel, context: UiContext) -> None:
    """Describe in the background; what was said becomes the panel's pending edit."""
    begin = partial(run, w=w, panel=panel, context=context)
    on(w.run.click, begin, {w.captioner, panel.place}, [w.told], context)
    change = partial(preview, w=w, panel=panel)
    on(w.preview.click, change, {w.mode, panel.place}, [*panel.shown, w.told], context)


def run(values: Values, w: DescribeWidgets, panel: Panel, context: UiContext) -> Changes:
    """Begin; the live line shows how far it is, and Interrupt stops it.

    Raises:
        LoraLabError: no dataset is open, the host has no such captioner, or one is at work.
    """
    here: Place = values[panel.place]
    pictures = tag_captions.pictures_of(panel.opened(here).project)
    captioner = captioners(context).get(str(values[w.captioner] or ""))
    if captioner is None:
        raise SettingsError("no captioner is chosen", remedy="choose one of the list")

    def work(task: Task) -> Described:
        return Described(here.folder, captioner.name, tag_captions.describe(captioner, pictures, task.progress))

    tasks().start(KIND, f"Describing {count(len(pictures), 'picture')}", work)
    return {w.told: tag("p", esc(f"Describing {count(len(pictures), 'picture')} ..."), "lora-lab-muted")}


def preview(values: Values, w: DescribeWidgets, panel: Panel) -> Changes:
    """The sentences as a pending edit.

    Raises:
        LoraLabError: no dataset is open, or its pictures were not described.
    """
    here: Place = values[panel.place]
    project = panel.opened(here).project
    task = tasks().latest(KIND)
    found = task.result if task is not None and task.status().state == "done" else None
    if not isinstance(found, Described) or found.folder != here.folder:
        raise SettingsError("these pictures were not described yet", remedy="press 'Describe the pictures' first")
    changes = tuple(tag_captions.propose_tags(project, found.sentences, values[w.mode]))
    shown = panel.show(replace(here, pending=changes, label=f"{KIND}: {found.captioner}, {values[w.mode]}"))
    return {**shown, w.told: tag("p", esc(f"{count(len(changes), 'caption')} would change."))}


def refresh(w: DescribeWidgets, known: str) -> tuple[Changes, str]:
    """How a round has ended, for the tab's poll.

    Args:
        w: the widgets.
        known: what the window shows, from the last call.
    """
    end = ended(KIND, known, "Stopped; no caption has changed.")
    if end is None:
        return {}, known
    if end.told:
        return {w.told: end.told}, end.mark
    said = f"{count(len(end.task.result.sentences), 'picture')} described. Preview shows the captions."
    return {w.told: tag("p", esc(said), "lora-lab-good")}, end.mark
