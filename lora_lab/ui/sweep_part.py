"""A sweep, a part of the Train panel: the form's settings with some varied, a run for each, compared at the end.

The runs themselves are the queue's, so the card above shows the one under way; here stand the table and the pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from lora_lab.errors import Interrupted, SettingsError
from lora_lab.training.events import Event
from lora_lab.ui import train_panel
from lora_lab.ui.context import UiContext
from lora_lab.ui.edge import Changes, Values, on
from lora_lab.ui.tags_view import url
from lora_lab.ui.train_panel import TrainWidgets
from lora_lab.ui.words import count, esc, tag, void
from lora_lab.workflow import sweep_plan
from lora_lab.workflow.sweep import Outcome, Sweep, look_of, read, run_all
from lora_lab.workflow.sweep_page import GRID, to_html, write_all
from lora_lab.workflow.sweep_plan import Combination
from lora_lab.workflow.tasks import Task, tasks

KIND = "sweep"
MODES = {"every value with every other": "grid", "first with first, second with second": "zip"}
HINT = tag(
    "p",
    "Runs with the settings above, some of them varied: a run for each combination, then one table, and a picture of "
    "each LoRA in one grid. The prompts are those of the previews.",
    "lora-lab-empty",
)
HOW = (
    "a setting on each line: network_dim=8,16,32, or a range of three values unet_lr=1e-4..5e-4/3, "
    "or evenly by factors unet_lr=1e-5..1e-3/3log"
)


@dataclass(frozen=True)
class SweepWidgets:
    """All that handlers read or change."""

    over: gr.Textbox
    mode: gr.Radio
    counted: gr.HTML
    start: gr.Button
    stop: gr.Button
    told: gr.HTML
    table: gr.HTML
    grid: gr.HTML

    @property
    def form(self) -> set[Any]:
        """What is filled in."""
        return {self.over, self.mode}

    @property
    def watched(self) -> list[Any]:
        """What the poll changes."""
        return [self.stop, self.told, self.table, self.grid]


def build() -> SweepWidgets:
    """Layout."""
    with gr.Accordion("Sweep: try several values", open=False, elem_id="lora_lab_sweep"):
        gr.HTML(HINT)
        over = gr.Textbox("", lines=3, label="what varies", info=HOW, elem_id="lora_lab_sweep_over")
        modes = list(MODES)
        mode = gr.Radio(modes, value=modes[0], label="combined", elem_id="lora_lab_sweep_mode")
        counted = gr.HTML("", elem_id="lora_lab_sweep_counted")
        with gr.Row(elem_classes=["lora-lab-actions"]):
            start = gr.Button("Start the sweep", variant="primary", elem_id="lora_lab_sweep_start")
            stop = gr.Button("Stop the sweep", interactive=False, elem_id="lora_lab_sweep_stop")
        told = gr.HTML("", elem_id="lora_lab_sweep_told")
        table = gr.HTML("", elem_id="lora_lab_sweep_table")
        grid = gr.HTML("", elem_id="lora_lab_sweep_grid")
    return SweepWidgets(over, mode, counted, start, stop, told, table, grid)


def wire(w: SweepWidgets, train: TrainWidgets, context: UiContext) -> None:
    """The number of runs while it is typed; start; stop."""
    inputs = {*w.form, *train.fields.all}
    for box in (w.over, w.mode):
        said = partial(say_count, w=w, train=train)
        on(box.change, said, inputs, [w.counted], context, quiet=True)
    on(w.start.click, partial(start, w=w, train=train, context=context), inputs, [w.counted, *w.watched], context)
    on(w.stop.click, partial(stop, w=w), set(), [w.stop], context, quiet=True, queue=False)


def combinations(values: Values, w: SweepWidgets, train: TrainWidgets) -> list[Combination]:
    """The runs that the form means.

    Raises:
        SettingsError: a value that makes no sense, nothing that varies, or too many runs.
    """
    lines = [line for line in str(values[w.over] or "").splitlines() if line.strip()]
    if not lines:
        raise SettingsError("nothing is to vary", remedy="write a line such as network_dim=8,16,32")
    base = train_panel.read(values, train)
    if base.stages.strip():
        raise SettingsError("a run of several stages cannot be varied", remedy="leave stages empty for a sweep")
    mode: sweep_plan.Mode = "zip" if MODES.get(values[w.mode]) == "zip" else "grid"
    return sweep_plan.combine(base, [sweep_plan.parse_axis(line) for line in lines], mode)


def say_count(values: Values, w: SweepWidgets, train: TrainWidgets) -> Changes:
    """How many runs it would be, or what is wrong, in its place and not as a warning: it is still being typed."""
    if not str(values[w.over] or "").strip():
        return {w.counted: ""}
    try:
        runs = combinations(values, w, train)
    except SettingsError as error:
        return {w.counted: tag("p", esc(str(error)), "lora-lab-todo")}
    said = f"{count(len(runs), 'run')}, from {runs[0].words} to {runs[-1].words}." if runs[1:] else "1 run."
    return {w.counted: tag("p", esc(said), "lora-lab-muted")}


def start(values: Values, w: SweepWidgets, train: TrainWidgets, context: UiContext) -> Changes:
    """Look at every run, then begin; what an earlier start of the same sweep has done is not done again.

    Raises:
        LoraLabError: one of the runs cannot be run (which one it is), or a sweep is under way.
    """
    runs = combinations(values, w, train)
    base = train_panel.read(values, train)
    if not base.output_name.strip():
        raise SettingsError("the sweep has no name", remedy="give output_name")
    host = context.host
    folder = host.paths().data_dir / "sweeps" / base.output_name
    sweep = Sweep(tuple(runs), folder, look_of(base, host))
    sweep.check(host)
    done = sum(run.mark in sweep.known() for run in runs)
    tasks().start(KIND, f"Sweep {base.output_name}", partial(_work, sweep, context), about=sweep)
    said = f"{count(len(runs), 'run')}" + (f", {done} of them done already" if done else "") + "."
    return {
        w.counted: tag("p", esc(said), "lora-lab-muted"), w.stop: gr.update(interactive=True), w.told: "",
        w.table: _table(sweep, active=True), w.grid: "",
    }  # fmt: skip


def _work(sweep: Sweep, context: UiContext, task: Task) -> dict[str, str]:
    """All runs; the table and the grid are written however it ends."""
    total = len(sweep.runs)

    def told(number: int, event: Event | None) -> None:
        if not task.stopping:  # `progress` would raise in the run's own thread; `run_all` asks by itself
            task.progress(sweep.runs[number].words, number + (event is None), total)

    try:
        run_all(sweep, context.host, told, lambda: task.stopping)
    except Interrupted:
        _written(sweep)
        raise
    return _written(sweep)


def _written(sweep: Sweep) -> dict[str, str]:
    found = read(sweep.folder)
    return write_all(sweep, found) if found else {}


def stop(values: Values, w: SweepWidgets) -> Changes:
    """Ask it to stop; the run under way keeps what it has learnt."""
    task = tasks().latest(KIND)
    if task is not None:
        task.stop()
    return {w.stop: gr.update(interactive=False)}


def refresh(w: SweepWidgets, known: str) -> tuple[Changes, str]:
    """How far it is, for the tab's poll.

    Args:
        w: the widgets.
        known: what the window shows, from the last call.
    """
    task = tasks().latest(KIND)
    if task is None:
        return {}, known
    status = task.status()
    mark = f"{status.id} {status.state} {status.stage} {status.done} {status.stopping}"
    if mark == known:
        return {}, known
    sweep: Sweep = task.about
    said = ""
    if status.error is not None:
        said = tag("p", esc(str(status.error)), "lora-lab-error")
    elif status.state == "stopped":
        said = tag("p", "Stopped. Start it again to go on with the rest.", "lora-lab-muted")
    elif status.state == "done":
        said = tag("p", esc(f"All runs are done. Table, grid and page: {sweep.folder}"), "lora-lab-good")
    changes: Changes = {
        w.stop: gr.update(interactive=status.active and not status.stopping), w.told: said,
        w.table: _table(sweep, active=status.active), w.grid: "" if status.active else _grid(sweep, w),
    }  # fmt: skip
    return changes, mark


def _table(sweep: Sweep, *, active: bool) -> str:
    """A line for each run, also for those that are still to come."""
    found = {outcome.mark: outcome for outcome in read(sweep.folder)}
    lines, next_one = [], active
    for run in sweep.runs:
        outcome = found.get(run.mark)
        if outcome is None or (active and not outcome.done and outcome.state == "stopped"):
            outcome = Outcome(run.name, run.mark, run.changes, "under way" if next_one else "to come")
            next_one = False
        lines.append(outcome)
    return tag("div", to_html(lines), "lora-lab-scroll")


def _grid(sweep: Sweep, w: SweepWidgets) -> str:
    path = sweep.folder / GRID
    try:
        written = path.stat().st_mtime_ns
    except OSError:
        return ""
    w.over.temp_files.add(str(path))  # so that gradio serves it
    # With its time, or the browser would show the picture that an earlier start has left under this name.
    return void("img", "lora-lab-sheet", src=f"{url(str(path))}?{written}", alt="a row of pictures for each run")
