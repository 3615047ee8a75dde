"""The panel Test: block weights, strengths and snapshots on generated previews."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from lora_lab.errors import LoraLabError
from lora_lab.ui import answers_part, testing_acts, testing_form, testing_presets, testing_view, testing_work
from lora_lab.ui.answers_part import AnswersWidgets
from lora_lab.ui.context import UiContext
from lora_lab.ui.edge import Changes, Values, on
from lora_lab.ui.fields import Fields, hints
from lora_lab.ui.testing_acts import ActWidgets
from lora_lab.ui.testing_form import GridForm
from lora_lab.ui.testing_presets import PresetWidgets
from lora_lab.ui.tips.testing import TIPS
from lora_lab.ui.tools_files import HostFiles
from lora_lab.ui.words import bullets, count, esc, tag

TITLE = "Test"
EMPTY = tag("p", "Choose a LoRA, write prompts with its trigger, and make a grid.", "lora-lab-empty")


@dataclass(frozen=True)
class TestingWidgets:
    """All that handlers read or change."""

    form: GridForm
    presets: PresetWidgets
    refresh: gr.Button
    plan: gr.Button
    make: gr.Button
    stop: gr.Button
    told: gr.HTML
    grid: gr.HTML
    acts: ActWidgets
    answers: AnswersWidgets

    @property
    def watched(self) -> list[Any]:
        """What the poll changes."""
        return [self.told, self.grid, self.stop, *self.answers.shown]


def build(context: UiContext) -> TestingWidgets:
    """Layout: what is asked at the left, pictures at the right; one below the other in a narrow window."""
    with gr.Row(elem_classes=["lora-lab-columns"]):
        with gr.Column(scale=5, min_width=320, elem_id="lora_lab_test_form"):
            form = testing_form.build(context)
            refresh = gr.Button("Read the LoRA folder again", size="sm", elem_id="lora_lab_test_refresh")
            presets = testing_presets.build(context)
        with gr.Column(scale=6, min_width=320, elem_id="lora_lab_test_result"):
            with gr.Row(elem_classes=["lora-lab-actions"]):
                make = gr.Button("Make the grid", variant="primary", elem_id="lora_lab_test_make")
                stop = gr.Button("Stop and keep", interactive=False, elem_id="lora_lab_test_stop")
                plan = gr.Button("How many pictures?", elem_id="lora_lab_test_plan")
            told = gr.HTML("", elem_id="lora_lab_test_told")
            grid = gr.HTML(EMPTY, elem_id="lora_lab_test_grid")
            acts = testing_acts.build()
            answers = answers_part.build(context)
    gr.HTML(hints("test", (), TIPS), elem_classes=["lora-lab-hidden"])
    return TestingWidgets(form, presets, refresh, plan, make, stop, told, grid, acts, answers)


def wire(w: TestingWidgets, tabs: gr.Tabs, train: Fields, context: UiContext) -> None:
    """Plan, make, stop; what is liked goes into a file, or to the fields of Train."""
    testing_form.wire(w.form, context)
    testing_acts.wire(w.acts, tabs, train, context)
    answers_part.wire(w.answers, w.form, tabs, train, context)
    on(w.plan.click, partial(plan, w=w, context=context), w.form.all, [w.told], context, quiet=True)
    on(w.make.click, partial(make, w=w, context=context), w.form.all, [w.told, w.grid, w.stop], context)
    on(w.stop.click, partial(stop, w=w), set(), [w.stop], context, quiet=True, queue=False)
    read = partial(reread, w=w, context=context)
    lists = [w.form.lora, w.form.others, w.answers.checkpoints]
    on(w.refresh.click, read, set(lists), lists, context, quiet=True)
    testing_presets.wire(w.presets, w.form, context)


def plan(values: Values, w: TestingWidgets, context: UiContext) -> Changes:
    """What would be made.

    Raises:
        LoraLabError: what is wrong with the form.
    """
    found = testing_form.plan_of(values, w.form, context)
    columns = len(found.columns)
    said = f"{count(len(found.rows), 'row')} by {count(columns, 'column')}, and {count(columns, 'base picture')}: "
    said += f"{count(len(found.cells), 'picture')}. The time is told after the first one."
    return {w.told: tag("p", esc(said), "lora-lab-muted")}


def make(values: Values, w: TestingWidgets, context: UiContext) -> Changes:
    """Begin; the base picture comes first.

    Raises:
        LoraLabError: what is wrong with the form, or a grid is being made.
    """
    watch = testing_work.begin(testing_form.plan_of(values, w.form, context), context.host)
    return {
        w.told: tag("p", "The base picture comes first.", "lora-lab-muted"),
        w.grid: testing_view.grid(watch.plan, {}), w.stop: gr.update(interactive=True),
    }  # fmt: skip


def stop(values: Values, w: TestingWidgets) -> Changes:
    """Stop at the next call of the UNet; what is done is kept."""
    now = testing_work.latest()
    if now is not None:
        now[0].stop()
    return {w.stop: gr.update(interactive=False)}


def reread(values: Values, w: TestingWidgets, context: UiContext) -> Changes:
    """The lists of LoRAs as they are on the disk now, and of checkpoints as the host has them."""
    names, checkpoints = HostFiles(context).loras(), list(context.host.checkpoints())
    kept = [name for name in values[w.form.others] or [] if name in names]
    return {
        w.form.lora: gr.update(choices=names), w.form.others: gr.update(choices=names, value=kept),
        w.answers.checkpoints: gr.update(choices=checkpoints),
    }  # fmt: skip


def refresh(w: TestingWidgets, known: str) -> tuple[Changes, str]:
    """What is new of a grid, for the tab's poll.

    Args:
        w: the widgets.
        known: what the window shows, from the last call.
    """
    now = testing_work.latest()
    if now is None:
        return {}, known
    task, watch = now
    status = task.status()
    mark = f"{task.id} {status.state} {watch.revision}"
    if mark == known:
        return {}, known
    cells = watch.cells
    w.form.prompts.temp_files.update(str(shown.path) for shown in cells.values())
    said = bullets((esc(text) for text in watch.told), "lora-lab-notes")
    if status.error is not None:
        said += tag("p", esc(_told(status.error)), "lora-lab-error")
    elif not status.active:
        stopped = watch.result is not None and watch.result.stopped
        word = "Stopped; 'Make the grid' goes on where it was." if stopped else "Done."
        said += tag("p", word, "lora-lab-muted" if stopped else "lora-lab-good")
    grid = testing_view.grid(watch.plan, cells)
    return {w.told: said, w.grid: grid, w.stop: gr.update(interactive=status.active)}, mark


def _told(error: LoraLabError) -> str:
    return str(error)
