"""Beside the plan: what a run would need, measured by a few steps, and going on with a finished LoRA."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from lora_lab.errors import HostBusyError
from lora_lab.training.prepare import check_start
from lora_lab.training.settings import TrainSettings
from lora_lab.training.settings.stages import expand
from lora_lab.training.start_files import following
from lora_lab.ui import words
from lora_lab.ui.context import UiContext
from lora_lab.ui.edge import Changes, Values, on
from lora_lab.ui.fields import Fields
from lora_lab.ui.words import esc, tag


@dataclass(frozen=True)
class MeasureWidgets:
    """The buttons and what was found."""

    measure: gr.Button
    found: gr.HTML
    go_on: gr.Button
    """Shown by the poll when the run in sight has left a LoRA."""


def build_measure() -> tuple[gr.Button, gr.HTML]:
    """Layout, below the plan."""
    button = gr.Button("Measure memory and time", size="sm", elem_id="lora_lab_train_measure")
    return button, gr.HTML("", elem_id="lora_lab_train_measured")


def build_go_on() -> gr.Button:
    """Layout, below the run."""
    return gr.Button("Continue from its LoRA", elem_id="lora_lab_train_continue", visible=False, size="sm")


def wire(w: MeasureWidgets, fields: Fields, context: UiContext) -> None:
    """Measuring holds the live model for a few steps; the page shows that it works."""
    read = fields.raw
    on(w.measure.click, partial(measure, w=w, raw=read, context=context), fields.all, [w.found], context)
    shown = list(fields.widgets.values())
    on(w.go_on.click, partial(go_on, fields=fields, context=context), set(), shown, context, quiet=True)


def measure(values: Values, w: MeasureWidgets, raw: Callable[[Values], dict[str, Any]], context: UiContext) -> Changes:
    """Do a few steps with the form's settings and say what they took; of several stages the first.

    Raises:
        LoraLabError: it cannot be run like this, or a run is under way.
    """
    from lora_lab.training.memory import dry_run

    settings = TrainSettings.from_mapping(raw(values))
    first = expand(settings)[0] if settings.stages.strip() else settings
    run = context.queue().current()
    dry_run.check_free(run is not None and run.status().active)
    found = dry_run.measure(check_start(first, context.host, writes=False), context.host)
    memory = found.memory_words[:1].upper() + found.memory_words[1:]
    seconds = f"about {words.speed(found.seconds_per_step)}, {words.duration(found.seconds)} in all"
    text = f"{memory}; {seconds}."
    style = "lora-lab-muted" if found.fits else "lora-lab-error"
    return {w.found: tag("p", esc(text), style, data_measured=time.monotonic_ns())}


def go_on(values: Values, fields: Fields, context: UiContext) -> Changes:
    """Put the settings of the run in sight into the form, to start from the LoRA that it made.

    Raises:
        HostBusyError: it has not made one.
    """
    run = context.queue().current()
    ended = None if run is None else run.status().ended
    if run is None or ended is None or ended.lora is None:
        raise HostBusyError("this run has made no LoRA so far", remedy="wait until it has ended")
    settings = run.checked.settings.replace(
        network_weights=str(ended.lora), dim_from_weights=True, output_name=following(run.checked.settings.output_name)
    )
    return fields.show(settings)
