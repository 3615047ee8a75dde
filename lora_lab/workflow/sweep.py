"""A sweep: one run after another over values of settings, then one table and one grid. It goes on where it was.

    folder/sweep.json    what came of each run: read when the same sweep is started again
    folder/table.csv, grid.png, index.html, pictures/
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_lab.errors import Interrupted, LoraLabError
from lora_lab.host.base import PreviewRequest
from lora_lab.training import jobs
from lora_lab.training.events import Event
from lora_lab.training.prepare import check_start
from lora_lab.training.previews import PreviewPrompt, parse_prompts
from lora_lab.training.run import Run
from lora_lab.training.settings import TrainSettings
from lora_lab.whole_file import write_whole
from lora_lab.workflow.sweep_plan import Combination, named

if TYPE_CHECKING:
    from PIL import Image

    from lora_lab.host.base import Host

FILE = "sweep.json"
SCORED = 8
"""Pictures of the first prompt that the tagger looks at."""
BATCH = 4


@dataclass(frozen=True)
class Scorer:
    """A tagger, and the tags that it should find in pictures of the first prompt."""

    tagger: Path
    tags: tuple[str, ...]


@dataclass(frozen=True)
class Look:
    """What is drawn with each LoRA: the same for all of them."""

    prompts: tuple[PreviewPrompt, ...]
    scorer: Scorer | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of one run."""

    name: str
    mark: str
    """Of its settings."""
    changes: dict[str, Any]
    state: str
    """finished, failed or stopped."""
    steps: int = 0
    loss: float | None = None
    val_loss: float | None = None
    score: float | None = None
    """Share of the wanted tags that the tagger finds, 0..1."""
    seconds: float = 0.0
    lora: str | None = None
    error: str | None = None
    pictures: tuple[str, ...] = ()
    """One for each prompt, in the sweep's folder."""

    @property
    def done(self) -> bool:
        """Is it finished, and is its LoRA there?"""
        return self.state == "finished" and self.lora is not None and Path(self.lora).is_file()


Told = Callable[[int, Event | None], None]
"""Gets the number of the run from 0, and its event; None when its pictures are drawn."""


@dataclass(frozen=True)
class Sweep:
    """The runs, and where their results go."""

    runs: tuple[Combination, ...]
    folder: Path
    look: Look

    def known(self) -> dict[str, Outcome]:
        """Results of an earlier start by the mark of their settings; those whose LoRA is there count."""
        return {o.mark: o for o in read(self.folder) if o.done}

    def check(self, host: Host) -> None:
        """Look at every run before the first begins.

        Raises:
            LoraLabError: one that cannot be run, and which.
        """
        known = self.known()
        for run in self.runs:
            if run.mark not in known:
                named(run.words, partial(check_start, run.settings, host))


def read(folder: Path) -> list[Outcome]:
    """The results in a sweep's folder; none if there are none that can be read."""
    try:
        values = json.loads((folder / FILE).read_text(encoding="utf-8"))["runs"]
        return [Outcome(**{**value, "pictures": tuple(value["pictures"])}) for value in values]
    except (OSError, ValueError, TypeError, KeyError):
        return []


def write(folder: Path, outcomes: Sequence[Outcome]) -> None:
    """Keep the results, whole or not at all.

    Raises:
        OutputError: the folder cannot be written to.
    """
    told = {"runs": [asdict(outcome) for outcome in outcomes]}
    write_whole(folder / FILE, json.dumps(told, ensure_ascii=False, indent=1), "the sweep's results")


STOPPED = "the sweep was stopped; start it again to go on with the rest"


def run_all(sweep: Sweep, host: Host, told: Told, stop: Callable[[], bool] = lambda: False) -> list[Outcome]:
    """Do the runs that are not done yet, one after another; one that fails stops none of the others.

    Args:
        sweep: checked.
        host: where they train.
        told: hears of every event.
        stop: asked before and while a run is under way; a yes stops it and the sweep.

    Raises:
        Interrupted: it was stopped, by `stop` or by the person who stopped a run; what is done is kept.
        OutputError: the results cannot be written.
    """
    known = sweep.known()
    found: dict[str, Outcome] = {}

    def keep(outcome: Outcome) -> None:
        found[outcome.mark] = outcome
        write(sweep.folder, [(found | known)[r.mark] for r in sweep.runs if r.mark in found | known])

    for number, run in enumerate(sweep.runs):
        if run.mark in known:
            found[run.mark] = known[run.mark]
            continue
        if stop():
            raise Interrupted(STOPPED)
        outcome = train(run, host, partial(told, number), stop)
        if outcome.state != "stopped" and outcome.lora:
            told(number, None)
            outcome = pictured(outcome, host, sweep)
        keep(outcome)
        if outcome.state == "stopped":
            raise Interrupted(STOPPED)
    return [found[run.mark] for run in sweep.runs]


def train(
    run: Combination, host: Host, listen: Callable[[Event], None], stop: Callable[[], bool] = lambda: False
) -> Outcome:
    """One run, in the queue with all others."""
    try:
        job = jobs.queue().start(run.settings, host)
    except LoraLabError as error:
        return Outcome(run.name, run.mark, run.changes, "failed", error=str(error))
    job.listen(listen)
    try:
        while job.wait(0.3).active:
            if stop():
                job.stop()
    except KeyboardInterrupt:
        job.stop()
        job.wait()
    return outcome_of(run, job)


def outcome_of(run: Combination, job: Run) -> Outcome:
    """What came of a run that has ended."""
    ended = job.wait().ended
    assert ended is not None
    return Outcome(
        name=run.name, mark=run.mark, changes=run.changes,
        state="stopped" if ended.reason in ("stopped", "interrupted") else ended.reason, steps=ended.step,
        loss=ended.loss_average, val_loss=ended.val_loss_last, seconds=round(ended.seconds, 1),
        lora=str(ended.lora) if ended.lora else None, error=ended.error or None,
    )  # fmt: skip


def pictured(outcome: Outcome, host: Host, sweep: Sweep) -> Outcome:
    """With pictures of its LoRA in the sweep's folder, and the tagger's score; a picture that fails is left out."""
    assert outcome.lora is not None
    try:
        images, score = look_at(host, Path(outcome.lora), sweep.look)
    except (LoraLabError, OSError, RuntimeError, ValueError) as error:
        return Outcome(**{**asdict(outcome), "error": f"no pictures: {error}"})
    return keep_pictures(outcome, images, score, sweep.folder)


def keep_pictures(outcome: Outcome, images: Sequence[Image.Image], score: float | None, folder: Path) -> Outcome:
    """Write the pictures beside the results."""
    names = []
    for number, image in enumerate(images):
        path = folder / "pictures" / f"{outcome.name}-{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
        names.append(str(path.relative_to(folder)))
    return Outcome(**{**asdict(outcome), "score": score, "pictures": tuple(names)})


def look_at(host: Host, lora: Path | None, look: Look) -> tuple[list[Image.Image], float | None]:
    """A picture of each prompt with a LoRA (None: without), and the score.

    Raises:
        LoraLabError: the pictures cannot be made, or the tagger does not know a tag.
    """
    from lora_lab.workflow.demo import adapter_of

    with host.lease("pictures") as model, adapter_of(model, lora).attached() if lora else nullcontext():
        images = [model.generate(request(prompt, [prompt.seed])).images[0] for prompt in look.prompts]
        if look.scorer is None or not look.prompts:
            return images, None
        first = look.prompts[0]
        scored = [images[0]]
        for seeds in _seeds(first.seed):
            scored += model.generate(request(first, seeds)).images
    return images, _score(scored, look.scorer)


def _seeds(first: int) -> Iterator[list[int]]:
    rest = list(range(first + 1, first + SCORED))
    yield from (rest[i : i + BATCH] for i in range(0, len(rest), BATCH))


def request(prompt: PreviewPrompt, seeds: Sequence[int]) -> PreviewRequest:
    """Pictures of one prompt."""
    return PreviewRequest(
        prompts=(prompt.prompt,) * len(seeds), seeds=tuple(seeds), negative=prompt.negative, width=prompt.width,
        height=prompt.height, steps=prompt.steps, cfg_scale=prompt.cfg_scale, sampler=prompt.sampler,
    )  # fmt: skip


def _score(images: Sequence[Image.Image], scorer: Scorer) -> float:
    from lora_lab.tagging.score import found
    from lora_lab.tagging.session import Tagger

    with Tagger(scorer.tagger) as tagger:
        return found(tagger.probabilities(list(images)), tagger.tags, scorer.tags)


def look_of(settings: TrainSettings, host: Host, prompts: str = "", scorer: Scorer | None = None) -> Look:
    """What to draw: the given prompts, else sample_prompts, else the name of the first concept.

    Args:
        settings: the sweep's base; prompts have the options of sample_prompts (``--d 7``).
        host: the demo's own scorer and prompts are taken where the demo checkpoint is loaded.
        prompts: lines.
        scorer: None for the demo's on the demo checkpoint, else none.

    Raises:
        SettingsError: a prompt has an option that is none.
    """
    from lora_lab.demo import assets, world

    info = host.current()
    demo = info is not None and info.path is not None and info.path.resolve() == assets.checkpoint_path().resolve()
    lines = prompts.strip() or settings.sample_prompts.strip()
    if not lines:
        lines = f"{world.CHARACTER} --l 5 --ss euler" if demo else _concept(settings)
    if demo and scorer is None:
        scorer = Scorer(assets.tagger_dir(), assets.character_features())
    return Look(parse_prompts(settings.replace(sample_prompts=lines)), scorer)


def _concept(settings: TrainSettings) -> str:
    """The name of the first folder ``<repeats>_<name>``."""
    try:
        names = sorted(p.name for p in Path(settings.train_data_dir).iterdir() if p.is_dir())
    except OSError:
        return ""
    return next((name.partition("_")[2] for name in names if name.partition("_")[0].isdigit()), "")
