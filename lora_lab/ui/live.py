"""The line above all panels: checkpoint, clip skip, dataset, the running job, Interrupt; and the tab's one poll."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr

from lora_lab.host.base import CheckpointInfo
from lora_lab.training.status import RunStatus
from lora_lab.ui import run_view, words
from lora_lab.ui.context import UiContext
from lora_lab.ui.edge import Changes, Values, on
from lora_lab.ui.words import esc, own, tag
from lora_lab.workflow.tasks import TaskStatus, tasks

FAMILIES = {"sd1": "SD1", "sd2": "SD2", "sdxl": "SDXL"}


@dataclass(frozen=True)
class Seen:
    """What a browser window shows already, so that a poll sends only what is new. Fresh after a reload."""

    beat: int = 0
    run: str = ""
    revision: int = -1
    line: str = ""
    pictures: int = -1
    files: str = ""
    notes: str = ""
    active: bool | None = None
    tagged: str = ""
    checked: str = ""
    made: str = ""
    pictures_done: str = ""
    described: str = ""
    gachamax: str = ""
    grid: str = ""
    scored: str = ""
    answer: str = ""
    sweep: str = ""
    unfinished: str = ""
    tools: tuple[str, str, str] = ("", "", "")
    waiting: tuple[run_view.Waiting, ...] = ()


@dataclass(frozen=True)
class View:
    """What there is to show now."""

    status: RunStatus | None
    waiting: tuple[run_view.Waiting, ...]
    """The runs that wait for their turn, the next one first."""
    listed: int
    """How many runs have ended and left a LoRA: when this grows, the webui's cards are out of date."""
    checkpoint: CheckpointInfo | None
    clip_skip: int
    tasks: tuple[TaskStatus, ...] = ()
    """Long work beside training that is under way."""
    ended: tuple[tuple[str, str], ...] = ()
    """Name and state of the runs that have ended."""

    @property
    def training(self) -> bool:
        """Is a run under way?"""
        return self.status is not None and self.status.active

    @property
    def active(self) -> bool:
        """Is anything under way?"""
        return self.training or bool(self.tasks)

    @property
    def stoppable(self) -> bool:
        """Is there something that was not asked to stop yet? Interrupt takes the run first, then the tasks."""
        if self.training and self.status is not None:
            return not self.status.stopping
        return any(not task.stopping for task in self.tasks)


@dataclass(frozen=True)
class LiveWidgets:
    """The line and what the poll needs."""

    line: gr.HTML
    interrupt: gr.Button
    poll: gr.Button
    pulse: gr.HTML
    seen: gr.State


def look(context: UiContext) -> View:
    """Ask the queue and the host."""
    queue = context.queue()
    current = queue.current()
    waiting = [run for run in queue.waiting() if current is not None and run.id != current.id]
    ended = [run.status() for run in queue.runs() if not run.status().active]
    return View(
        status=None if current is None else current.status(),
        waiting=tuple(run_view.waits(run) for run in waiting),
        listed=sum(bool(status.snapshots) for status in ended),
        checkpoint=context.host.current(),
        clip_skip=context.host.default_clip_skip(),
        tasks=tasks().active(),
        ended=tuple((status.name, status.state) for status in ended),
    )


def build(context: UiContext) -> LiveWidgets:
    """Layout."""
    with gr.Row(elem_id="lora_lab_live", elem_classes=["lora-lab-live-row"]):
        line = gr.HTML(line_html(look(context), ""), elem_id="lora_lab_live_line")
        interrupt = gr.Button("Interrupt", elem_id="lora_lab_live_interrupt", interactive=False, scale=0, min_width=110)
    poll = gr.Button("poll", elem_id="lora_lab_live_poll", elem_classes=["lora-lab-hidden"])
    pulse = gr.HTML("", elem_id="lora_lab_live_pulse", elem_classes=["lora-lab-hidden"])
    return LiveWidgets(line, interrupt, poll, pulse, gr.State(Seen()))


def wire(w: LiveWidgets, context: UiContext) -> None:
    """Interrupt; the poll itself is wired by the tab, since it is every panel's."""
    # Past gradio's queue, which answers late while a training keeps the machine busy.
    on(w.interrupt.click, Interrupt(w, context), set(), [w.line, w.interrupt], context, quiet=True, queue=False)


@dataclass(frozen=True)
class Interrupt:
    """Stop the run that is under way and keep what it has; without one, stop what else is."""

    w: LiveWidgets
    context: UiContext

    def __call__(self, values: Values) -> Changes:
        run = self.context.queue().current()
        if run is not None and run.status().active:
            run.stop()
        else:
            tasks().stop_all()
        return {self.w.interrupt: gr.update(interactive=False)}


def refresh(view: View, seen: Seen, dataset: str, w: LiveWidgets) -> tuple[Changes, Seen]:
    """What of the line is new."""
    changes: Changes = {}
    line = line_html(view, dataset)
    active = view.stoppable
    if line != seen.line:
        changes[w.line] = line
    if active != seen.active:
        changes[w.interrupt] = gr.update(interactive=active)
    return changes, replace(seen, line=line, active=active)


def pulse(beat: int, view: View) -> str:
    """Tells our JavaScript that the answer has come, whether to ask again soon, and whether there are new LoRAs."""
    name, state = view.ended[-1] if view.ended else ("", "")
    return tag(
        "span", "", data_beat=beat, data_active="1" if view.active else "0", data_listed=view.listed,
        data_ended=len(view.ended), data_name=name, data_state=state, data_left=len(view.waiting) + view.training,
    )  # fmt: skip


def line_html(view: View, dataset: str) -> str:
    """The live line.

    Args:
        view: what there is.
        dataset: folder chosen in this window; may be empty.
    """
    items = [_checkpoint(view.checkpoint), _item("clip skip", str(view.clip_skip))]
    name = Path(dataset.strip().strip('"')).name if dataset.strip() else ""
    items.append(_item("dataset", name or "none chosen", title=dataset))
    jobs = "" if view.tasks and not view.training else _job(view.status, view.waiting)
    return tag("div", "".join(items) + jobs + "".join(map(_task, view.tasks)), "lora-lab-live")


def _checkpoint(info: CheckpointInfo | None) -> str:
    if info is None:
        return _item("checkpoint", "none loaded")
    return _item("checkpoint", info.name, title=str(info.path or ""), badge=FAMILIES[info.family.value])


def _item(label: str, value: str, *, title: str = "", badge: str = "") -> str:
    shown = own("b", value) + (tag("em", esc(badge)) if badge else "")
    return tag("span", tag("span", esc(label)) + shown, "lora-lab-item", title=title)


def _job(status: RunStatus | None, waiting: tuple[run_view.Waiting, ...]) -> str:
    if status is None:
        return _item("run", "none")
    text = words.listed([*run_view.progress(status), *([f"{len(waiting)} waiting"] if waiting else [])])
    bar = words.bar(status.share, label="progress of the run") if status.active else ""
    inner = tag("span", esc("run")) + own("b", status.name) + tag("span", text) + bar
    return tag("span", inner, "lora-lab-item lora-lab-job")


def _task(task: TaskStatus) -> str:
    left = f", {words.duration(task.seconds_left)} left" if task.seconds_left else ""
    text = "stopping" if task.stopping else f"{task.done:,} of {task.total:,}{left}" if task.total else task.stage
    bar = words.bar(task.share, label=f"progress of {task.title}")
    return tag("span", tag("b", esc(task.title)) + tag("span", esc(text)) + bar, "lora-lab-item lora-lab-job")


def connect_poll(handler: Any, w: LiveWidgets, inputs: set[Any], outputs: list[Any], context: UiContext) -> None:  # noqa: ANN401
    """The one poll of the tab: our JavaScript clicks the hidden button while the tab is shown."""
    on(w.poll.click, handler, {w.seen, *inputs}, [w.seen, w.pulse, *outputs], context, quiet=True, queue=False)
