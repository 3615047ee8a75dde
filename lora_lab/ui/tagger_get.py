"""More taggers, a part of auto-tagging: from the hub (size first, then on a click), or from a folder of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import gradio as gr

from lora_lab.errors import SettingsError
from lora_lab.tagging import hub
from lora_lab.tagging.known import KNOWN
from lora_lab.ui.context import UiContext
from lora_lab.ui.edge import Changes, Values, on
from lora_lab.ui.words import esc, tag
from lora_lab.workflow import tagging
from lora_lab.workflow.tasks import Task, tasks

KIND = "tagger download"
MEGA = 1_000_000


@dataclass(frozen=True)
class GetWidgets:
    """All that handlers read or change."""

    which: gr.Dropdown
    size: gr.Button
    get: gr.Button
    folder: gr.Textbox
    add: gr.Button
    again: gr.Button
    told: gr.HTML


def build() -> GetWidgets:
    """Layout."""
    choices = [f"{known.name}: {known.about}" for known in KNOWN.values()]
    with gr.Accordion("Get a tagger", open=False, elem_id="lora_lab_tagger_get"):
        which = gr.Dropdown(choices, label="from huggingface.co", elem_id="lora_lab_tagger_get_which")
        with gr.Row(elem_classes=["lora-lab-actions"]):
            size = gr.Button("How large is it?", elem_id="lora_lab_tagger_get_size")
            get = gr.Button("Download", elem_id="lora_lab_tagger_get_get")
            again = gr.Button("Look again what is here", elem_id="lora_lab_tagger_get_again")
        with gr.Row():
            folder = gr.Textbox(
                label="or a folder of yours", placeholder="with model.onnx and selected_tags.csv",
                elem_id="lora_lab_tagger_get_folder",
            )  # fmt: skip
            add = gr.Button("Use this folder", elem_id="lora_lab_tagger_get_add")
        told = gr.HTML("", elem_id="lora_lab_tagger_get_told")
    return GetWidgets(which, size, get, folder, add, again, told)


def wire(w: GetWidgets, taggers: gr.Dropdown, context: UiContext) -> None:
    """Each button; the list of taggers is changed where there is one more."""
    on(w.size.click, partial(sized, w=w), {w.which}, [w.told], context)
    on(w.get.click, partial(get, w=w, context=context), {w.which}, [w.told], context)
    listed = [w.told, taggers]
    on(w.add.click, partial(add, w=w, taggers=taggers, context=context), {w.folder, taggers}, listed, context)
    on(w.again.click, partial(again, w=w, taggers=taggers, context=context), {taggers}, listed, context)


def sized(values: Values, w: GetWidgets) -> Changes:
    """What a click on Download would bring.

    Raises:
        HubError: the hub cannot be reached, or huggingface_hub is not installed.
    """
    wanted = hub.look_up(_repository(values, w))
    text = f"{wanted.repository} has {wanted.size / MEGA:,.0f} MB. A download that is broken off goes on where it was."
    return {w.told: tag("p", esc(text))}


def get(values: Values, w: GetWidgets, context: UiContext) -> Changes:
    """Download in the background; the line above the panels shows how far it is, and its Interrupt stops it.

    Raises:
        LoraLabError: nothing is chosen, or a download is under way.
    """
    repository, folder = _repository(values, w), tagging.tagger_folder(context.host.paths())
    tasks().start(KIND, f"Downloading {repository} (MB)", partial(_work, repository=repository, folder=folder))
    return {w.told: tag("p", "It is coming; then press 'Look again what is here'.", "lora-lab-muted")}


def _work(task: Task, repository: str, folder: Path) -> Path:
    wanted = hub.look_up(repository, stop=lambda: task.stopping)
    listen = partial(_listen, task)
    return hub.download(wanted, folder, listen=listen, stop=lambda: task.stopping)


def _listen(task: Task, done: int, total: int) -> None:
    task.progress("downloading", done // MEGA, total // MEGA)


def add(values: Values, w: GetWidgets, taggers: gr.Dropdown, context: UiContext) -> Changes:
    """Take a tagger of the person's own into the list, for good.

    Raises:
        LoraLabError: it is no folder that may be read, or holds no tagger.
    """
    found = tagging.remember_place(
        context.host.paths().data_dir, context.folder(str(values[w.folder] or ""), "the tagger's folder")
    )
    chosen = [*(values[taggers] or []), found.name]
    names = [tagger.name for tagger in tagging.all_taggers(context.host)]
    text = tag("p", esc(f"{found.name} is in the list."), "lora-lab-good")
    return {w.told: text, taggers: gr.update(choices=names, value=list(dict.fromkeys(chosen)))}


def again(values: Values, w: GetWidgets, taggers: gr.Dropdown, context: UiContext) -> Changes:
    """The list anew, and what became of the last download."""
    names = [tagger.name for tagger in tagging.all_taggers(context.host)]
    kept = [name for name in values[taggers] or [] if name in names]
    task = tasks().latest(KIND)
    status = task.status() if task else None
    text = tag("p", f"{len(names)} taggers are here.", "lora-lab-muted")
    if status is not None and status.active:
        text = tag("p", esc(f"{status.title}: {status.done:,} of {status.total:,}."), "lora-lab-muted")
    elif status is not None and status.error is not None:
        text = tag("p", esc(str(status.error)), "lora-lab-error")
    return {w.told: text, taggers: gr.update(choices=names, value=kept)}


def _repository(values: Values, w: GetWidgets) -> str:
    name = str(values[w.which] or "").partition(":")[0]
    if name not in KNOWN:
        raise SettingsError("no tagger is chosen", remedy="choose one of the list")
    return KNOWN[name].repository
