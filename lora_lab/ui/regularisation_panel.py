"""Regularisation pictures, a part of the Dataset panel: what to make, how long it takes, making it, and what came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from lora_lab.errors import DatasetError, OutputError
from lora_lab.training.settings import TrainSettings
from lora_lab.ui.context import UiContext
from lora_lab.ui.edge import Changes, Values, on
from lora_lab.ui.ended import ended
from lora_lab.ui.fields import Fields
from lora_lab.ui.words import count, esc, tag
from lora_lab.workflow.regularisation import (
    RegularisationPlan,
    RegularisationSettings,
    make_pictures,
    plan,
)
from lora_lab.workflow.tasks import Task, tasks

KIND = "regularisation"
ROUTES = {
    "hard: one for each training picture, same caption, size and seed": "hard",
    "easy: a prompt of the class": "easy",
    "random: tags of the dataset, mixed": "random",
}
SAMPLERS = ("DDIM", "Euler", "Euler a", "DPM++ 2M", "UniPC")
SHOWN = 60
WHAT = tag(
    "p",
    "Pictures of the class, made with the loaded checkpoint, keep a LoRA from pulling the whole class towards your "
    "subject. They are not needed for every LoRA; with them each step sees half as much of your own pictures.",
    "lora-lab-empty",
)


@dataclass(frozen=True)
class RegularisationWidgets:
    """All that handlers read or change."""

    route: gr.Radio
    class_name: gr.Textbox
    prompt: gr.Textbox
    count: gr.Number
    triggers: gr.Textbox
    negative: gr.Textbox
    seed: gr.Number
    steps: gr.Number
    cfg_scale: gr.Number
    sampler: gr.Dropdown
    batch_size: gr.Number
    captions: gr.Checkbox
    out: gr.Textbox
    look: gr.Button
    make: gr.Button
    use: gr.Button
    told: gr.HTML
    pictures: gr.Gallery

    @property
    def form(self) -> set[Any]:
        """What is filled in."""
        return {
            self.route, self.class_name, self.prompt, self.count, self.triggers, self.negative, self.seed, self.steps,
            self.cfg_scale, self.sampler, self.batch_size, self.captions, self.out,
        }  # fmt: skip


def build(context: UiContext) -> RegularisationWidgets:
    """Layout."""
    usual = RegularisationSettings()
    with gr.Accordion("Regularisation pictures", open=False, elem_id="lora_lab_regularisation"):
        gr.HTML(WHAT)
        route = gr.Radio(list(ROUTES), value=next(iter(ROUTES)), label="route", elem_id="lora_lab_regularisation_route")
        with gr.Row():
            class_name = _text("class_name", "class", usual.class_name, "what the subject is; names the folder")
            triggers = _text("triggers", "triggers", "", "left out of prompts; empty: the first tag of every caption")
        with gr.Row():
            prompt = _text("prompt", "prompt", "", "easy route; empty: the class")
            negative = _text("negative", "negative prompt", "", "")
        with gr.Row():
            number = _number("count", "pictures", None, "easy and random; empty: as many as training pictures")
            seed = _number("seed", "seed", usual.seed, "hard route: the training's own")
            steps = _number("steps", "steps", usual.steps, "")
        with gr.Row():
            cfg = _number("cfg_scale", "CFG scale", usual.cfg_scale, "", 1)
            batch = _number("batch_size", "batch size", usual.batch_size, "")
            sampler = gr.Dropdown(
                list(SAMPLERS), value=usual.sampler, label="sampler", elem_id="lora_lab_regularisation_sampler"
            )
        captions = gr.Checkbox(True, label="write captions", elem_id="lora_lab_regularisation_captions")
        out = _text("out", "folder", "", "empty: reg_data_dir, or one beside the dataset")
        with gr.Row(elem_classes=["lora-lab-actions"]):
            look = gr.Button("What will be made?", elem_id="lora_lab_regularisation_look")
            make = gr.Button("Make them", variant="primary", elem_id="lora_lab_regularisation_make")
            use = gr.Button("Train with them", elem_id="lora_lab_regularisation_use")
        told = gr.HTML("", elem_id="lora_lab_regularisation_told")
        pictures = gr.Gallery(
            label="Regularisation pictures", elem_id="lora_lab_regularisation_pictures", columns=8, height="auto",
            object_fit="contain", visible=False, show_share_button=False,
        )  # fmt: skip
    return RegularisationWidgets(
        route, class_name, prompt, number, triggers, negative, seed, steps, cfg, sampler, batch, captions, out, look,
        make, use, told, pictures,
    )  # fmt: skip


def _text(name: str, label: str, value: str, info: str) -> gr.Textbox:
    return gr.Textbox(value, label=label, info=info or None, elem_id=f"lora_lab_regularisation_{name}")


def _number(name: str, label: str, value: float | None, info: str, precision: int = 0) -> gr.Number:
    where = f"lora_lab_regularisation_{name}"
    return gr.Number(value, label=label, info=info or None, precision=precision, elem_id=where, min_width=100)


def wire(w: RegularisationWidgets, dataset: Fields, train: Fields, read: Any, context: UiContext) -> None:  # noqa: ANN401
    """Look, make, and take for the next training.

    Args:
        w: of this part.
        dataset: the Dataset panel's fields, which say what the training pictures are.
        train: the Train panel's.
        read: the Dataset panel's values to `TrainSettings`.
        context: of the tab.
    """
    inputs, folders = {*w.form, *dataset.all}, [fields.widgets["reg_data_dir"] for fields in (dataset, train)]
    on(w.look.click, partial(look, w=w, read=read, context=context), inputs, [w.told, w.pictures], context)
    on(w.make.click, partial(make, w=w, read=read, context=context), inputs, [w.told], context)
    taken = partial(use, w=w, folders=folders, read=read, context=context)
    on(w.use.click, taken, inputs, [w.told, *folders], context)


def look(values: Values, w: RegularisationWidgets, read: Any, context: UiContext) -> Changes:  # noqa: ANN401
    """What would be made, and what is there already.

    Raises:
        LoraLabError: a folder or a value is wrong.
    """
    planned = planned_from(values, w, read(values), context)
    there = [w.path for w in planned.wanted if w.path.is_file()]
    shown = [(str(path), path.name) for path in there[:SHOWN]]
    return {w.told: told(planned), w.pictures: gr.update(value=shown, visible=bool(shown))}


def make(values: Values, w: RegularisationWidgets, read: Any, context: UiContext) -> Changes:  # noqa: ANN401
    """Begin; the live line shows how far it is, and Interrupt stops it.

    Raises:
        LoraLabError: a folder or a value is wrong, or pictures are being made already.
    """
    planned = planned_from(values, w, read(values), context)
    title = f"Making {count(len(planned.missing), 'regularisation picture')}"

    def work(task: Task) -> Made:
        return Made(planned, make_pictures(context.host, planned, task.progress))

    tasks().start(KIND, title, work)
    return {w.told: told(planned)}


def use(
    values: Values, w: RegularisationWidgets, folders: Sequence[gr.Textbox], read: Any, context: UiContext  # noqa: ANN401
) -> Changes:
    """Their folder becomes reg_data_dir, in Dataset and in Train.

    Raises:
        LoraLabError: a folder or a value is wrong, or no picture is there yet.
    """
    planned = planned_from(values, w, read(values), context)
    root = planned.wanted[0].path.parent.parent
    missing = len(planned.missing)
    if missing == len(planned.wanted):
        raise DatasetError("no regularisation picture is there yet", file=root, remedy="make them first")
    said = "Train has their folder as reg_data_dir now."
    if missing:
        said = f"{count(missing, 'picture')} of them still to be made. {said}"
    return {w.told: tag("p", esc(said), "lora-lab-good"), **dict.fromkeys(folders, str(root))}


@dataclass(frozen=True)
class Made:
    """What a round has made."""

    planned: RegularisationPlan
    count: int


def refresh(w: RegularisationWidgets, known: str) -> tuple[Changes, str]:
    """How a round has ended, for the tab's poll.

    Args:
        w: the widgets.
        known: what the window shows, from the last call.
    """
    end = ended(KIND, known, "Stopped. 'Make them' goes on where it was.")
    if end is None:
        return {}, known
    if end.told:
        return {w.told: end.told}, end.mark
    made: Made = end.task.result
    shown = [(str(p.path), p.path.name) for p in made.planned.wanted if p.path.is_file()][:SHOWN]
    text = f"{count(made.count, 'picture')} made. 'Train with them' sets reg_data_dir to their folder."
    gallery = gr.update(value=shown, visible=bool(shown))
    return {w.told: tag("p", esc(text), "lora-lab-good"), w.pictures: gallery}, end.mark


def planned_from(
    values: Values, w: RegularisationWidgets, dataset: TrainSettings, context: UiContext
) -> RegularisationPlan:
    """The form as a plan.

    Raises:
        LoraLabError: a folder or a value is wrong.
    """
    from lora_lab.ui.dataset_panel import scan_folder

    report = scan_folder(dataset, context)
    settings = RegularisationSettings(
        route=ROUTES[values[w.route]],  # type: ignore[arg-type]
        class_name=str(values[w.class_name] or "").strip(), prompt=str(values[w.prompt] or "").strip(),
        count=int(values[w.count]) if values[w.count] else None,
        triggers=tuple(t.strip() for t in str(values[w.triggers] or "").split(",") if t.strip()),
        negative=str(values[w.negative] or ""), seed=int(values[w.seed] or 0), steps=int(values[w.steps] or 0),
        cfg_scale=float(values[w.cfg_scale] or 0), sampler=values[w.sampler], batch_size=int(values[w.batch_size] or 0),
        captions=bool(values[w.captions]),
    )  # fmt: skip
    typed = str(values[w.out] or "").strip().strip('"') or dataset.reg_data_dir
    out = Path(typed).expanduser() if typed else report.folder.parent / f"{report.folder.name}_reg"
    allowed(out, context)
    if out.resolve() == report.folder.resolve():
        remedy = "choose another: its folders would be trained on"
        raise OutputError("the folder is the dataset's own", file=out, remedy=remedy)
    return plan(report, settings, out)


def allowed(out: Path, context: UiContext) -> None:
    """May a person of this host write there?

    Raises:
        OutputError: no.
    """
    from lora_lab.training.prepare import check_allowed

    check_allowed(str(out), context.host.paths())


def told(planned: RegularisationPlan) -> str:
    """How many, where, and one of each prompt."""
    missing = planned.missing
    folders = sorted({str(w.path.parent) for w in planned.wanted})
    here = len(planned.wanted) - len(missing)
    said = f"{count(len(planned.wanted), 'picture')} in {', '.join(folders)}"
    said += f", {here:,} of them there already." if here else "."
    examples = [
        tag("li", f"{w.size[0]} x {w.size[1]}, seed {w.seed}: " + tag("code", esc(w.caption))) for w in missing[:3]
    ]
    return tag("p", esc(said)) + tag("ul", "".join(examples), "lora-lab-notes")
