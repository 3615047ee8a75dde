"""Runs that were broken off by a crash or by hand: a line above Train that goes on with one, or forgets it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from lora_lab.training.record.unfinished import Unfinished, find, forget, unfinished
from lora_lab.ui.context import UiContext
from lora_lab.ui.edge import Changes, Values, on
from lora_lab.ui.words import esc, tag

EVERY = 5
"""Polls between two looks at the folders of the runs."""


@dataclass(frozen=True)
class UnfinishedWidgets:
    """The line; hidden while there is nothing to go on with."""

    group: gr.Column
    told: gr.HTML
    choice: gr.Dropdown
    resume: gr.Button
    forget: gr.Button

    @property
    def watched(self) -> list[Any]:
        """What the poll changes."""
        return [self.group, self.told, self.choice]


def build() -> UnfinishedWidgets:
    """Layout."""
    with gr.Column(visible=False, elem_id="lora_lab_unfinished", elem_classes=["lora-lab-unfinished"]) as group:
        told = gr.HTML("", elem_id="lora_lab_unfinished_told")
        with gr.Row(elem_classes=["lora-lab-actions"]):
            choice = gr.Dropdown(choices=[], label="broken-off run", elem_id="lora_lab_unfinished_run", scale=3)
            resume = gr.Button("Go on with it", variant="primary", size="sm", elem_id="lora_lab_unfinished_resume")
            drop = gr.Button("Forget it", size="sm", elem_id="lora_lab_unfinished_forget")
    return UnfinishedWidgets(group, told, choice, resume, drop)


def wire(w: UnfinishedWidgets, context: UiContext) -> None:
    """Both buttons take the line up to date at once."""
    on(w.resume.click, partial(resume, w=w, context=context), {w.choice}, w.watched, context)
    on(w.forget.click, partial(forget_it, w=w, context=context), {w.choice}, w.watched, context)


def resume(values: Values, w: UnfinishedWidgets, context: UiContext) -> Changes:
    """Go on with the chosen run; it waits behind the one under way.

    Raises:
        LoraLabError: it cannot go on, and why.
    """
    context.queue().resume(id_of(values[w.choice]), context.host)
    return show(w, context)


def forget_it(values: Values, w: UnfinishedWidgets, context: UiContext) -> Changes:
    """Take away the state of the chosen run; its folder, snapshots and pictures stay.

    Raises:
        LoraLabError: there is no such run.
    """
    forget(find(context.host.paths().data_dir, id_of(values[w.choice])))
    return show(w, context)


def show(w: UnfinishedWidgets, context: UiContext) -> Changes:
    """The line as it should be now."""
    runs = unfinished(context.host.paths().data_dir)
    if not runs:
        return {w.group: gr.update(visible=False)}
    choices = [choice_of(run) for run in runs]
    count = "A run was" if len(runs) == 1 else f"{len(runs)} runs were"
    told = tag("p", esc(f"{count} broken off and can go on where it stood: {label(runs[0])}."), "lora-lab-small")
    return {
        w.group: gr.update(visible=True),
        w.told: told,
        w.choice: gr.update(choices=choices, value=choices[0]),
    }


def choice_of(run: Unfinished) -> str:
    """A run in the list; gradio's has texts alone."""
    return f"{run.id}: step {run.standing.step:,} of {run.standing.steps:,}"


def id_of(choice: object) -> str:
    """The inverse of `choice_of`; a run's name holds no colon."""
    return str(choice or "").partition(": ")[0]


def label(run: Unfinished) -> str:
    """Name, progress and date of a run."""
    stood = run.standing
    day = time.strftime("%Y-%m-%d %H:%M", time.localtime(stood.started_at))
    return f"{run.name}, step {stood.step:,} of {stood.steps:,}, begun {day}"


def refresh(beat: int, active: bool, seen: str, w: UnfinishedWidgets, context: UiContext) -> tuple[Changes, str]:
    """What of the line is new.

    Args:
        beat: number of the poll.
        active: is a run under way?
        seen: what this window was told last.
        w: the widgets.
        context: for the data folder.
    """
    if seen and beat % EVERY and seen.startswith(f"{active} "):
        return {}, seen
    key = f"{active} " + " ".join(f"{r.id}:{r.standing.step}" for r in unfinished(context.host.paths().data_dir))
    return ({}, key) if key == seen else (show(w, context), key)
