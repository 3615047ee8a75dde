"""The panel Tools: surgery on files, each tool with a look at what it will do before it does it, and a library."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from lora_lab.ui import inspect_part, library_part, tools_forms, tools_view
from lora_lab.ui.context import UiContext
from lora_lab.ui.edge import Changes, Values, on
from lora_lab.ui.ended import ended
from lora_lab.ui.fields import hints
from lora_lab.ui.tips.tools import TIPS
from lora_lab.ui.tools_files import HostFiles
from lora_lab.ui.tools_forms import TOOLS, FormWidgets
from lora_lab.ui.tools_work import Done, Given, Run, work_of
from lora_lab.ui.words import tag
from lora_lab.workflow.tasks import Task, tasks

TITLE = "Tools"
KIND = "tools"
SIGN = ": "
"""Between the tool's title and what is done, in the task's title."""
HINT = tag(
    "p",
    "Files in, files out: needs no GPU and leaves the loaded model alone. Nothing is overwritten without its tick.",
    "lora-lab-empty",
)


@dataclass(frozen=True)
class ToolsWidgets:
    """All that handlers read or change."""

    refresh: gr.Button
    forms: tuple[FormWidgets, ...]
    inspect: inspect_part.InspectWidgets
    library: library_part.LibraryWidgets
    stop: gr.Button

    @property
    def watched(self) -> list[Any]:
        """What the poll may change."""
        return [*(form.told for form in self.forms), self.stop, self.inspect.report, self.library.found]

    @property
    def files(self) -> dict[Any, str]:
        """Everything that offers files, and of which kind."""
        found: dict[Any, str] = {
            self.inspect.lora: "lora", self.inspect.other: "lora", self.inspect.base: "checkpoint",
        }  # fmt: skip
        for form in self.forms:
            found |= form.files
        return found


def build(context: UiContext) -> ToolsWidgets:
    """Layout."""
    files = HostFiles(context)
    loras, checkpoints = files.loras(), files.checkpoints()
    with gr.Row(elem_classes=["lora-lab-row"]):
        gr.HTML(HINT)
        refresh_ = gr.Button("Refresh lists", size="sm", scale=0, min_width=120, elem_id="lora_lab_tools_refresh")
    forms = []
    with gr.Tabs(elem_id="lora_lab_tools_tabs"):
        for tool in TOOLS:
            with gr.Tab(tool.title, id=tool.name, elem_id=f"lora_lab_tools_{tool.name}"):
                forms.append(tools_forms.build(tool, loras, checkpoints))
        with gr.Tab("Inspect", id="inspect", elem_id="lora_lab_tools_inspect"):
            inspect = inspect_part.build(loras, checkpoints)
        with gr.Tab("Library", id="library", elem_id="lora_lab_tools_library"):
            library = library_part.build()
    stop = gr.Button("Stop", visible=False, elem_id="lora_lab_tools_stop")
    gr.HTML(hints("tools", (), TIPS), elem_classes=["lora-lab-hidden"])
    return ToolsWidgets(refresh_, tuple(forms), inspect, library, stop)


def wire(w: ToolsWidgets, context: UiContext) -> None:
    """Each tool's two buttons, its list of LoRAs, the lists, stop."""
    for form in w.forms:
        for button, dry in ((form.look, True), (form.go, False)):
            handler = partial(begin, w=w, form=form, dry=dry, context=context)
            on(button.click, handler, form.all, [form.told, w.stop], context, quiet=True)
        for name, pick in form.picks.items():
            box = form.asks[name]
            on(pick.change, partial(picked, pick=pick, box=box), {pick, box}, [box, pick], context, quiet=True)
    on(w.refresh.click, partial(lists, w=w, context=context), set(), list(w.files), context, quiet=True)
    on(w.stop.click, partial(stop, w=w), set(), [w.stop], context, quiet=True, queue=False)
    inspect_part.wire(w.inspect, context)
    library_part.wire(w.library, context)


def begin(values: Values, w: ToolsWidgets, form: FormWidgets, dry: bool, context: UiContext) -> Changes:
    """Begin a tool's work, or its dry run.

    Raises:
        LoraLabError: a value or a file is wrong, or a tool is at work.
    """
    given = Given(
        form.tool, {name: values[widget] for name, widget in form.asks.items()}, str(values[form.out] or ""),
        bool(values[form.force]), dry, HostFiles(context),
    )  # fmt: skip
    title = f"{form.tool.title}{SIGN}{'looking' if dry else 'at work'}"
    tasks().start(KIND, title, Run(given, work_of(given)))
    return {form.told: tag("p", "begins …"), w.stop: gr.update(visible=True, interactive=True)}


def picked(values: Values, pick: gr.Dropdown, box: gr.Textbox) -> Changes:
    """A LoRA from the list as another line."""
    name = str(values[pick] or "").strip()
    if not name:
        return {}
    lines = [line for line in str(values[box] or "").splitlines() if line.strip()]
    return {box: "\n".join([*lines, f"{name}:1"]), pick: gr.update(value=None)}


def lists(values: Values, w: ToolsWidgets, context: UiContext) -> Changes:
    """The files that are there now."""
    files = HostFiles(context)
    offered = {"lora": files.loras(), "checkpoint": files.checkpoints()}
    return {widget: gr.update(choices=offered[kind]) for widget, kind in w.files.items()}


def stop(values: Values, w: ToolsWidgets) -> Changes:
    """Ask the work to stop; nothing half-written stays."""
    task = tasks().latest(KIND)
    if task is not None:
        task.stop()
    return {w.stop: gr.update(interactive=False)}


Seen = tuple[str, str, str]
"""The results that a window shows: of a tool, of Inspect, of the library."""


def refresh(w: ToolsWidgets, seen: Seen) -> tuple[Changes, Seen]:
    """Progress and results, for the tab's poll."""
    known = seen[0]
    changes, inspected = inspect_part.refresh(w.inspect, seen[1])
    found, library = library_part.refresh(w.library, seen[2])
    changes |= found
    task = tasks().latest(KIND)
    if task is not None and (status := task.status()).active:
        changes |= {form_of(w, task).told: tools_view.progress(status), w.stop: gr.update(visible=True)}
    end = ended(KIND, known, "Stopped. Nothing is written.")
    if end is not None:
        form = form_of(w, end.task)
        changes |= {form.told: end.told or result(form, end.task.result), w.stop: gr.update(visible=False)}
    return changes, (known if end is None else end.mark, inspected, library)


def form_of(w: ToolsWidgets, task: Task) -> FormWidgets:
    """The form that a task was begun from."""
    title = task.title.partition(SIGN)[0]
    return next(form for form in w.forms if form.tool.title == title)


def result(form: FormWidgets, found: Done) -> str:
    """What came of it; gradio serves under file= what its components have let in."""
    made: list[Path] = [outcome.out for outcome in found.outcomes if outcome.out is not None]
    form.told.temp_files.update(str(path) for path in made)
    return tools_view.done(found)
