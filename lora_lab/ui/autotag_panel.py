"""Auto-tagging, a part of the Tags panel: which taggers, how sure they must be, and what becomes of the captions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from lora_lab.errors import DatasetError, SettingsError
from lora_lab.tagging.choose import Choice
from lora_lab.tagging.write_modes import WRITE_MODES, written
from lora_lab.ui import tags_data
from lora_lab.ui.choice_form import FinerWidgets
from lora_lab.ui.choice_form import build as build_finer
from lora_lab.ui.context import UiContext
from lora_lab.ui.edge import Changes, Values, on
from lora_lab.ui.tagger_get import GetWidgets
from lora_lab.ui.tagger_get import build as build_get
from lora_lab.ui.tagger_get import wire as wire_get
from lora_lab.ui.tags_acts import Place
from lora_lab.ui.words import count, esc, tag
from lora_lab.workflow import tagging
from lora_lab.workflow.tasks import Task, tasks

KIND = "tagging"
COMBINE = ("mean", "max", "vote")


@dataclass(frozen=True)
class AutotagWidgets:
    """All that handlers read or change."""

    taggers: gr.Dropdown
    combine: gr.Radio
    general: gr.Slider
    character: gr.Slider
    card: gr.Checkbox
    mcut: gr.Checkbox
    exclude: gr.Textbox
    replace: gr.Textbox
    most: gr.Number
    underscores: gr.Checkbox
    finer: FinerWidgets
    mode: gr.Radio
    run: gr.Button
    preview: gr.Button
    told: gr.HTML
    get: GetWidgets

    @property
    def form(self) -> set[Any]:
        """What is chosen from probabilities, and how it is written."""
        return {
            self.combine, self.general, self.character, self.card, self.mcut, self.exclude, self.replace, self.most,
            self.underscores, self.mode, *self.finer.all,
        }  # fmt: skip


def build(context: UiContext) -> AutotagWidgets:
    """Layout."""
    names = [tagger.name for tagger in tagging.all_taggers(context.host)]
    usual = Choice()
    with gr.Accordion("Auto-tag", open=True, elem_id="lora_lab_autotag"):
        with gr.Row():
            taggers = gr.Dropdown(
                names, value=names[:1], multiselect=True, label="taggers", elem_id="lora_lab_autotag_taggers"
            )
            combine = gr.Radio(
                list(COMBINE), value="mean", label="several together", elem_id="lora_lab_autotag_combine"
            )
        with gr.Row():
            general = gr.Slider(
                0, 1, usual.general_threshold, step=0.01, label="threshold", elem_id="lora_lab_autotag_general"
            )
            character = gr.Slider(
                0, 1, usual.character_threshold, step=0.01, label="for characters", elem_id="lora_lab_autotag_character"
            )
        with gr.Row():
            card = gr.Checkbox(False, label="the model card's threshold", elem_id="lora_lab_autotag_card")
            mcut = gr.Checkbox(False, label="one for each picture (MCut)", elem_id="lora_lab_autotag_mcut")
            underscores = gr.Checkbox(False, label="underscores", elem_id="lora_lab_autotag_underscores")
        with gr.Row():
            exclude = _text("exclude", "never take", "solo, *background")
            replace_ = _text("replace", "write instead", "old=new; old=")
            most = gr.Number(0, precision=0, label="at most (0: all)", elem_id="lora_lab_autotag_most", min_width=90)
        finer = build_finer()
        mode = gr.Radio(
            list(WRITE_MODES), value="if-empty", label="captions that are there already",
            info=WRITE_MODES["if-empty"], elem_id="lora_lab_autotag_mode",
        )  # fmt: skip
        with gr.Row(elem_classes=["lora-lab-actions"]):
            run = gr.Button("Look at the pictures", variant="primary", elem_id="lora_lab_autotag_run")
            preview = gr.Button("Preview captions", elem_id="lora_lab_autotag_preview")
        told = gr.HTML("", elem_id="lora_lab_autotag_told")
        get = build_get()
    return AutotagWidgets(
        taggers, combine, general, character, card, mcut, exclude, replace_, most, underscores, finer, mode, run,
        preview, told, get,
    )  # fmt: skip


def _text(name: str, label: str, example: str) -> gr.Textbox:
    return gr.Textbox(label=label, placeholder=example, elem_id=f"lora_lab_autotag_{name}")


def wire(
    w: AutotagWidgets, place: gr.State, shown: list[Any], show: Callable[[Place], Changes], context: UiContext
) -> None:
    """Look at the pictures, and preview; moving a threshold previews again."""
    look = partial(run, w=w, place=place, context=context)
    on(w.run.click, look, {w.taggers, place}, [w.told], context, quiet=True)
    wire_get(w.get, w.taggers, context)
    change = partial(preview, w=w, place=place, show=show, context=context)
    outputs = [*shown, w.told]
    on(w.preview.click, change, {place, *w.form}, outputs, context)
    again = partial(moved, w=w, place=place, show=show, context=context)
    for slider in (w.general, w.character):
        on(slider.release, again, {place, *w.form}, outputs, context, quiet=True)
    on(w.mode.change, partial(explained, w=w), {w.mode}, [w.mode], context, quiet=True)
    for switch in (w.card, w.mcut, w.combine, w.mode, w.underscores):
        on(switch.change, again, {place, *w.form}, outputs, context, quiet=True)


def explained(values: Values, w: AutotagWidgets) -> Changes:
    """What the chosen word does, below it."""
    return {w.mode: gr.update(info=WRITE_MODES[values[w.mode]])}


def run(values: Values, w: AutotagWidgets, place: gr.State, context: UiContext) -> Changes:
    """Show the pictures to the taggers, in the background; what they have seen before costs nothing.

    Raises:
        LoraLabError: no dataset is open, no tagger is chosen, or one is at work.
    """
    here: Place = values[place]
    one = _opened(here, context)
    chosen = [t for t in tagging.all_taggers(context.host) if t.name in (values[w.taggers] or [])]
    if not chosen:
        raise SettingsError("no tagger is chosen", remedy="choose one, or put one's folder where it is found")
    folder = Path(here.folder)
    pictures = tagging.find_pictures(folder)
    store = tagging.project_store(folder, context.host.paths().data_dir)

    def work(task: Task) -> tagging.Seen:
        seen = tagging.look(pictures, chosen, store, task.progress)
        one.take(seen)
        return seen

    tasks().start(KIND, f"Tagging {count(len(pictures), 'picture')}", work)
    return {w.told: tag("p", esc(f"Looking at {count(len(pictures), 'picture')} ..."), "lora-lab-muted")}


def refresh(w: AutotagWidgets, known: str) -> tuple[Changes, str]:
    """What is new of the tagging, for the tab's poll.

    Args:
        w: the widgets.
        known: what the window shows, from the last call.
    """
    task = tasks().latest(KIND)
    status = task.status() if task else None
    if task is None or status is None or status.active:
        return {}, known
    mark = f"{status.id} {status.state}"
    if mark == known:
        return {}, known
    if status.error is not None:
        text = tag("p", esc(str(status.error)), "lora-lab-error")
    elif status.state == "stopped":
        text = tag("p", "Stopped; what was seen is kept.", "lora-lab-muted")
    else:
        text = tag("p", esc(_told(task.result)), "lora-lab-good")
    # Our JavaScript looks for this mark, and asks for the panel as it is now.
    return {w.told: text + tag("span", "", data_ended=mark)}, mark


def _told(seen: tagging.Seen) -> str:
    fresh = f", {seen.computed:,} of them now" if seen.computed else ", all of them before"
    bad = f"; {count(len(seen.problems), 'picture')} could not be read" if seen.problems else ""
    notes = "".join(f" {note}" for note in seen.notes)
    return f"{count(len(seen.pictures), 'picture')} seen{fresh}{bad}.{notes} Preview shows the captions."


def moved(
    values: Values, w: AutotagWidgets, place: gr.State, show: Callable[[Place], Changes], context: UiContext
) -> Changes:
    """A threshold moved: if a preview of tagging is shown, it is made anew."""
    here: Place = values[place]
    if not here.folder or here.pending is None or not here.label.startswith(KIND):
        return {}
    return preview(values, w, place, show, context)


def preview(
    values: Values, w: AutotagWidgets, place: gr.State, show: Callable[[Place], Changes], context: UiContext
) -> Changes:
    """The captions that the probabilities would give, as a pending edit; nothing is run again.

    Raises:
        LoraLabError: no tagger has seen the pictures, or a value is wrong.
    """
    here: Place = values[place]
    one = _opened(here, context)
    if one.seen is None:
        raise SettingsError("no tagger has seen these pictures", remedy="press 'Look at the pictures' first")
    choice = choice_of(values, w)
    one.threshold = choice.general_threshold
    tags = one.seen.choose(choice, values[w.combine])
    mode = values[w.mode]
    wanted = {}
    for picture, found in zip(one.seen.pictures, tags, strict=True):
        caption = one.project.caption_of(picture)
        if caption is not None:
            wanted[caption.file] = written(caption.tags, found, mode, one.seen.vocabulary)
    changes = tuple(one.project.preview_tags(wanted))
    mean = sum(map(len, tags)) / max(1, len(tags))
    said = f"{mean:.1f} tags a picture; {count(len(changes), 'caption')} would change. Look at them, then press Apply."
    label = f"{KIND}: {', '.join(t.name for t in one.seen.taggers)}, {mode}"
    changed = show(replace(here, pending=changes, label=label))
    return {**changed, w.told: tag("p", esc(said))}


def choice_of(values: Values, w: AutotagWidgets) -> Choice:
    """The form as a choice.

    Raises:
        SettingsError: a value is out of its range.
    """
    pairs = [p.partition("=") for p in str(values[w.replace] or "").split(";") if p.strip()]
    choice = Choice(
        general_threshold=float(values[w.general]), character_threshold=float(values[w.character]),
        use_card=bool(values[w.card]), mcut=bool(values[w.mcut]), underscores=bool(values[w.underscores]),
        exclude=tuple(t.strip() for t in str(values[w.exclude] or "").split(",") if t.strip()),
        replace=tuple((old.strip(), new.strip()) for old, _, new in pairs), max_tags=int(values[w.most] or 0),
        **w.finer.read(values),
    )  # fmt: skip
    choice.check()
    return choice


def _opened(place: Place, context: UiContext) -> tags_data.Opened:
    if not place.folder:
        raise DatasetError("no dataset is open", remedy="type its folder and press Open")
    folder = context.folder(place.folder, "the dataset's folder")
    return tags_data.opened(folder, context.host.paths().data_dir, place.extension)
