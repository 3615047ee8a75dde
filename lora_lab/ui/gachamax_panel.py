"""GACHAMAX, a part of the Train panel: from one or a few pictures to a dataset, a round at a time."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from lora_lab.dataset.captions import split_tags
from lora_lab.errors import Interrupted, SettingsError
from lora_lab.training.events import Event, RunStarted, StepDone
from lora_lab.training.settings import TrainSettings
from lora_lab.ui import gachamax_view, train_panel
from lora_lab.ui.context import UiContext
from lora_lab.ui.edge import Changes, Values, on, told_by_page
from lora_lab.ui.ended import ended
from lora_lab.ui.train_panel import TrainWidgets
from lora_lab.ui.words import count, esc, tag
from lora_lab.workflow import tagging
from lora_lab.workflow.gachamax.candidates import LEAST_CFG, MOST_CFG, CandidateSettings
from lora_lab.workflow.gachamax.game import Game, GameSettings
from lora_lab.workflow.tasks import Task, tasks

KIND = "gachamax"
EPOCHS = 10
"""Of a quick run: the guide's."""
WHAT = tag(
    "p",
    "The last resort where there is only one picture, or a few: a quick run on what there is, candidates made with it, "
    "you keep the best, they join the dataset, and the next round learns from them too. Each quick run takes the "
    "settings above; nothing is reloaded between the steps.",
    "lora-lab-empty",
)
FROM_TRAINING = ("train_data_dir", "output_dir", "output_name", "validation_data_dir", "stages", "max_train_steps")
"""Settings of Train that a round sets itself, or has no use for."""


@dataclass(frozen=True)
class GachamaxWidgets:
    """All that handlers read or change."""

    trigger: gr.Textbox
    vary: gr.Textbox
    numbers: dict[str, Any]
    beside: gr.Textbox
    tagger: gr.Dropdown
    play: gr.Button
    more: gr.Button
    join: gr.Button
    act: gr.Button
    message: gr.Textbox
    rounds: gr.HTML
    cards: gr.HTML
    told: gr.HTML

    @property
    def shown(self) -> list[Any]:
        """What an action may change."""
        return [self.rounds, self.cards, self.told]

    @property
    def form(self) -> set[Any]:
        """What is filled in."""
        return {self.trigger, self.vary, self.beside, self.tagger, self.message, *self.numbers.values()}


def build(context: UiContext) -> GachamaxWidgets:
    """Layout."""
    with gr.Accordion("Only one picture, or a few: GACHAMAX", open=False, elem_id="lora_lab_gachamax"):
        gr.HTML(WHAT)
        with gr.Row():
            trigger = gr.Textbox("", label="trigger", elem_id="lora_lab_gachamax_trigger")
            names = [tagger.name for tagger in tagging.local_taggers(context.host.paths())]
            tagger = gr.Dropdown(names, value=names[0], label="tagger", elem_id="lora_lab_gachamax_tagger")
        vary = gr.Textbox(
            "", lines=3, label="what may vary", elem_id="lora_lab_gachamax_vary",
            info="a line for each: smile, frown, open mouth. A prompt takes one of each line, or none",
        )  # fmt: skip
        numbers = _numbers()
        beside = gr.Textbox(
            "", lines=2, label="LoRAs beside it", elem_id="lora_lab_gachamax_beside",
            info="for variety of style: a file and its strength on each line, such as ink.safetensors 0.6",
        )  # fmt: skip
        with gr.Row(elem_classes=["lora-lab-actions"]):
            play = gr.Button("Play a round", variant="primary", elem_id="lora_lab_gachamax_play")
            more = gr.Button("Other candidates", elem_id="lora_lab_gachamax_more")
            join = gr.Button("Kept ones join", elem_id="lora_lab_gachamax_join")
        told = gr.HTML("", elem_id="lora_lab_gachamax_told")
        cards = gr.HTML("", elem_id="lora_lab_gachamax_cards")
        rounds = gr.HTML("", elem_id="lora_lab_gachamax_rounds")
        act = gr.Button("act", elem_id=gachamax_view.BUTTON, elem_classes=["lora-lab-hidden"])
        message = gr.Textbox("", elem_id="lora_lab_gachamax_message", elem_classes=["lora-lab-hidden"])
    return GachamaxWidgets(
        trigger, vary, numbers, beside, tagger, play, more, join, act, message, rounds, cards, told
    )


def _numbers() -> dict[str, Any]:
    usual = CandidateSettings("trigger")
    about = {
        "epochs": (EPOCHS, "of each quick run"), "count": (usual.count, "candidates of a round"),
        "from_originals": (usual.from_originals, "share made by img2img from your pictures"),
        "denoise": (usual.denoise, "of img2img"),
        "cfg_scale": (usual.cfg_scale, f"{LEAST_CFG:g} to {MOST_CFG:g}: more burns into the LoRA"),
        "steps": (usual.steps, ""), "seed": (usual.seed, ""),
    }  # fmt: skip
    with gr.Row():
        return {
            name: gr.Number(
                value, label=name, info=info or None, min_width=110, elem_id=f"lora_lab_gachamax_{name}"
            )
            for name, (value, info) in about.items()
        }


def wire(w: GachamaxWidgets, train: TrainWidgets, context: UiContext) -> None:
    """Play, make again, choose, join, undo."""
    inputs = {*w.form, *train.fields.all}
    for button, handler in ((w.play, play), (w.more, more), (w.join, join)):
        on(button.click, partial(handler, w=w, train=train, context=context), inputs, w.shown, context)
    js = told_by_page(inputs, w.message, "window.loraLabPictures.verdict()")
    on(w.act.click, partial(judge, w=w, train=train, context=context), inputs, w.shown, context, quiet=True, js=js)


def game_of(values: Values, w: GachamaxWidgets, train: TrainWidgets, context: UiContext) -> Game:
    """The rounds of the dataset that Train names.

    Raises:
        LoraLabError: a value is wrong, or there is no dataset.
    """
    settings = train_panel.read(values, train)
    dataset = context.folder(settings.train_data_dir, "the folder of your pictures")
    n = {name: values[box] or 0 for name, box in w.numbers.items()}
    training = {k: v for k, v in settings.to_mapping(changed_only=True).items() if k not in FROM_TRAINING}
    if int(n["epochs"]) < 1:
        raise SettingsError(f"epochs is {n['epochs']}", remedy="give 1 or more")
    training["max_train_epochs"] = int(n["epochs"])
    lines = str(values[w.vary] or "").splitlines()
    made = CandidateSettings(
        trigger=str(values[w.trigger] or "").strip() or _trigger(dataset, settings),
        vary=tuple(tuple(split_tags(line)) for line in lines if line.strip()), count=int(n["count"]),
        from_originals=float(n["from_originals"]), denoise=float(n["denoise"]), cfg_scale=float(n["cfg_scale"]),
        steps=int(n["steps"]), seed=int(n["seed"]), beside=_beside(str(values[w.beside] or ""), context),
    )  # fmt: skip
    return Game.open(dataset, context.host, GameSettings(training, made))


def _trigger(dataset: Path, settings: TrainSettings) -> str:
    """The name of the only concept."""
    from lora_lab.dataset.folders import read_root

    subsets, _ = read_root(dataset, settings.caption_extension)
    return subsets[0].name if len(subsets) == 1 else ""


def _beside(text: str, context: UiContext) -> tuple[tuple[Path, float], ...]:
    """Lines of a file and a strength.

    Raises:
        SettingsError: a line that is none, or a file that is not there.
    """
    found = []
    for line in filter(str.strip, text.splitlines()):
        name, _, strength = line.strip().rpartition(" ")
        path = Path(name.strip('"')).expanduser()
        path = path if path.is_absolute() else context.host.paths().lora_dir / path
        try:
            number = float(strength)
        except ValueError:
            number = None
        if number is None or not path.is_file():
            raise SettingsError(f"{line.strip()!r} is no LoRA and strength", remedy="write ink.safetensors 0.6")
        found.append((path, number))
    return tuple(found)


def play(values: Values, w: GachamaxWidgets, train: TrainWidgets, context: UiContext) -> Changes:
    """Begin a round: train, then make candidates.

    Raises:
        LoraLabError: a value is wrong, or a round is being played.
    """
    game, place = game_of(values, w, train, context), _tagger(values, w, context)

    def work(task: Task) -> Game:
        steps = 0

        def heard(event: Event) -> None:
            nonlocal steps
            if isinstance(event, RunStarted):
                steps = event.steps
            elif isinstance(event, StepDone):
                with suppress(Interrupted):  # the run is asked to stop by `stop`, from its own turn
                    task.progress("quick run", event.step, steps)

        game.train(heard, lambda: task.stopping)
        return _made(game, place, task)

    tasks().start(KIND, "Playing a round", work)
    return {w.told: tag("p", "Training; candidates follow.", "lora-lab-muted")}


def more(values: Values, w: GachamaxWidgets, train: TrainWidgets, context: UiContext) -> Changes:
    """Begin to make other candidates with the newest round's LoRA, such as on another checkpoint.

    Raises:
        LoraLabError: a value is wrong, or a round is being played.
    """
    game, place = game_of(values, w, train, context), _tagger(values, w, context)
    tasks().start(KIND, "Making candidates", partial(_made, game, place))
    return {w.told: tag("p", "Making candidates.", "lora-lab-muted")}


def _made(game: Game, tagger: Path, task: Task) -> Game:
    from lora_lab.tagging.session import Tagger

    with Tagger(tagger) as opened:
        game.make(opened, task.progress)
    return game


def _tagger(values: Values, w: GachamaxWidgets, context: UiContext) -> Path:
    for tagger in tagging.local_taggers(context.host.paths()):
        if tagger.name == values[w.tagger]:
            return tagger.path
    raise SettingsError("no tagger is chosen", remedy="choose one, or put one's folder where it is found")


def judge(values: Values, w: GachamaxWidgets, train: TrainWidgets, context: UiContext) -> Changes:
    """Keep or drop a candidate, or undo a round, as the page says.

    Raises:
        LoraLabError: there is no such candidate, or a picture cannot be moved.
    """
    try:
        verdict = json.loads(values[w.message] or "{}")
        act, what = str(verdict["act"]), str(verdict["path"])
    except (ValueError, KeyError, TypeError):
        return {}
    game = game_of(values, w, train, context)
    said = ""
    if act == "undo" and what.isdecimal():
        game.undo(int(what))
        said = f"Round {what} is undone: its pictures are out of the dataset."
    elif act in ("keep", "drop"):
        game.choose({what: "keep" if act == "keep" else "drop"})
    return show(game, w, said)


def join(values: Values, w: GachamaxWidgets, train: TrainWidgets, context: UiContext) -> Changes:
    """The kept candidates into the dataset; says which generated pictures stick out.

    Raises:
        LoraLabError: none is kept, or the folder cannot be written to.
    """
    from lora_lab.tagging.session import Tagger

    game = game_of(values, w, train, context)
    kept = game.join().kept
    if not kept:
        raise SettingsError("no candidate is kept", remedy="keep some, by their buttons or the key K")
    with Tagger(_tagger(values, w, context)) as tagger:
        out = game.sticking_out(tagger)
    changes = show(game, w, f"{count(len(kept), 'picture')} joined the dataset. Play the next round.")
    return {**changes, w.rounds: gachamax_view.rounds_table(game.rounds, out)}


def show(game: Game, w: GachamaxWidgets, said: str = "") -> Changes:
    """Everything as it is now."""
    one = game.rounds.last
    if one is not None:
        folder = game.rounds.folder_of(one.number)
        w.message.temp_files.update(str(folder / c.file) for c in one.candidates)
    return {
        w.rounds: gachamax_view.rounds_table(game.rounds),
        w.cards: gachamax_view.candidates(game.rounds),
        w.told: tag("p", esc(said), "lora-lab-good") if said else "",
    }


def refresh(w: GachamaxWidgets, known: str) -> tuple[Changes, str]:
    """How a round has gone, for the tab's poll.

    Args:
        w: the widgets.
        known: what the window shows, from the last call.
    """
    end = ended(KIND, known, "Stopped. 'Other candidates' goes on with what the run learnt.")
    if end is None:
        return {}, known
    if end.told:
        return {w.told: end.told}, end.mark
    game: Game = end.task.result
    return show(game, w, "Choose what joins the dataset."), end.mark
