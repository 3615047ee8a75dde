"""Inspect, a part of the panel Tools: what is in a LoRA, what two differ in; its card and metadata are edited."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from lora_lab.errors import SettingsError
from lora_lab.ui import tools_view
from lora_lab.ui.context import UiContext
from lora_lab.ui.edge import Changes, Values, on
from lora_lab.ui.ended import ended
from lora_lab.ui.tools_files import HostFiles
from lora_lab.ui.tools_work import Telling
from lora_lab.ui.words import esc, tag
from lora_lab.workflow.tasks import Task, tasks

if TYPE_CHECKING:
    from lora_lab.surgery.tokens import TokenChange

KIND = "inspecting"
TABLE = "inspected.csv"
"""In our data folder: the sites of the last file that was inspected."""
METADATA = {"title": "title", "author": "author", "description": "description", "trigger": "trigger words",
            "usage": "usage", "comment": "comment"}  # fmt: skip
"""Entries of the file's own metadata that the form has, by the short names of `surgery.edit`."""
CARD = {"trigger": "activation text", "weight": "preferred weight", "negative": "negative text", "notes": "notes"}
"""Entries of the webui's card."""


@dataclass(frozen=True)
class InspectWidgets:
    """All that handlers read or change."""

    lora: gr.Dropdown
    other: gr.Dropdown
    base: gr.Dropdown
    spectrum: gr.Checkbox
    tokens: gr.Checkbox
    look: gr.Button
    report: gr.HTML
    metadata: dict[str, gr.Textbox]
    card: dict[str, gr.Textbox]
    preview: gr.File
    force: gr.Checkbox
    save: gr.Button
    told: gr.HTML

    @property
    def form(self) -> set[Any]:
        """As inputs of saving."""
        return {self.lora, self.preview, self.force, *self.metadata.values(), *self.card.values()}


def build(loras: Sequence[str], checkpoints: Sequence[str]) -> InspectWidgets:
    """Layout."""
    with gr.Row(elem_classes=["lora-lab-row"]):
        lora = gr.Dropdown(
            list(loras), value=None, label="LoRA", allow_custom_value=True, elem_id="lora_lab_tools_inspect_lora"
        )
        other = gr.Dropdown(
            list(loras), value=None, label="compare with", allow_custom_value=True, info="empty: nothing",
            elem_id="lora_lab_tools_inspect_other",
        )  # fmt: skip
        base = gr.Dropdown(
            list(checkpoints), value=None, label="checkpoint", allow_custom_value=True,
            info="for tokens, and the spectrum of DoRA, IA3, OFT, GLoRA", elem_id="lora_lab_tools_inspect_base",
        )  # fmt: skip
    with gr.Row(elem_classes=["lora-lab-row"]):
        spectrum = gr.Checkbox(
            False, label="spectrum and effective rank of each site", elem_id="lora_lab_tools_inspect_spectrum"
        )
        tokens = gr.Checkbox(
            False, label="tokens whose text encoder states change most (minutes)",
            elem_id="lora_lab_tools_inspect_tokens",
        )  # fmt: skip
        look = gr.Button("Inspect", variant="primary", elem_id="lora_lab_tools_inspect_look")
    report = gr.HTML("", elem_id="lora_lab_tools_inspect_report")
    with gr.Accordion("Edit card and metadata", open=False, elem_id="lora_lab_tools_inspect_edit"):
        with gr.Row():
            card = {name: _text("card", name, label) for name, label in CARD.items()}
        with gr.Row():
            metadata = {name: _text("metadata", name, label) for name, label in METADATA.items()}
        with gr.Row():
            preview = gr.File(
                label="preview picture", file_types=["image"], elem_id="lora_lab_tools_inspect_preview", height=90
            )
            force = gr.Checkbox(False, label="replace the preview", elem_id="lora_lab_tools_inspect_force")
        save = gr.Button("Save card and metadata", elem_id="lora_lab_tools_inspect_save")
        told = gr.HTML("", elem_id="lora_lab_tools_inspect_told")
    return InspectWidgets(lora, other, base, spectrum, tokens, look, report, metadata, card, preview, force, save, told)


def _text(group: str, name: str, label: str) -> gr.Textbox:
    shown = f"{label} (card)" if group == "card" else label
    return gr.Textbox("", label=shown, elem_id=f"lora_lab_tools_inspect_{group}_{name}", min_width=180)


def wire(w: InspectWidgets, context: UiContext) -> None:
    """Look, and save."""
    shown = [w.report, *w.metadata.values(), *w.card.values()]
    asked: set[Any] = {w.lora, w.other, w.base, w.spectrum, w.tokens}
    on(w.look.click, partial(look, w=w, context=context), asked, shown, context, quiet=True)
    on(w.save.click, partial(save, w=w, context=context), w.form, [w.told], context, quiet=True)


def look(values: Values, w: InspectWidgets, context: UiContext) -> Changes:
    """Begin to read a file; its card and metadata are shown at once.

    Raises:
        LoraLabError: no such file, or it cannot be read, or another one is being read.
    """
    from lora_lab.surgery.edit import FRIENDLY, read_card
    from lora_lab.surgery.library import opened_metadata

    files = HostFiles(context)
    path = files.lora(values[w.lora])
    other = files.lora(values[w.other]) if values[w.other] else None
    base = files.checkpoint(values[w.base]) if values[w.base] else None
    if values[w.tokens] and base is None:
        raise SettingsError("tokens need the checkpoint", remedy="choose one, such as the loaded one")
    metadata, card = opened_metadata(path), read_card(path)
    table = context.host.paths().data_dir / TABLE
    work = Look(path, other, base, bool(values[w.spectrum]), bool(values[w.tokens]), table)
    tasks().start(KIND, f"Inspecting {path.name}", work)
    changes: Changes = {box: metadata.get(FRIENDLY[name], "") for name, box in w.metadata.items()}
    return changes | {box: card[name] for name, box in w.card.items()} | {w.report: tag("p", "reads …")}


@dataclass(frozen=True)
class Look:
    """Read a file in the background."""

    path: Path
    other: Path | None
    base: Path | None
    spectrum: bool
    tokens: bool
    table: Path

    def __call__(self, task: Task) -> tools_view.Shown:
        from lora_lab.surgery import tables
        from lora_lab.surgery.look import compare, spectra
        from lora_lab.surgery.report import look_into

        telling = Telling(task)
        found = look_into(self.path, telling)
        parts = [tools_view.report(found)]
        whole = not found.problems  # else a site may be one that cannot be read
        if whole:
            self.table.parent.mkdir(parents=True, exist_ok=True)
            tables.write(self.table, tables.of_sites(self.path, telling), force=True)
        if self.spectrum:
            parts.append(tools_view.spectra(spectra(self.path, self.base, telling)))
        if self.tokens and self.base is not None:
            parts.append(tools_view.tokens(changed_tokens(self.path, self.base, telling)))
        if self.other is not None:
            parts.append(tag("h4", esc(f"Beside {self.other.stem}")))
            parts.append(tools_view.difference(compare(self.path, self.other, telling)))
        return tools_view.Shown("".join(parts), self.table if whole else None)


def changed_tokens(path: Path, base: Path, telling: Telling) -> list[TokenChange]:
    """The tokens that change most, by the tokenizer that the host's packages bring.

    Raises:
        LoraLabError: no tokenizer, another family, or an adapter without text encoder.
    """
    from lora_lab.host.standalone_clip import folder_for
    from lora_lab.surgery.tokens import token_changes, vocabulary_size
    from lora_lab.tagging.tokens import readable, vocabulary

    words = [readable(word) for word in vocabulary(folder_for(vocabulary_size(base)))]
    return token_changes(path, base, words, progress=telling)


def save(values: Values, w: InspectWidgets, context: UiContext) -> Changes:
    """Write what differs; no tensor is touched.

    Raises:
        LoraLabError: the file is not there, a weight is no number, a preview is there already, ...
    """
    from lora_lab.surgery.edit import FRIENDLY, edit_card, edit_metadata, read_card, set_preview
    from lora_lab.surgery.library import opened_metadata

    path = HostFiles(context).lora(values[w.lora])
    now, card = opened_metadata(path), read_card(path)
    typed = {name: str(values[box] or "").strip() for name, box in w.metadata.items()}
    new = {n: text for n, text in typed.items() if text and text != now.get(FRIENDLY[n], "")}
    gone = [n for n, text in typed.items() if not text and FRIENDLY[n] in now]
    cards = {name: str(values[box] or "").strip() for name, box in w.card.items()}
    cards = {name: text for name, text in cards.items() if text != card[name]}
    picture = values[w.preview]
    if not (new or gone or cards or picture):
        raise SettingsError("nothing is different", remedy="inspect a LoRA, then change a field")
    said = []
    if picture:
        said.append(f"preview {set_preview(path, Path(picture.name), force=bool(values[w.force])).name}")
    if cards:
        edit_card(path, cards)
        said.append(f"card {path.with_suffix('.json').name}")
    if new or gone:
        edit_metadata(path, new, gone)
        said.append("metadata " + ", ".join([*new, *gone]))
    context.host.lora_saved(path)
    return {w.told: tag("p", esc(f"Saved: {'; '.join(said)}."), "lora-lab-good")}


def refresh(w: InspectWidgets, known: str) -> tuple[Changes, str]:
    """What was read, for the tab's poll."""
    end = ended(KIND, known, "Stopped.")
    if end is None:
        return {}, known
    return {w.report: end.told or tools_view.shown(end.task.result, w.report)}, end.mark
