"""Runs of a project side by side, a part of the panel Train: changes, scores, stars, a ranking, what to try next."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from lora_lab.errors import SettingsError
from lora_lab.training.settings import TrainSettings
from lora_lab.ui import compare_view, train_panel
from lora_lab.ui.context import UiContext
from lora_lab.ui.edge import Changes, Values, on, told_by_page
from lora_lab.ui.ended import ended
from lora_lab.ui.train_panel import TrainWidgets
from lora_lab.ui.words import count, esc, tag
from lora_lab.workflow import compare_runs, tagging
from lora_lab.workflow.compare_runs import ComparedRun
from lora_lab.workflow.project_folder import project_folder
from lora_lab.workflow.tasks import Task, tasks

if TYPE_CHECKING:
    from lora_lab.workflow.score_run import Probe

KIND = "scores"
ABOUT = tag(
    "p",
    "All runs on the dataset above: what each changed, and how good it is. Scores come from pictures made with the "
    "loaded checkpoint: with the trigger (concept, flexibility), and without (leakage). Stars are yours; they count "
    "twice.",
    "lora-lab-empty",
)


@dataclass(frozen=True)
class CompareWidgets:
    """All that handlers read or change."""

    trigger: gr.Textbox
    tagger: gr.Dropdown
    size: gr.Number
    pictures: gr.Number
    look: gr.Button
    score: gr.Button
    act: gr.Button
    message: gr.Textbox
    table: gr.HTML
    told: gr.HTML

    @property
    def shown(self) -> list[Any]:
        """What an action may change."""
        return [self.table, self.told]

    @property
    def form(self) -> set[Any]:
        """What is filled in."""
        return {self.trigger, self.tagger, self.size, self.pictures, self.message}


def build(context: UiContext) -> CompareWidgets:
    """Layout."""
    with gr.Accordion("Runs of this project, side by side", open=False, elem_id="lora_lab_compare"):
        gr.HTML(ABOUT)
        with gr.Row():
            info = "empty: the first tag of every caption"
            trigger = gr.Textbox("", label="trigger", info=info, elem_id="lora_lab_compare_trigger")
            names = [tagger.name for tagger in tagging.local_taggers(context.host.paths())]
            tagger = gr.Dropdown(names, value=names[0], label="tagger", elem_id="lora_lab_compare_tagger")
            info = "of each side; 0: resolution"
            size = gr.Number(0, precision=0, label="size", info=info, elem_id="lora_lab_compare_size", min_width=110)
            info = "of each of three kinds"
            pictures = gr.Number(
                8, precision=0, label="pictures", info=info, elem_id="lora_lab_compare_pictures", min_width=110
            )
        with gr.Row(elem_classes=["lora-lab-actions"]):
            look = gr.Button("Show the runs", elem_id="lora_lab_compare_look")
            score = gr.Button("Score those without numbers", elem_id="lora_lab_compare_score")
        told = gr.HTML("", elem_id="lora_lab_compare_told")
        table = gr.HTML("", elem_id="lora_lab_compare_table")
        act = gr.Button("act", elem_id=compare_view.BUTTON, elem_classes=["lora-lab-hidden"])
        message = gr.Textbox("", elem_id="lora_lab_compare_message", elem_classes=["lora-lab-hidden"])
    return CompareWidgets(trigger, tagger, size, pictures, look, score, act, message, table, told)


def wire(w: CompareWidgets, train: TrainWidgets, context: UiContext) -> None:
    """Show, score, give stars."""
    inputs = {*w.form, *train.fields.all}
    on(w.look.click, partial(look, w=w, train=train, context=context), inputs, w.shown, context, quiet=True)
    on(w.score.click, partial(score, w=w, train=train, context=context), inputs, w.shown, context)
    js = told_by_page(inputs, w.message, "window.loraLabPictures.verdict()")
    on(w.act.click, partial(star, w=w, train=train, context=context), inputs, w.shown, context, quiet=True, js=js)


@dataclass(frozen=True)
class Project:
    """A dataset and where all about it is kept."""

    dataset: Path
    folder: Path
    runs_folder: Path
    settings: TrainSettings

    def runs(self) -> list[ComparedRun]:
        """Its runs, the oldest first.

        Raises:
            SettingsError: what is known of them is damaged.
        """
        return compare_runs.runs_of(self.dataset, self.runs_folder, self.folder)


def project_of(values: Values, train: TrainWidgets, context: UiContext) -> Project:
    """That of the dataset that Train names.

    Raises:
        LoraLabError: there is none.
    """
    settings = train_panel.read(values, train)
    dataset = context.folder(settings.train_data_dir, "the folder of your pictures")
    data = context.host.paths().data_dir
    return Project(dataset, project_folder(dataset, data), data / "runs", settings)


def look(values: Values, w: CompareWidgets, train: TrainWidgets, context: UiContext) -> Changes:
    """The table as it is now.

    Raises:
        LoraLabError: there is no dataset, or what is known of it is damaged.
    """
    return {w.table: compare_view.table(project_of(values, train, context).runs()), w.told: ""}


def star(values: Values, w: CompareWidgets, train: TrainWidgets, context: UiContext) -> Changes:
    """Give a run stars, as the page says.

    Raises:
        LoraLabError: it cannot be written.
    """
    try:
        verdict = json.loads(values[w.message] or "{}")
        act, run = str(verdict["act"]), str(verdict["path"])
    except (ValueError, KeyError, TypeError):
        return {}
    project = project_of(values, train, context)
    number = re.fullmatch(r"stars-(\d)", act)
    if number and run in {one.run.id for one in project.runs()}:
        compare_runs.keep(project.folder, run, stars=int(number[1]))
    return {w.table: compare_view.table(project.runs()), w.told: ""}


def score(values: Values, w: CompareWidgets, train: TrainWidgets, context: UiContext) -> Changes:
    """Begin to score the runs that have a LoRA and no numbers yet.

    Raises:
        LoraLabError: there is none, no trigger is known, or scores are being made.
    """
    from lora_lab.workflow.score_run import Probe

    project = project_of(values, train, context)
    waiting = [one for one in project.runs() if one.score is None and one.run.lora and Path(one.run.lora).is_file()]
    if not waiting:
        raise SettingsError("every run with a LoRA has its numbers", remedy="train another one")
    size = int(values[w.size] or 0) or project.settings.resolution[0]
    trigger = str(values[w.trigger] or "").strip() or _trigger(project)
    probe = Probe(trigger, size=size, pictures=max(1, int(values[w.pictures] or 0)))
    tagger = next((t for t in tagging.local_taggers(context.host.paths()) if t.name == values[w.tagger]), None)
    if tagger is None:
        raise SettingsError("no tagger is chosen", remedy="choose one, or put one's folder where it is found")
    title = f"Scoring {count(len(waiting), 'run')}"
    tasks().start(KIND, title, partial(_work, project, waiting, probe, tagger.path, context))
    return {w.told: tag("p", esc(title) + "...", "lora-lab-muted")}


def _trigger(project: Project) -> str:
    from lora_lab.dataset.folders import read_root
    from lora_lab.workflow.regularisation import triggers_of

    subsets, _ = read_root(project.dataset, project.settings.caption_extension)
    found = [tags[0] for subset in subsets if (tags := triggers_of(subset))]
    if not found:
        raise SettingsError("no tag begins every caption, so the trigger is not known", remedy="write it")
    return found[0]


def _work(
    project: Project, waiting: list[ComparedRun], probe: Probe, tagger: Path, context: UiContext, task: Task
) -> Project:
    from lora_lab.tagging.session import Tagger
    from lora_lab.workflow.score_run import score as score_lora

    with Tagger(tagger) as opened:
        for number, one in enumerate(waiting):

            def listen(stage: str, done: int, total: int, before: int = number) -> None:
                task.progress(stage, before * total + done, len(waiting) * total)

            found = score_lora(context.host, Path(str(one.run.lora)), project.dataset, probe, opened, listen)
            compare_runs.keep(project.folder, one.run.id, score=found)
    return project


def refresh(w: CompareWidgets, known: str) -> tuple[Changes, str]:
    """How the scoring has gone, for the tab's poll.

    Args:
        w: the widgets.
        known: what the window shows, from the last call.
    """
    end = ended(KIND, known, "Stopped; the runs that have their numbers keep them.")
    if end is None:
        return {}, known
    if end.told:
        return {w.told: end.told}, end.mark
    project: Project = end.task.result
    return {w.table: compare_view.table(project.runs()), w.told: ""}, end.mark
