"""What a LoRA's pictures say, a part of the panel Test: influence map, strengths and snapshots, diagnosis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from lora_lab.dataset.captions import split_tags
from lora_lab.errors import HostBusyError, Interrupted, SettingsError
from lora_lab.testing import rows
from lora_lab.testing.cells import GridPlan, Weights
from lora_lab.testing.events import CellMade, GridEvent
from lora_lab.ui import answers_view, testing_acts, testing_form
from lora_lab.ui.context import UiContext
from lora_lab.ui.edge import Changes, Values, on
from lora_lab.ui.ended import ended
from lora_lab.ui.fields import Fields
from lora_lab.ui.testing_form import GridForm
from lora_lab.ui.tools_files import HostFiles
from lora_lab.ui.words import esc, tag
from lora_lab.workflow import tagging
from lora_lab.workflow.run_list import held_out
from lora_lab.workflow.tasks import Task, tasks

if TYPE_CHECKING:
    from lora_lab.testing.diagnosis import PriorKnowledge
    from lora_lab.testing.influence import InfluenceMap
    from lora_lab.testing.judge import Judge
    from lora_lab.testing.strengths import StrengthPlan, StrengthReport

KIND = "answer"
Listen = Callable[[GridEvent], None]
Stop = Callable[[], bool]


@dataclass(frozen=True)
class AnswersWidgets:
    """All that handlers read or change."""

    trigger: gr.Textbox
    tagger: gr.Dropdown
    concept: gr.Textbox
    others: gr.Textbox
    checkpoints: gr.Dropdown
    apart: gr.Checkbox
    map: gr.Button
    strengths: gr.Button
    diagnose: gr.Button
    prior: gr.Button
    try_it: gr.Button
    send: gr.Button
    told: gr.HTML
    answer: gr.HTML
    served: gr.Textbox
    """Never shown: gradio serves the pictures that it has been told of."""

    @property
    def shown(self) -> list[Any]:
        """What the poll changes."""
        return [self.told, self.answer]

    @property
    def form(self) -> set[Any]:
        """What is filled in."""
        return {self.trigger, self.tagger, self.concept, self.others, self.checkpoints, self.apart}


@dataclass(frozen=True)
class Answer:
    """What came of it."""

    html: str
    pictures: tuple[Path, ...] = ()
    proposal: Weights | None = None


def build(context: UiContext) -> AnswersWidgets:
    """Layout."""
    with gr.Accordion("What the pictures say", open=False, elem_id="lora_lab_answers"):
        with gr.Row():
            info = "empty: what the file says"
            trigger = gr.Textbox("", label="trigger", info=info, elem_id="lora_lab_answers_trigger")
            names = [tagger.name for tagger in tagging.local_taggers(context.host.paths())]
            tagger = gr.Dropdown(names, value=names[0], label="tagger", elem_id="lora_lab_answers_tagger")
        info = "tags with commas; empty: those that the LoRA adds"
        concept = gr.Textbox("", label="its concept", info=info, elem_id="lora_lab_answers_concept")
        info = "for strengths, a prompt for each line: smile, night sky"
        others = gr.Textbox("", lines=2, label="should obey", info=info, elem_id="lora_lab_answers_others")
        checkpoints = gr.Dropdown(
            list(context.host.checkpoints()), value=[], multiselect=True, label="on checkpoints",
            elem_id="lora_lab_answers_checkpoints",
            info="for strengths: on each of these, one after the other; empty: on the loaded one",
        )  # fmt: skip
        apart = gr.Checkbox(False, label="text encoder against UNet", elem_id="lora_lab_answers_apart")
        with gr.Row(elem_classes=["lora-lab-actions"]):
            influence = gr.Button("Which block does what?", elem_id="lora_lab_answers_map")
            strengths = gr.Button("Which strength, which snapshot?", elem_id="lora_lab_answers_strengths")
            diagnose = gr.Button("What is wrong with it?", elem_id="lora_lab_answers_diagnose")
            prior = gr.Button("What does the bare checkpoint know?", elem_id="lora_lab_answers_prior")
        told = gr.HTML("", elem_id="lora_lab_answers_told")
        answer = gr.HTML("", elem_id="lora_lab_answers_answer")
        with gr.Row(elem_classes=["lora-lab-actions"]):
            try_it = gr.Button("Try the proposal in the grid", elem_id="lora_lab_answers_try")
            send = gr.Button("Send the proposal to Train", elem_id="lora_lab_answers_send")
        served = gr.Textbox("", elem_id="lora_lab_answers_served", elem_classes=["lora-lab-hidden"])
    return AnswersWidgets(
        trigger, tagger, concept, others, checkpoints, apart, influence, strengths, diagnose, prior, try_it, send, told,
        answer, served,
    )  # fmt: skip


def wire(w: AnswersWidgets, form: GridForm, tabs: gr.Tabs, train: Fields, context: UiContext) -> None:
    """Ask; try or send what is proposed."""
    dataset = train.widgets["train_data_dir"]
    inputs = {*w.form, *form.all, dataset}
    for button, handler in ((w.map, ask_map), (w.strengths, ask_strengths), (w.prior, ask_prior)):
        on(button.click, partial(handler, w=w, form=form, context=context), inputs, [w.told], context)
    ask = partial(ask_diagnosis, w=w, form=form, dataset=dataset, context=context)
    on(w.diagnose.click, ask, inputs, [w.told], context)
    on(w.try_it.click, partial(try_proposal, w=w, form=form), {form.lists}, [w.told, form.lists, form.mode], context)
    fields = [train.widgets[name] for name in testing_acts.LR_FIELDS]
    sent = partial(send_proposal, w=w, tabs=tabs, train=train, context=context)
    on(w.send.click, sent, set(), [w.told, tabs, *fields], context, quiet=True)


def ask_map(values: Values, w: AnswersWidgets, form: GridForm, context: UiContext) -> Changes:
    """Begin the influence map.

    Raises:
        LoraLabError: what is wrong with the form, or another answer is being made.
    """
    from lora_lab.testing.influence import InfluencePlan, run_influence

    base, trigger = _base(values, form, context), str(values[w.trigger] or "").strip()
    blocks = tuple(str(values[form.blocks] or "").split())
    names = rows.single_blocks(testing_form.family_now(context), blocks=blocks) if blocks else []
    chosen = tuple(row.label for row in names)
    plan = InfluencePlan(
        base.lora, base.prompts, base.seeds, trigger or _trigger(base.lora), base.look, base.batch, base.quick, chosen
    )
    judge = _judge(values, w, context)

    def work(listen: Listen, stop: Stop) -> Answer | None:
        found = run_influence(context.host, plan, judge(), listen, stop)
        return None if found is None else _told(found, base.lora, context)

    return _begin("Making the influence map", work, w)


def ask_strengths(values: Values, w: AnswersWidgets, form: GridForm, context: UiContext) -> Changes:
    """Begin to try strengths, of the LoRA and the snapshots beside it, on the loaded checkpoint or on some.

    Raises:
        LoraLabError: what is wrong with the form, or another answer is being made.
    """
    from lora_lab.testing.strengths import VALUES, StrengthPlan, run_strengths

    base, files = _base(values, form, context), HostFiles(context)
    loras = (*(files.lora(name) for name in values[form.others] or []), base.lora)
    typed = str(values[form.values] or "").strip()
    numbers = rows.numbers(typed, "values") if typed and values[form.mode] in (
        testing_form.STRENGTHS, testing_form.APART) else VALUES  # fmt: skip
    others = tuple(line.strip() for line in str(values[w.others] or "").splitlines() if line.strip())
    plan = StrengthPlan(
        tuple(dict.fromkeys(loras)), base.prompts[0], others, base.seeds, numbers, bool(values[w.apart]), base.look,
        base.batch, trigger=str(values[w.trigger] or "").strip() or _trigger(base.lora),
    )  # fmt: skip
    judge = _judge(values, w, context)
    if values[w.checkpoints]:
        return _ask_on_checkpoints(values[w.checkpoints], plan, judge, w, context)

    def work(listen: Listen, stop: Stop) -> Answer | None:
        report = run_strengths(context.host, plan, judge(), listen, stop)
        return None if report is None else Answer(_read(report, plan, context))

    return _begin("Trying strengths", work, w)


def _ask_on_checkpoints(
    names: Sequence[str], plan: StrengthPlan, judge: Callable[[], Judge], w: AnswersWidgets, context: UiContext
) -> Changes:
    """Begin the same on several checkpoints; the pictures are counted first.

    Raises:
        HostBusyError: a run trains on the loaded checkpoint.
        LoraLabError: see `testing.checkpoints.chosen`.
    """
    from lora_lab.testing.checkpoints import chosen, pictures, run_on_checkpoints

    run = context.queue().current()
    if run is not None and run.status().active:
        raise HostBusyError("a run trains on the loaded checkpoint", remedy="wait for its end, or stop it")
    checkpoints = chosen(context.host, names, plan.loras)

    def work(listen: Listen, stop: Stop) -> Answer | None:
        report = run_on_checkpoints(context.host, checkpoints, plan, judge(), listen, stop)
        if report is None:
            return None
        parts = [_read(one.report, plan, context, advised=one is report.main) for one in report.found]
        shown = [one.report.picture for one in report.found]
        return Answer(answers_view.on_checkpoints(report, parts), tuple(made.path for made in shown if made))

    return _begin(f"Trying strengths on {pictures(plan, len(checkpoints))}", work, w)


def _read(report: StrengthReport, plan: StrengthPlan, context: UiContext, *, advised: bool = True) -> str:
    from lora_lab.testing.strengths import best_snapshot

    measured = held_out(context.host.paths().data_dir / "runs", plan.loras)
    keep = best_snapshot(report.points, measured.comparable)[1] if len(plan.loras) > 1 else ""
    return answers_view.strengths(report, keep, measured.losses, advised=advised)


def ask_diagnosis(
    values: Values, w: AnswersWidgets, form: GridForm, dataset: gr.Textbox, context: UiContext
) -> Changes:
    """Begin to look for what is wrong; copies are looked for in the dataset that Train names.

    Raises:
        LoraLabError: what is wrong with the form, or another answer is being made.
    """
    from lora_lab.testing.diagnosis import DiagnosisPlan, run_diagnosis

    base, trigger = _base(values, form, context), str(values[w.trigger] or "").strip()
    typed = str(values[dataset] or "").strip()
    folder = context.folder(typed, "the folder of your pictures") if typed else None
    plan = DiagnosisPlan(
        base.lora, base.prompts[0], trigger or _trigger(base.lora), base.seeds, folder, base.look, base.batch
    )
    judge = _judge(values, w, context)

    def work(listen: Listen, stop: Stop) -> Answer | None:
        found = run_diagnosis(context.host, plan, judge(), listen, stop)
        if found is None:
            return None
        pictures = [path for copy in found.copies for path in (copy.preview, copy.picture)]
        return Answer(answers_view.diagnosis(found), tuple(pictures))

    return _begin("Looking for what is wrong", work, w)


def ask_prior(values: Values, w: AnswersWidgets, form: GridForm, context: UiContext) -> Changes:
    """Begin to look at what the checkpoint makes of the trigger and of each tag of the prompts, without any LoRA.

    Raises:
        LoraLabError: no word is written, or another answer is being made.
    """
    from lora_lab.testing.diagnosis import prior_knowledge

    typed = [str(values[w.trigger] or ""), *str(values[form.prompts] or "").splitlines()]
    words = list(dict.fromkeys(word for line in typed for word in split_tags(line)))
    if not words:
        raise SettingsError("there is no word to look at", remedy="write the trigger, or tags as a prompt")
    look, seeds = testing_form.look_of(values, form), testing_form.seeds_of(values[form.seeds])
    batch = max(1, int(values[form.numbers["batch"]] or 0))
    judge = _judge(values, w, context)

    def work(listen: Listen, stop: Stop) -> Answer | None:
        opened = judge()
        found: list[PriorKnowledge] = []
        for word in words:
            if stop():
                return None
            found += prior_knowledge(context.host, [word], seeds, opened, look, batch)
        return Answer(answers_view.prior(found))

    return _begin("Asking the bare checkpoint", work, w)


def try_proposal(values: Values, w: AnswersWidgets, form: GridForm) -> Changes:
    """The proposed weights as one more row of the grid.

    Raises:
        SettingsError: nothing is proposed.
    """
    weights = proposed()
    line = f"proposal={weights.text}" if weights.text else "ALL"
    lines = [text for text in str(values[form.lists] or "").splitlines() if text.strip() and text != line]
    said = tag("p", "It is the last of the lists of weights: make the grid.", "lora-lab-good")
    return {form.lists: "\n".join([*lines, line]), form.mode: testing_form.PRESETS, w.told: said}


def send_proposal(values: Values, w: AnswersWidgets, tabs: gr.Tabs, train: Fields, context: UiContext) -> Changes:
    """The proposed weights as shares of the learning rate.

    Raises:
        LoraLabError: nothing is proposed, or no checkpoint is loaded.
    """
    weights = proposed()
    said = tag("p", esc(testing_acts.sent_words(weights)), "lora-lab-good")
    return {**testing_acts.rates_for(weights, tabs, train, context), w.told: said}


def proposed() -> Weights:
    """What the newest influence map proposes.

    Raises:
        SettingsError: there is none.
    """
    task = tasks().latest(KIND)
    answer = task.result if task is not None else None
    if not isinstance(answer, Answer) or answer.proposal is None:
        raise SettingsError("nothing is proposed yet", remedy="ask 'Which block does what?' first")
    return answer.proposal


def refresh(w: AnswersWidgets, known: str) -> tuple[Changes, str]:
    """How an answer has come out, for the tab's poll.

    Args:
        w: the widgets.
        known: what the window shows, from the last call.
    """
    end = ended(KIND, known, "Stopped; what was made is kept, and the same question goes on.")
    if end is None:
        return {}, known
    if end.told:
        return {w.told: end.told}, end.mark
    answer: Answer = end.task.result
    w.served.temp_files.update(str(path) for path in answer.pictures)
    return {w.told: "", w.answer: answer.html}, end.mark


def _base(values: Values, form: GridForm, context: UiContext) -> GridPlan:
    """LoRA, prompts, seeds and look of the form; its rows mean nothing here."""
    plain = {**values, form.mode: testing_form.PRESETS, form.presets: ["ALL"], form.lists: ""}
    return testing_form.plan_of(plain, form, context)


def _trigger(lora: Path) -> str:
    from lora_lab.network.outline import outline
    from lora_lab.testing.checks import trigger_of

    return trigger_of(outline(lora).metadata)


def _judge(values: Values, w: AnswersWidgets, context: UiContext) -> Callable[[], Judge]:
    """Opened in the thread that works.

    Raises:
        SettingsError: no tagger is chosen.
    """
    found = next((t for t in tagging.local_taggers(context.host.paths()) if t.name == values[w.tagger]), None)
    if found is None:
        raise SettingsError("no tagger is chosen", remedy="choose one, or put one's folder where it is found")
    concept = split_tags(str(values[w.concept] or ""))

    def opened() -> Judge:
        from lora_lab.testing.judge import Judge

        return Judge.of_tagger(found.path, concept)

    return opened


def _begin(title: str, work: Callable[[Listen, Stop], Answer | None], w: AnswersWidgets) -> Changes:
    def run(task: Task) -> Answer:
        def listen(event: GridEvent) -> None:
            if isinstance(event, CellMade):
                with suppress(Interrupted):  # `stop` lets go in good order
                    task.progress("pictures", event.done, event.total)

        answer = work(listen, lambda: task.stopping)
        if answer is None:
            raise Interrupted("stopped")
        return answer

    tasks().start(KIND, title, run)
    return {w.told: tag("p", esc(title) + "...", "lora-lab-muted")}


def _told(found: InfluenceMap, lora: Path, context: UiContext) -> Answer:
    """With the heat maps as files."""
    folder = context.host.paths().data_dir / "tests" / lora.stem / "heat"
    folder.mkdir(parents=True, exist_ok=True)
    heats = {one.block: folder / f"{one.block}.png" for one in found.blocks}
    for one in found.blocks:
        one.heat.save(heats[one.block])
    return Answer(answers_view.influence(found, heats), tuple(heats.values()), found.proposal.weights)
