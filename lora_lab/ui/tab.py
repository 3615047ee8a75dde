"""The tab: the live line, then the panels in the order of the work. The only file that knows all panels.

A new panel is a file with `TITLE`, `build(context) -> widgets` and `wire(widgets, context)`; it is named here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import gradio as gr

from lora_lab.training.settings import TrainSettings
from lora_lab.ui import dataset_panel, live, train_panel
from lora_lab.ui.context import UiContext
from lora_lab.ui.edge import Changes, Values, on


@dataclass(frozen=True)
class Panels:
    """The widgets of all panels."""

    live: live.LiveWidgets
    tabs: gr.Tabs
    dataset: dataset_panel.DatasetWidgets
    train: train_panel.TrainWidgets


def build(context: UiContext) -> gr.Blocks:
    """The whole tab, for the webui (which renders it into its own page) and for the standalone app."""
    with gr.Blocks(analytics_enabled=False, title="LoRA Lab") as blocks:
        with gr.Column(elem_id="lora_lab_root"):
            panels = lay_out(context)
        wire(panels, context)
    for component in blocks.blocks.values():
        component.do_not_save_to_config = True  # or the webui's ui-config.json would freeze today's defaults
    return blocks


def lay_out(context: UiContext) -> Panels:
    """All panels, one after the other."""
    line = live.build(context)
    with gr.Tabs(elem_id="lora_lab_panels") as tabs:
        with gr.Tab(dataset_panel.TITLE, id="dataset", elem_id="lora_lab_dataset"):
            dataset = dataset_panel.build(context)
        with gr.Tab(train_panel.TITLE, id="train", elem_id="lora_lab_train"):
            train = train_panel.build(context)
    return Panels(line, tabs, dataset, train)


def wire(panels: Panels, context: UiContext) -> None:
    """Each panel by itself, then what goes from one to another, then the poll."""
    live.wire(panels.live, context)
    dataset_panel.wire(panels.dataset, context)
    train_panel.wire(panels.train, context)
    sent = [panels.train.fields.widgets[name] for name in (*panels.dataset.fields.widgets, "output_name")]
    inputs = {*panels.dataset.fields.all, panels.train.fields.widgets["output_name"]}
    send = partial(send_to_train, panels=panels, context=context)
    on(panels.dataset.use.click, send, inputs, [panels.tabs, *sent], context, quiet=True)
    watched = [panels.live.line, panels.live.interrupt, *panels.train.watched]
    live.connect_poll(partial(poll, panels=panels, context=context), panels.live, folders(panels), watched, context)


def folders(panels: Panels) -> set[gr.Textbox]:
    """Where a dataset may have been chosen in this window."""
    return {form.fields.widgets["train_data_dir"] for form in (panels.train, panels.dataset)}


def send_to_train(values: Values, panels: Panels, context: UiContext) -> Changes:
    """Hand folder and sizes to Train and show it; a LoRA without a name gets that of the only concept.

    Raises:
        LoraLabError: the folder or a size is wrong.
    """
    settings = TrainSettings.from_mapping(panels.dataset.fields.raw(values))
    changes = panels.train.fields.show(settings, panels.dataset.fields.widgets)
    name = panels.train.fields.widgets["output_name"]
    if not str(values[name] or "").strip():
        changes[name] = dataset_panel.proposal(settings, context)
    return {panels.tabs: gr.update(selected="train"), **changes}


def poll(values: Values, panels: Panels, context: UiContext) -> Changes:
    """What is new for this window."""
    seen: live.Seen = values[panels.live.seen]
    view = live.look(context)
    typed = [values[form.fields.widgets["train_data_dir"]] for form in (panels.train, panels.dataset)]
    running = context.queue().current()
    folder = next((text for text in typed if text), running.checked.settings.train_data_dir if running else "")
    line, seen = live.refresh(view, seen, folder, panels.live)
    run, seen = train_panel.refresh(view, seen, panels.train, context)
    beat = seen.beat + 1
    fresh = replace(seen, beat=beat)
    return {panels.live.seen: fresh, panels.live.pulse: live.pulse(beat, view), **line, **run}
