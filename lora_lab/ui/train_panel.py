"""The panel Train: settings, what they come to in steps and time, the run while it goes, its files at the end."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import gradio as gr

from lora_lab.dataset.held_out import split
from lora_lab.errors import LoraLabError
from lora_lab.families import Family
from lora_lab.training.checks import check, warnings
from lora_lab.training.checks.blocks import check_blocks
from lora_lab.training.plan import make_plan
from lora_lab.training.settings import TrainSettings
from lora_lab.training.settings.stages import expand
from lora_lab.training.status import RunStatus
from lora_lab.training.text.caption_preview import preview
from lora_lab.ui import (
    advice_part,
    advice_view,
    blocks_panel,
    caption_view,
    measure_part,
    presets_part,
    run_view,
    schedule_view,
    symptoms_part,
    train_files,
    words,
)
from lora_lab.ui.context import UiContext
from lora_lab.ui.dataset_panel import scan_folder
from lora_lab.ui.edge import Changes, Values, on
from lora_lab.ui.estimate import measured
from lora_lab.ui.fields import Fields, build_fields, hints
from lora_lab.ui.live import Seen, View
from lora_lab.ui.tips.train import TIPS
from lora_lab.ui.trigger import trigger_of
from lora_lab.ui.words import esc, tag
from lora_lab.workflow.advice import first_settings

TITLE = "Train"

FIRST = (
    "train_data_dir", "output_name", "resolution", "train_batch_size", "network_dim", "network_alpha",
    "max_train_epochs", "optimizer_type", "unet_lr", "text_encoder_lr",
)  # fmt: skip
"""The few that matter, in the order of the form."""

GROUPS = {
    "previews": "Previews while it trains",
    "output": "Files and snapshots",
    "captions": "Captions",
    "dataset": "More about the pictures",
    "buckets": "Buckets",
    "learning": "More about learning",
    "network": "More about the network",
    "kinds": "Kind of adapter, and which layers",
    "blocks": "Blocks",
    "noise": "Noise",
    "speed": "Speed and memory",
    "start": "Starting points and stages",
    "latents": "Latents",
}
"""Folded parts of the form: group of the settings table -> heading."""

PLAN_HINT = tag("p", "Steps and time stand here as soon as a folder and a name are given.", "lora-lab-muted")


@dataclass(frozen=True)
class TrainWidgets:
    """All that handlers read or change."""

    fields: Fields
    advice: advice_part.AdviceWidgets
    symptoms: symptoms_part.SymptomWidgets
    files: train_files.FileWidgets
    presets: presets_part.PresetWidgets
    plan: gr.HTML
    replan: gr.Button
    start: gr.Button
    stop: gr.Button
    again: gr.Button
    card: gr.HTML
    previews: gr.Gallery
    snapshots: gr.HTML
    notes: gr.HTML
    cancel: gr.Button
    more: measure_part.MeasureWidgets
    chosen: gr.Textbox
    """Id of the waiting run whose cancel button was pressed: our JavaScript says which."""

    @property
    def watched(self) -> list[Any]:
        """What the poll changes."""
        buttons = [self.start, self.stop, self.again, self.more.go_on]
        return [*buttons, self.card, self.previews, self.snapshots, self.notes]


def build(context: UiContext) -> TrainWidgets:
    """Layout: settings at the left, the run at the right; one below the other in a narrow window."""
    with gr.Row(elem_classes=["lora-lab-columns"]):
        with gr.Column(scale=6, min_width=320, elem_id="lora_lab_train_form"):
            asked = advice_part.build(context)
            symptoms = symptoms_part.build()
            fields = _build_form(first_settings(context.host.current()))
            files = train_files.build()
            kept = presets_part.build(context)
            files.told.render()
            replan = gr.Button("plan", elem_id="lora_lab_train_replan", elem_classes=["lora-lab-hidden"])
        with gr.Column(scale=5, min_width=320, elem_id="lora_lab_train_run"):
            plan = gr.HTML(PLAN_HINT, elem_id="lora_lab_train_plan")
            measure = measure_part.build_measure()
            with gr.Row(elem_classes=["lora-lab-actions"]):
                start = gr.Button("Start", variant="primary", elem_id="lora_lab_train_start")
                stop = gr.Button("Stop and keep", interactive=False, elem_id="lora_lab_train_stop")
            card = gr.HTML(run_view.EMPTY, elem_id="lora_lab_train_card")
            previews = gr.Gallery(
                label="Previews, the newest first", elem_id="lora_lab_train_previews", columns=4, height="auto",
                object_fit="contain", visible=False, allow_preview=True, show_share_button=False,
            )  # fmt: skip
            snapshots = gr.HTML("", elem_id="lora_lab_train_snapshots")
            notes = gr.HTML("", elem_id="lora_lab_train_notes")
            again = gr.Button("Take over this run's settings", elem_id="lora_lab_train_again", visible=False, size="sm")
            more = measure_part.MeasureWidgets(*measure, measure_part.build_go_on())
            cancel = gr.Button("cancel", elem_id="lora_lab_train_cancel", elem_classes=["lora-lab-hidden"])
            chosen = gr.Textbox("", visible=False, elem_id="lora_lab_train_chosen")
    gr.HTML(hints("train", fields.widgets, TIPS), elem_classes=["lora-lab-hidden"])
    with gr.Accordion("Words, and what slows learning", open=False, elem_id="lora_lab_words"):
        gr.HTML(advice_view.glossary())
    return TrainWidgets(
        fields, asked, symptoms, files, kept, plan, replan, start, stop, again, card, previews, snapshots, notes,
        cancel, more, chosen,
    )  # fmt: skip


def _build_form(start: TrainSettings) -> Fields:
    """The first settings in sight, the rest folded by group."""
    widgets: dict[str, Any] = dict(build_fields("train", FIRST, start=start).widgets)
    for group, heading in GROUPS.items():
        names = [s.name for s in TrainSettings.specs() if s.group == group and s.name not in FIRST]
        with gr.Accordion(heading, open=False, elem_id=f"lora_lab_train_group_{group}"):
            if group == "blocks":
                gr.HTML(blocks_panel.panel(), elem_id="lora_lab_train_blocks")
            widgets |= build_fields("train", names, start=start).widgets
    return Fields(widgets)


def wire(w: TrainWidgets, context: UiContext) -> None:
    """Start, stop, the plan (asked for by our JavaScript when a field has changed), the settings of the last run."""
    on(w.start.click, partial(start, w=w, context=context), w.fields.all, [w.stop], context)
    on(w.stop.click, partial(stop, w=w, context=context), set(), [w.stop], context, quiet=True, queue=False)
    shown = w.fields.all | {w.advice.answers}
    on(w.replan.click, partial(plan, w=w, context=context), shown, [w.plan], context, quiet=True, queue=False)
    again = partial(take_over, w=w, context=context)
    on(w.again.click, again, set(), [w.plan, *w.fields.widgets.values()], context, quiet=True)
    which = "() => [window.loraLab.waiting]"
    on(w.cancel.click, partial(cancel, w=w, context=context), {w.chosen}, [w.card], context, quiet=True, js=which)
    train_files.wire(w.files, w.fields, context)
    advice_part.wire(w.advice, w.fields, w.plan, context)
    symptoms_part.wire(w.symptoms, w.fields, context)
    presets_part.wire(w.presets, w.fields, w.files.told, context)
    measure_part.wire(w.more, w.fields, context)


def read(values: Values, w: TrainWidgets) -> TrainSettings:
    """The settings as the form shows them.

    Raises:
        SettingsError: a value that is none.
    """
    return TrainSettings.from_mapping(w.fields.raw(values))


def show(settings: TrainSettings, w: TrainWidgets) -> Changes:
    """The form as the settings say; the inverse of `read`."""
    return w.fields.show(settings)


def plan(values: Values, w: TrainWidgets, context: UiContext) -> Changes:
    """Steps and time before the start. What is not filled in yet is told in its place, not as a warning."""
    try:
        html = plan_html(read(values, w), context, values.get(w.advice.answers))
    except LoraLabError as error:
        html = tag("p", esc(str(error)), "lora-lab-todo")
    # The mark tells our JavaScript that its question is answered.
    info = context.host.current()
    family = Family.SD1 if info is None else info.family
    return {w.plan: tag("div", html, data_plan=time.monotonic_ns(), data_family=family.value)}


def plan_html(settings: TrainSettings, context: UiContext, answers: dict[str, Any] | None = None) -> str:
    """What the settings come to, and what the guide's rules say of them.

    Raises:
        LoraLabError: they cannot be run like this.
    """
    check(settings)
    if settings.stages.strip():
        parts = (tag("h4", f"Stage {n}") + plan_html(s, context, answers) for n, s in enumerate(expand(settings), 1))
        return "".join(parts)
    report, _ = split(scan_folder(settings, context), settings.seed or 0)
    info = context.host.current()
    family = Family.SD1 if info is None else info.family
    check_blocks(settings, family)
    numbers = make_plan(settings, report.batches_per_epoch, family=family)
    if not numbers.steps_per_epoch:
        return tag("p", "There is no picture to train on: see the panel Dataset.", "lora-lab-todo")
    known = None
    if info is not None:
        known = measured(settings.to_mapping(), info.name, context.host.paths().data_dir / "runs")
    duration = "not measured yet"
    if known is not None:
        duration = f"about {words.duration(numbers.steps * known.seconds_per_step)}"
    cells = [
        ("steps", f"{numbers.steps:,}"),
        ("epochs", f"{numbers.epochs:,} × {numbers.steps_per_epoch:,}"),
        ("snapshots", f"{len(numbers.snapshot_epochs) + 1:,}"),
        ("time", duration),
    ]
    title = f"measured in the run {known.run}" if known else "no run like this one was made yet"
    inner = "".join(tag("div", tag("span", esc(name)) + tag("b", esc(value))) for name, value in cells)
    advice = advice_part.said(settings, report, answers, context)
    of_checkpoint = () if info is None else (info.family, info.prediction_type)
    said = advice_view.unsaid(warnings(settings, *of_checkpoint), advice)
    told = words.bullets((esc(text) for text in said), "lora-lab-notes")
    told += advice_view.findings(advice, advice_part.silenced_count(context))
    told += advice_view.steps(advice_part.numbers(settings, report, numbers))
    read = caption_view.captions(preview(report, settings, numbers, context.host.token_counter()))
    return tag("div", inner, "lora-lab-figures", title=title) + schedule_view.curve(settings, numbers) + told + read


def start(values: Values, w: TrainWidgets, context: UiContext) -> Changes:
    """Start the run, or queue it behind the one that is under way.

    Raises:
        LoraLabError: it cannot be run like this; nothing was started.
    """
    settings = read(values, w)
    context.queue().start(settings, context.host)
    return {w.stop: gr.update(interactive=True)}


def stop(values: Values, w: TrainWidgets, context: UiContext) -> Changes:
    """Stop the run that is under way within one step; it keeps what it has."""
    run = context.queue().current()
    if run is not None:
        run.stop()
    return {w.stop: gr.update(interactive=False)}


def cancel(values: Values, w: TrainWidgets, context: UiContext) -> Changes:
    """Take one run out of the waiting line, or let it come earlier or later; the poll shows the line without it.

    Raises:
        HostBusyError: it does not wait any more.
    """
    act, _, run_id = str(values[w.chosen]).rpartition(" ")
    if act:
        context.queue().move(run_id, -1 if act == "up" else 1)
    else:
        context.queue().cancel(run_id)
    return {}


def take_over(values: Values, w: TrainWidgets, context: UiContext) -> Changes:
    """Put the settings of the run that is shown into the form."""
    run = context.queue().current()
    if run is None:
        return {}
    return show(run.checked.settings, w)


def refresh(view: View, seen: Seen, w: TrainWidgets, context: UiContext) -> tuple[Changes, Seen]:
    """What is new about the run since this window was told of it."""
    status = view.status
    run_id, revision = (status.id, status.revision) if status else ("", 0)
    if (run_id, revision, view.waiting) == (seen.run, seen.revision, seen.waiting):
        return {}, seen
    other = run_id != seen.run
    changes: Changes = {w.card: run_view.card(status, view.waiting)} | _buttons(view, w)
    pictures = len(status.previews) if status else 0
    if other or pictures != seen.pictures:
        changes[w.previews] = gr.update(value=_gallery(status), visible=pictures > 0)
    files = _files(run_id, status, context)
    if other or files != seen.files:
        changes[w.snapshots] = files
    run = context.queue().find(run_id)
    notes = run_view.notes(status, None if run is None else run.checked.settings)
    if other or notes != seen.notes:
        changes[w.notes] = notes
    fresh = replace(
        seen, run=run_id, revision=revision, pictures=pictures, files=files, notes=notes, waiting=view.waiting
    )
    return changes, fresh


def _buttons(view: View, w: TrainWidgets) -> Changes:
    stopping = view.status is not None and view.status.stopping
    return {
        w.start: gr.update(value="Start after this run" if view.active else "Start"),
        w.stop: gr.update(interactive=view.active and not stopping),
        w.again: gr.update(visible=view.status is not None),
        w.more.go_on: gr.update(visible=bool(view.status and view.status.ended and view.status.ended.lora)),
    }


def _gallery(status: RunStatus | None) -> list[tuple[str, str]]:
    """Pictures with step and prompt, the newest step first; one that was deleted meanwhile is left out."""
    made = sorted(status.previews, key=lambda p: -p.step) if status else ()
    return [(str(p.path), f"step {p.step:,}: {p.prompt}") for p in made if p.path.is_file()]


def _files(run_id: str, status: RunStatus | None, context: UiContext) -> str:
    if status is None or not status.snapshots:
        return ""
    run = context.queue().find(run_id)
    trigger = "" if run is None else trigger_of(run.checked.settings)
    lora_dir = context.host.paths().lora_dir
    return run_view.snapshots(status, trigger, lora_dir, in_webui=context.in_webui)
