"""Library, a part of the panel Tools: the whole LoRA folder searched, and what was trained on the loaded checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from lora_lab.errors import CheckpointError
from lora_lab.ui import tools_view
from lora_lab.ui.context import UiContext
from lora_lab.ui.edge import Changes, Values, on
from lora_lab.ui.ended import ended
from lora_lab.ui.tools_files import HostFiles
from lora_lab.ui.tools_work import Telling
from lora_lab.ui.words import tag
from lora_lab.workflow.tasks import Task, tasks

KIND = "library"
CACHE = "library.json"
"""In our data folder."""
TABLE = "library.csv"
"""Beside it: what the last search found."""
ABOUT = tag(
    "p",
    "All words must be there: in the name, the trigger, tags, training settings. tag:hat, base:anime, kind:loha, "
    "family:sdxl, rank&lt;=16 look in one place; -word must not be there. A pasted prompt finds "
    "the LoRAs that it names.",
    "lora-lab-empty",
)


@dataclass(frozen=True)
class LibraryWidgets:
    """All that handlers read or change."""

    text: gr.Textbox
    folder: gr.Textbox
    loaded: gr.Checkbox
    search: gr.Button
    found: gr.HTML


def build() -> LibraryWidgets:
    """Layout."""
    gr.HTML(ABOUT)
    with gr.Row(elem_classes=["lora-lab-row"]):
        text = gr.Textbox("", label="search", placeholder="tag:hat rank<=16", elem_id="lora_lab_tools_library_text")
        folder = gr.Textbox(
            "", label="folder", placeholder="empty: the LoRA folder", elem_id="lora_lab_tools_library_folder"
        )
    with gr.Row(elem_classes=["lora-lab-row"]):
        loaded = gr.Checkbox(
            False, label="only those trained on the loaded checkpoint", elem_id="lora_lab_tools_library_loaded"
        )
        search = gr.Button("Search", variant="primary", elem_id="lora_lab_tools_library_search")
    return LibraryWidgets(text, folder, loaded, search, gr.HTML("", elem_id="lora_lab_tools_library_found"))


def wire(w: LibraryWidgets, context: UiContext) -> None:
    """Search."""
    inputs: set[Any] = {w.text, w.folder, w.loaded}
    for event in (w.search.click, w.text.submit):
        on(event, partial(begin, w=w, context=context), inputs, [w.found], context, quiet=True)


def begin(values: Values, w: LibraryWidgets, context: UiContext) -> Changes:
    """Begin to read the folder.

    Raises:
        LoraLabError: no such folder, or no checkpoint is loaded from a file.
    """
    typed = str(values[w.folder] or "")
    folder = context.folder(typed, "the folder") if typed.strip() else HostFiles(context).lora_dir
    checkpoint: Path | None = None
    sha256 = None
    if values[w.loaded]:
        info = context.host.current()
        if info is None or info.path is None:
            raise CheckpointError("no checkpoint is loaded from a file", remedy="load one, or take the tick away")
        checkpoint, sha256 = info.path, info.sha256 or context.host.full_hash(info)
    cache = context.host.paths().data_dir / CACHE
    tasks().start(KIND, "Reading the LoRA folder", Search(folder, cache, str(values[w.text] or ""), checkpoint, sha256))
    return {w.found: tag("p", "reads …")}


@dataclass(frozen=True)
class Search:
    """Read and search in the background."""

    folder: Path
    cache: Path
    text: str
    checkpoint: Path | None
    sha256: str | None

    def __call__(self, task: Task) -> tools_view.Shown:
        from lora_lab.surgery import tables
        from lora_lab.surgery.library import in_prompt, is_prompt, read_library, search, trained_on

        entries = read_library(self.folder, self.cache, Telling(task))
        missing: list[str] = []
        if is_prompt(self.text):
            found, missing = in_prompt(entries, self.text)
        else:
            found = search(entries, self.text)
        by: dict[str, str] = {}
        if self.checkpoint is not None:
            trained = trained_on(found, self.checkpoint, self.sha256)
            by = {one.entry.name: one.by for one in trained}
            found = [one.entry for one in trained]
        table = self.cache.with_name(TABLE)
        table.parent.mkdir(parents=True, exist_ok=True)
        tables.write(table, tables.of_folder(found), force=True)
        return tools_view.Shown(tools_view.library(found, len(entries), by, missing), table)


def refresh(w: LibraryWidgets, known: str) -> tuple[Changes, str]:
    """What was found, for the tab's poll."""
    end = ended(KIND, known, "Stopped.")
    if end is None:
        return {}, known
    return {w.found: end.told or tools_view.shown(end.task.result, w.found)}, end.mark
