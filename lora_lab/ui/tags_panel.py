"""The panel Tags: auto-tag, clean in bulk and one by one, with suggestions, and a way back from everything."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import gradio as gr

from lora_lab.errors import DatasetError, SettingsError
from lora_lab.tagging.operations import OPERATIONS, Operation, from_texts
from lora_lab.tagging.recipe import Recipe
from lora_lab.ui import describe_part, tags_data, tags_files, tags_view
from lora_lab.ui.autotag_panel import AutotagWidgets
from lora_lab.ui.autotag_panel import build as build_autotag
from lora_lab.ui.autotag_panel import wire as wire_autotag
from lora_lab.ui.context import UiContext
from lora_lab.ui.edge import Changes, Values, on, told_by_page
from lora_lab.ui.fields import hints
from lora_lab.ui.tags_acts import Place, carry_out
from lora_lab.ui.tips.tags import TIPS
from lora_lab.ui.words import tag

TITLE = "Tags"
SLOTS = 4
"""Boxes for the options of an operation: the most that one has."""
SCOPES = {"all captions": "all", "those found by the filter": "found", "selected pictures": "selected"}
HINT = tag(
    "p",
    "Open the folder that holds your concept folders. Captions are copied before the first change, and every change "
    "can be taken back, also tomorrow.",
    "lora-lab-empty",
)


@dataclass(frozen=True)
class TagsWidgets:
    """All that handlers read or change."""

    folder: gr.Textbox
    extension: gr.Textbox
    open: gr.Button
    place: gr.State
    autotag: AutotagWidgets
    describe: describe_part.DescribeWidgets
    files: tags_files.FilesWidgets
    cards: gr.HTML
    operation: gr.Dropdown
    about: gr.HTML
    slots: tuple[gr.Textbox, ...]
    scope: gr.Radio
    preview: gr.Button
    box: gr.Column
    apply: gr.Button
    discard: gr.Button
    pending: gr.HTML
    history: gr.HTML
    filter: gr.Textbox
    gallery: gr.HTML
    editor: gr.HTML
    table: gr.HTML
    do: gr.Button
    message: gr.Textbox
    done: gr.HTML

    @property
    def shown(self) -> list[Any]:
        """What an action may change."""
        return [
            self.place, self.cards, self.box, self.pending, self.apply, self.history, self.filter, self.gallery,
            self.editor, self.table, self.done,
        ]  # fmt: skip


def build(context: UiContext) -> TagsWidgets:
    """Layout."""
    with gr.Row(elem_classes=["lora-lab-row"]):
        folder = gr.Textbox(label="dataset", placeholder="folder", scale=8, elem_id="lora_lab_tags_folder")
        extension = gr.Textbox(".txt", label="captions end in", scale=1, elem_id="lora_lab_tags_extension")
        open_ = gr.Button("Open", variant="primary", scale=1, elem_id="lora_lab_tags_open")
    place = gr.State(Place())
    with gr.Row(elem_classes=["lora-lab-columns"]):
        with gr.Column(scale=4, min_width=320):
            autotag = build_autotag(context)
            describe = describe_part.build(context)
            with gr.Accordion("Suggestions", open=True, elem_id="lora_lab_tags_suggestions"):
                cards = gr.HTML(HINT, elem_id="lora_lab_tags_cards")
            operation, about, slots, scope, preview = _bulk()
            files = tags_files.build()
            with gr.Accordion("History", open=False, elem_id="lora_lab_tags_past"):
                history = gr.HTML("", elem_id="lora_lab_tags_history")
        with gr.Column(scale=6, min_width=320):
            box, apply, discard, pending = _pending_box()
            filter_ = gr.Textbox(
                label="filter", placeholder="long hair AND NOT (hat OR cap), untagged, tokens>75 ...",
                elem_id="lora_lab_tags_filter",
            )  # fmt: skip
            gallery = gr.HTML("", elem_id="lora_lab_tags_gallery")
            editor = gr.HTML("", elem_id="lora_lab_tags_editor")
            table = gr.HTML("", elem_id="lora_lab_tags_table")
    do = gr.Button("do", elem_id="lora_lab_tags_do", elem_classes=["lora-lab-hidden"])
    message = gr.Textbox("", elem_id="lora_lab_tags_message", elem_classes=["lora-lab-hidden"])
    done = gr.HTML("", elem_id="lora_lab_tags_done", elem_classes=["lora-lab-hidden"])
    gr.HTML(hints("tags", (), TIPS), elem_classes=["lora-lab-hidden"])
    return TagsWidgets(
        folder, extension, open_, place, autotag, describe, files, cards, operation, about, slots, scope, preview, box,
        apply, discard, pending, history, filter_, gallery, editor, table, do, message, done,
    )  # fmt: skip


def _bulk() -> tuple[Any, ...]:
    """The form of a bulk edit."""
    with gr.Accordion("Edit many", open=False, elem_id="lora_lab_tags_bulk"):
        names = [(kind.title, name) for name, kind in OPERATIONS.items()]
        first = next(iter(OPERATIONS))
        operation = gr.Dropdown(
            [f"{title} ({name})" for title, name in names], value=f"{OPERATIONS[first].title} ({first})",
            label="operation", elem_id="lora_lab_tags_operation",
        )  # fmt: skip
        about = gr.HTML(_about(first), elem_id="lora_lab_tags_about")
        slots = tuple(gr.Textbox(**_slot(first, n), elem_id=f"lora_lab_tags_slot{n}") for n in range(SLOTS))
        scope = gr.Radio(list(SCOPES), value=next(iter(SCOPES)), label="on", elem_id="lora_lab_tags_scope")
        preview = gr.Button("Preview", elem_id="lora_lab_tags_preview")
    return operation, about, slots, scope, preview


def _pending_box() -> tuple[Any, ...]:
    """What is about to change; only there while something is."""
    with gr.Column(visible=False, elem_id="lora_lab_tags_pending_box") as box:
        pending = gr.HTML("", elem_id="lora_lab_tags_pending")
        with gr.Row(elem_classes=["lora-lab-actions"]):
            apply = gr.Button("Apply", variant="primary", interactive=False, elem_id="lora_lab_tags_apply")
            discard = gr.Button("Discard", elem_id="lora_lab_tags_discard")
    return box, apply, discard, pending


def wire(w: TagsWidgets, context: UiContext) -> None:
    """Open, act, filter, edit many, tag."""
    for event in (w.open.click, w.folder.submit):
        on(event, partial(open_folder, w=w, context=context), {w.folder, w.extension, w.place}, w.shown, context)
    inputs: set[Any] = {w.place, w.message}
    send = told_by_page(inputs, w.message, "window.loraLabTags()")
    on(w.do.click, partial(act, w=w, context=context), inputs, w.shown, context, quiet=True, js=send)
    narrow = partial(narrowed, w=w, context=context)
    on(w.filter.submit, narrow, {w.place, w.filter}, w.shown, context, quiet=True)
    on(w.operation.change, partial(chosen, w=w), {w.operation}, [w.about, *w.slots], context, quiet=True)
    form = {w.place, w.operation, w.scope, w.filter, *w.slots}
    on(w.preview.click, partial(previewed, w=w, context=context), form, w.shown, context)
    on(w.discard.click, partial(discarded, w=w, context=context), {w.place}, w.shown, context, quiet=True)
    on(w.apply.click, partial(applied, w=w, context=context), {w.place}, w.shown, context)
    shows, opens = partial(show, w=w, context=context), partial(dataset, context=context)
    bulk = {w.operation, *w.slots}
    part = tags_files.Panel(w.place, w.filter, w.shown, shows, opens, bulk, partial(operation_of, w=w))
    describe_part.wire(w.describe, part, context)
    tags_files.wire(w.files, part, context)
    wire_autotag(w.autotag, w.place, w.shown, shows, context)


def open_folder(values: Values, w: TagsWidgets, context: UiContext) -> Changes:
    """Read the captions of a folder.

    Raises:
        LoraLabError: no such folder, or it is not allowed.
    """
    folder = context.folder(values[w.folder] or "", "the dataset's folder")
    place = Place(folder=str(folder), extension=str(values[w.extension] or ".txt").strip())
    one = dataset(place, context)
    one.project.refresh()
    tags_data.remember(one, folder, context.host.paths())
    place = replace(place, current=next(iter(one.project.captions), ""), done=values[w.place].done)
    return show(place, w, context)


def act(values: Values, w: TagsWidgets, context: UiContext) -> Changes:
    """Clicks and keys, as the page tells them."""
    place: Place = values[w.place]
    if not place.folder:
        return {w.done: tag("span", "", data_done="0")}
    one = dataset(place, context)
    one.project.refresh()
    place, errors = carry_out(place, one, values[w.message] or "")
    for error in errors:
        gr.Warning(error)
    return show(place, w, context)


def narrowed(values: Values, w: TagsWidgets, context: UiContext) -> Changes:
    """Another filter.

    Raises:
        LoraLabError: it cannot be read.
    """
    place = replace(values[w.place], where=str(values[w.filter] or "").strip(), only=None, page=0)
    place.found(dataset(place, context))
    return show(place, w, context)


def chosen(values: Values, w: TagsWidgets) -> Changes:
    """Another operation: its options in the boxes."""
    name = _name(values[w.operation])
    return {w.about: _about(name), **{slot: gr.update(**_slot(name, n)) for n, slot in enumerate(w.slots)}}


def previewed(values: Values, w: TagsWidgets, context: UiContext) -> Changes:
    """Exactly which captions would change, and how.

    Raises:
        LoraLabError: the operation cannot be meant, or the filter cannot be read.
    """
    place: Place = replace(values[w.place], where=str(values[w.filter] or "").strip())
    one = dataset(place, context)
    operation = operation_of(values, w)
    scope = SCOPES[values[w.scope]]
    files = {"all": None, "found": place.found(one), "selected": sorted(place.selected)}[scope]
    if scope == "selected" and not files:
        raise SettingsError("no picture is selected", remedy="Ctrl-click pictures, or choose another scope")
    recipe = Recipe.of(operation)
    changes = tuple(one.project.preview(recipe, files=files))
    return show(replace(place, pending=changes, label=recipe.told()), w, context)


def operation_of(values: Values, w: TagsWidgets) -> Operation:
    """The form of a bulk edit as an operation.

    Raises:
        OperationError: an option is wrong.
    """
    name = _name(values[w.operation])
    options = OPERATIONS[name].options()
    typed = {o.name: str(values[w.slots[n]] or "") for n, o in enumerate(options)}
    return from_texts(name, {k: v for k, v in typed.items() if v.strip()})


def applied(values: Values, w: TagsWidgets, context: UiContext) -> Changes:
    """Write what was shown.

    Raises:
        LoraLabError: a caption has changed since, or cannot be written; then none is.
    """
    place: Place = values[w.place]
    if not place.pending:
        raise SettingsError("there is nothing to apply", remedy="look at a preview first")
    dataset(place, context).project.apply(place.pending, place.label)
    return show(replace(place, pending=None), w, context)


def discarded(values: Values, w: TagsWidgets, context: UiContext) -> Changes:
    """Forget what was shown."""
    return show(replace(values[w.place], pending=None), w, context)


def show(place: Place, w: TagsWidgets, context: UiContext) -> Changes:
    """Everything as it is now."""
    one = dataset(place, context)
    thumbs = context.host.paths().data_dir / "thumbnails"
    files = place.found(one)
    page = tags_data.page(one, files, place.page, thumbs)
    edited = tags_data.edited(one, place.current, thumbs)
    paths = [thumb.small for thumb in page.thumbs if thumb.small] + ([edited.picture] if edited else [])
    # What gradio serves under file= is what its components have let in.
    w.message.temp_files.update(path for path in paths if path)
    terms = frozenset(part.strip('"') for part in place.where.split(" AND "))
    pending = "" if place.pending is None else _pending(place, one)
    return {
        w.place: place,
        w.cards: tags_data.cards(tags_data.suggestions(one)),
        w.box: gr.update(visible=place.pending is not None),
        w.pending: pending,
        w.apply: gr.update(interactive=bool(place.pending)),
        w.history: tags_data.history(one),
        w.filter: place.where,
        w.gallery: tags_view.gallery(page, place.selected, place.current),
        w.editor: tags_view.editor(edited),
        w.table: tags_view.tag_table(tags_data.rows(one, files), terms),
        w.done: tag("span", "", data_done=f"{place.done:.0f}"),
    }


def dataset(place: Place, context: UiContext) -> tags_data.Opened:
    """The dataset of a window.

    Raises:
        DatasetError: none is open.
    """
    if not place.folder:
        raise DatasetError("no dataset is open", remedy="type its folder and press Open")
    folder = context.folder(place.folder, "the dataset's folder")
    one = tags_data.opened(folder, context.host.paths().data_dir, place.extension)
    one.count_with(context.host)
    return one


def _pending(place: Place, one: tags_data.Opened) -> str:
    changed = [(change.file, change.before, change.after) for change in place.pending or ()]
    return tags_view.changes(changed, len(one.project.captions))


def _name(text: str) -> str:
    """``Trigger first (trigger-first)`` to its name."""
    return text.rpartition("(")[2].rstrip(")")


def _about(name: str) -> str:
    return tag("p", OPERATIONS[name].about, "lora-lab-muted lora-lab-small")


def _slot(name: str, number: int) -> dict[str, Any]:
    """How a box shows the operation's option of that number."""
    options = OPERATIONS[name].options()
    if number >= len(options):
        return {"visible": False, "value": "", "label": "", "info": ""}
    option = options[number]
    default = option.default
    plain = ("yes" if default else "no") if isinstance(default, bool) else str(default)
    value = "" if default is None or isinstance(default, tuple) else plain
    return {"visible": True, "value": value, "label": option.name, "info": option.help}
