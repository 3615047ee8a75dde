"""What happens when runs end: a sound and a notification, and a command of the person's when nothing waits any more."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial

import gradio as gr

from lora_lab.errors import SettingsError
from lora_lab.training.afterwards import Afterwards, AtTheEnd
from lora_lab.ui.context import UiContext
from lora_lab.ui.edge import Changes, Values, on
from lora_lab.ui.words import esc, tag

LOG = logging.getLogger("lora_lab")

SWITCH = (
    '<label class="lora-lab-line"><input type="checkbox"> <span>Sound and notification in this '
    "browser when a run has ended</span></label>"
)


@dataclass(frozen=True)
class EndWidgets:
    """The folded part."""

    command: gr.Textbox
    on: gr.Checkbox
    keep: gr.Button
    told: gr.HTML


def afterwards(context: UiContext) -> Afterwards:
    """The command's file; and the queue will look at it when the last run has ended."""
    return Afterwards(context.host.paths().data_dir, LOG.warning)


def build(context: UiContext) -> EndWidgets:
    """Layout. On a page that is open to a network the command is shown and cannot be changed."""
    after = afterwards(context)
    now, open_to_others = after.read(), context.open_to_others
    with gr.Accordion("When runs end", open=False, elem_id="lora_lab_end"):
        gr.HTML(SWITCH, elem_id="lora_lab_end_tell")
        command = gr.Textbox(
            now.command, label="Command when the last run has ended (a program and its words, no shell)",
            interactive=not open_to_others, elem_id="lora_lab_end_command",
        )  # fmt: skip
        armed = gr.Checkbox(
            now.on, label="Run it, once", interactive=not open_to_others, elem_id="lora_lab_end_on",
        )  # fmt: skip
        keep = gr.Button("Keep", size="sm", interactive=not open_to_others, elem_id="lora_lab_end_keep")
        note = ""
        if open_to_others:
            text = f"This page is open to a network: the command is set in {after.path} on the machine itself."
            note = tag("p", esc(text), "lora-lab-muted lora-lab-small")
        told = gr.HTML(note, elem_id="lora_lab_end_told")
    return EndWidgets(command, armed, keep, told)


def wire(w: EndWidgets, context: UiContext) -> None:
    """The button; and the queue."""
    context.queue().when_empty(afterwards(context))
    on(w.keep.click, partial(keep, w=w, context=context), {w.command, w.on}, [w.told], context, quiet=True)


def keep(values: Values, w: EndWidgets, context: UiContext) -> Changes:
    """Write what was typed to the file.

    Raises:
        SettingsError: the page is open to a network, or it is no command.
        OutputError: the file cannot be written.
    """
    after = afterwards(context)
    if context.open_to_others:
        what = "a page that is open to a network runs no command"
        raise SettingsError(what, remedy=f"write it into {after.path} on the machine itself")
    wanted = AtTheEnd(str(values[w.command] or "").strip(), bool(values[w.on]))
    after.write(wanted)
    text = "It is run once, when the last run has ended by itself." if wanted.on else "Nothing is run."
    return {w.told: tag("p", esc(text), "lora-lab-muted lora-lab-small")}
