"""All runs of the data folder: a list, and what can be asked of each, also of one that another program trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import gradio as gr

from lora_lab.errors import SettingsError
from lora_lab.training.record import report, wish
from lora_lab.ui import words
from lora_lab.ui.context import UiContext
from lora_lab.ui.edge import Changes, Values, on
from lora_lab.ui.words import esc, tag
from lora_lab.workflow.run_list import ListedRun, list_runs

MOST = 200
"""Runs shown, the newest."""


@dataclass(frozen=True)
class RunsWidgets:
    """The folded part."""

    refresh: gr.Button
    choice: gr.Dropdown
    pause: gr.Button
    go: gr.Button
    stop: gr.Button
    report: gr.Button
    table: gr.HTML
    text: gr.Textbox


def build() -> RunsWidgets:
    """Layout."""
    with gr.Accordion("All runs", open=False, elem_id="lora_lab_runs"):
        with gr.Row(elem_classes=["lora-lab-actions"]):
            choice = gr.Dropdown(choices=[], label="run", elem_id="lora_lab_runs_choice", scale=4)
            refresh = gr.Button("Look", size="sm", elem_id="lora_lab_runs_refresh")
            pause = gr.Button("Pause", size="sm", elem_id="lora_lab_runs_pause")
            go = gr.Button("Go on", size="sm", elem_id="lora_lab_runs_go")
            stop = gr.Button("Stop and keep", size="sm", elem_id="lora_lab_runs_stop")
            told = gr.Button("Report", size="sm", elem_id="lora_lab_runs_report")
        table = gr.HTML("", elem_id="lora_lab_runs_table")
        text = gr.Textbox(
            "", label="report without your paths, to share", lines=12, max_lines=24, visible=False, interactive=False,
            show_copy_button=True, elem_id="lora_lab_runs_text",
        )  # fmt: skip
    return RunsWidgets(refresh, choice, pause, go, stop, told, table, text)


def wire(w: RunsWidgets, context: UiContext) -> None:
    """Every button looks anew."""
    shown = [w.choice, w.table]
    on(w.refresh.click, partial(look, w=w, context=context), {w.choice}, shown, context, quiet=True)
    asked: tuple[tuple[gr.Button, wish.Wish], ...] = ((w.pause, "pause"), (w.go, "go"), (w.stop, "stop"))
    for button, word in asked:
        ask_it = partial(ask, word=word, w=w, context=context)
        on(button.click, ask_it, {w.choice}, shown, context, quiet=True)
    on(w.report.click, partial(tell, w=w, context=context), {w.choice}, [w.text], context, quiet=True)


def look(values: Values, w: RunsWidgets, context: UiContext) -> Changes:
    """The list as it is now."""
    runs = list(reversed(list_runs(context.host.paths().data_dir / "runs")))[:MOST]
    names = [run.id for run in runs]
    chosen = values[w.choice] if values[w.choice] in names else next(iter(names), None)
    return {w.choice: gr.update(choices=names, value=chosen), w.table: table(runs)}


def ask(values: Values, word: wish.Wish, w: RunsWidgets, context: UiContext) -> Changes:
    """Leave the word for the chosen run.

    Raises:
        SettingsError: none is chosen.
        HostBusyError: it is not under way.
        OutputError: its folder cannot be written to.
    """
    wish.put(wish.folder_named(context.host.paths().data_dir / "runs", _chosen(values, w)), word)
    return look(values, w, context)


def tell(values: Values, w: RunsWidgets, context: UiContext) -> Changes:
    """The report of the chosen run, to copy.

    Raises:
        SettingsError: none is chosen.
    """
    folder = wish.folder_named(context.host.paths().data_dir / "runs", _chosen(values, w))
    return {w.text: gr.update(value=report.text(folder), visible=True)}


def _chosen(values: Values, w: RunsWidgets) -> str:
    run_id = str(values[w.choice] or "")
    if not run_id:
        raise SettingsError("no run is chosen", remedy="press Look, and choose one")
    return run_id


def table(runs: Sequence[ListedRun]) -> str:
    """One row a run."""
    if not runs:
        return tag("p", "No run yet.", "lora-lab-muted")
    head = "".join(tag("th", text) for text in ("run", "state", "steps", "loss", "held out", "time"))
    return tag("table", tag("tr", head) + "".join(map(_row, runs)), "lora-lab-table")


def _row(run: ListedRun) -> str:
    numbers = (run.loss, run.val_loss)
    cells = (
        run.id, run.state, f"{run.step:,} of {run.steps:,}" if run.steps else "",
        *("" if number is None else f"{number:.4f}" for number in numbers),
        "" if run.seconds is None else words.duration(run.seconds),
    )  # fmt: skip
    return tag("tr", "".join(tag("td", esc(cell)) for cell in cells), title=run.error or run.lora or "")
