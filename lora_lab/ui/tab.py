"""The tab: the live line, then the panels in the order of the work. The only file that knows all panels.

A new panel is a file with `TITLE`, `build(context) -> widgets` and `wire(widgets, context)`; it is named here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import gradio as gr

from lora_lab.training.settings import TrainSettings
from lora_lab.ui import (
    answers_part,
    at_the_end,
    autotag_panel,
    compare_part,
    concepts_panel,
    dataset_panel,
    describe_part,
    gachamax_panel,
    live,
    pictures_panel,
    regularisation_panel,
    runs_part,
    sweep_part,
    tags_panel,
    testing_panel,
    tools_panel,
    train_panel,
    unfinished_part,
)
from lora_lab.ui.context import UiContext
from lora_lab.ui.edge import Changes, Values, on


@dataclass(frozen=True)
class Panels:
    """The widgets of all panels."""

    live: live.LiveWidgets
    tabs: gr.Tabs
    dataset: dataset_panel.DatasetWidgets
    concepts: concepts_panel.ConceptsWidgets
    pictures: pictures_panel.PicturesWidgets
    regularisation: regularisation_panel.RegularisationWidgets
    tags: tags_panel.TagsWidgets
    train: train_panel.TrainWidgets
    test: testing_panel.TestingWidgets
    tools: tools_panel.ToolsWidgets
    unfinished: unfinished_part.UnfinishedWidgets
    end: at_the_end.EndWidgets
    gachamax: gachamax_panel.GachamaxWidgets
    compare: compare_part.CompareWidgets
    runs: runs_part.RunsWidgets
    sweep: sweep_part.SweepWidgets


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
            concepts = concepts_panel.build()
            pictures = pictures_panel.build(context)
            regularisation = regularisation_panel.build(context)
        with gr.Tab(tags_panel.TITLE, id="tags", elem_id="lora_lab_tags"):
            tags = tags_panel.build(context)
        with gr.Tab(train_panel.TITLE, id="train", elem_id="lora_lab_train"):
            broken_off = unfinished_part.build()
            train = train_panel.build(context)
            compare = compare_part.build(context)
            sweep = sweep_part.build()
            gachamax = gachamax_panel.build(context)
            end = at_the_end.build(context)
            runs = runs_part.build()
        with gr.Tab(testing_panel.TITLE, id="test", elem_id="lora_lab_test"):
            test = testing_panel.build(context)
        with gr.Tab(tools_panel.TITLE, id="tools", elem_id="lora_lab_tools"):
            tools = tools_panel.build(context)
    return Panels(
        line, tabs, dataset, concepts, pictures, regularisation, tags, train, test, tools, broken_off, end, gachamax,
        compare, runs, sweep,
    )  # fmt: skip


def wire(panels: Panels, context: UiContext) -> None:
    """Each panel by itself, then what goes from one to another, then the poll."""
    live.wire(panels.live, context)
    dataset_panel.wire(panels.dataset, context)
    fields, read = panels.dataset.fields.all, partial(settings_of, panels=panels)
    concepts_panel.wire(panels.concepts, panels.dataset.check.click, fields, read, context)
    pictures_panel.wire(panels.pictures, panels.dataset.check.click, fields, read, context)
    regularisation_panel.wire(panels.regularisation, panels.dataset.fields, panels.train.fields, read, context)
    tags_panel.wire(panels.tags, context)
    checked = panels.dataset.fields.widgets["train_data_dir"]
    hand = partial(hand_folder, panels=panels)
    on(panels.dataset.check.click, hand, {checked, panels.tags.folder}, [panels.tags.folder], context, quiet=True)
    train_panel.wire(panels.train, context)
    sweep_part.wire(panels.sweep, panels.train, context)
    gachamax_panel.wire(panels.gachamax, panels.train, context)
    compare_part.wire(panels.compare, panels.train, context)
    at_the_end.wire(panels.end, context)
    runs_part.wire(panels.runs, context)
    unfinished_part.wire(panels.unfinished, context)
    testing_panel.wire(panels.test, panels.tabs, panels.train.fields, context)
    tools_panel.wire(panels.tools, context)
    sent = [panels.train.fields.widgets[name] for name in (*panels.dataset.fields.widgets, "output_name")]
    inputs = {*panels.dataset.fields.all, panels.train.fields.widgets["output_name"]}
    send = partial(send_to_train, panels=panels, context=context)
    on(panels.dataset.use.click, send, inputs, [panels.tabs, *sent], context, quiet=True)
    reg = panels.regularisation
    told = [panels.tags.autotag.told, panels.dataset.problems, reg.told, reg.pictures]
    told += [panels.pictures.made, panels.pictures.told, panels.tags.describe.told]
    told += [*panels.unfinished.watched, *panels.tools.watched, *panels.gachamax.shown]
    told += [*panels.test.watched, *panels.compare.shown, *panels.sweep.watched]
    watched = [panels.live.line, panels.live.interrupt, *told, *panels.train.watched]
    live.connect_poll(partial(poll, panels=panels, context=context), panels.live, folders(panels), watched, context)


def hand_folder(values: Values, panels: Panels) -> Changes:
    """The folder that was checked is the one to tag, unless another was typed there."""
    checked = values[panels.dataset.fields.widgets["train_data_dir"]]
    return {panels.tags.folder: values[panels.tags.folder] or checked}


def settings_of(values: Values, panels: Panels) -> TrainSettings:
    """What the Dataset panel says, as settings.

    Raises:
        SettingsError: a size is wrong.
    """
    return TrainSettings.from_mapping(panels.dataset.fields.raw(values))


def folders(panels: Panels) -> set[gr.Textbox]:
    """Where a dataset may have been chosen in this window."""
    return {panels.tags.folder, *(form.fields.widgets["train_data_dir"] for form in (panels.train, panels.dataset))}


def send_to_train(values: Values, panels: Panels, context: UiContext) -> Changes:
    """Hand folder and sizes to Train and show it; a LoRA without a name gets that of the only concept.

    Raises:
        LoraLabError: the folder or a size is wrong.
    """
    settings = settings_of(values, panels)
    changes = panels.train.fields.show(settings, panels.dataset.fields.widgets)
    name = panels.train.fields.widgets["output_name"]
    if not str(values[name] or "").strip():
        changes[name] = dataset_panel.proposal(settings, context)
    return {panels.tabs: gr.update(selected="train"), **changes}


def poll(values: Values, panels: Panels, context: UiContext) -> Changes:
    """What is new for this window."""
    seen: live.Seen = values[panels.live.seen]
    view = live.look(context)
    boxes = [panels.train.fields.widgets["train_data_dir"], panels.dataset.fields.widgets["train_data_dir"]]
    typed = [values[box] for box in (*boxes, panels.tags.folder)]
    running = context.queue().current()
    folder = next((text for text in typed if text), running.checked.settings.train_data_dir if running else "")
    line, seen = live.refresh(view, seen, folder, panels.live)
    run, seen = train_panel.refresh(view, seen, panels.train, context)
    folder_checked = str(values[boxes[1]] or "")
    tagged, known = autotag_panel.refresh(panels.tags.autotag, seen.tagged)
    sentences, described = describe_part.refresh(panels.tags.describe, seen.described)
    checked, looked = dataset_panel.refresh(panels.dataset, folder_checked, seen.checked)
    pictures, made = regularisation_panel.refresh(panels.regularisation, seen.made)
    several, done = pictures_panel.refresh(panels.pictures, seen.pictures_done)
    beat = seen.beat + 1
    broken, left = unfinished_part.refresh(beat, view.training, seen.unfinished, panels.unfinished, context)
    played, round_known = gachamax_panel.refresh(panels.gachamax, seen.gachamax)
    swept, sweep = sweep_part.refresh(panels.sweep, seen.sweep)
    tested, grid = testing_panel.refresh(panels.test, seen.grid)
    answered, answer = answers_part.refresh(panels.test.answers, seen.answer)
    scored, scores = compare_part.refresh(panels.compare, seen.scored)
    worked, tools = tools_panel.refresh(panels.tools, seen.tools)
    fresh = replace(
        seen, beat=beat, tagged=known, described=described, checked=looked, made=made, pictures_done=done,
        unfinished=left, tools=tools, gachamax=round_known, grid=grid, scored=scores, answer=answer,
        sweep=sweep,
    )  # fmt: skip
    return {
        panels.live.seen: fresh,
        panels.live.pulse: live.pulse(beat, view),
        **line,
        **run,
        **tagged,
        **checked,
        **pictures,
        **several,
        **sentences,
        **broken,
        **worked,
        **played,
        **tested,
        **scored,
        **answered,
        **swept,
    }
