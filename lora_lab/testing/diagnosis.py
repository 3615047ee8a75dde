"""What is wrong with a LoRA, and which tag is to blame; what the bare checkpoint knows beforehand.

The guide's signs: pictures copied from the dataset, saturation and contrast that drift, prompts without the trigger
that change (leakage), seeds that all look alike; or hardly any concept at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from lora_lab.errors import SettingsError
from lora_lab.testing import measures
from lora_lab.testing.cells import NOTHING, GridPlan, Look
from lora_lab.testing.events import GridEvent, GridResult
from lora_lab.testing.grid import run_grid
from lora_lab.testing.judge import NO_TAG, Judge
from lora_lab.testing.words import asked_for, tags_of, without_tag

if TYPE_CHECKING:
    from lora_lab.host.base import Host

COPY = 0.92
"""Likeness of perceptual hashes from which a preview counts as a copy of a dataset picture."""
DRIFT = 0.35
"""Relative change of saturation or contrast that is burnt."""
LEAK = 0.5
"""Change of prompts without the trigger, in parts of the change with it, from which the LoRA leaks."""
SAME = 0.5
"""Variety over seeds, in parts of the bare checkpoint's, below which pictures are too much alike."""
WEAK = 0.3
"""Share of the concept below which it is underfit."""


@dataclass(frozen=True)
class DiagnosisPlan:
    """What to look at."""

    lora: Path
    prompt: str
    """With the trigger."""
    trigger: str
    seeds: tuple[int, ...]
    """Two different ones at least: variety is measured over them."""
    dataset: Path | None = None
    """Folder of the pictures that it was trained on, for copies."""
    look: Look = Look()
    batch: int = 8
    out: Path | None = None


@dataclass(frozen=True)
class Copy:
    """A preview that is a dataset picture."""

    preview: Path
    picture: Path
    likeness: float


@dataclass(frozen=True)
class TagBlame:
    """What one tag of the prompt does, with the LoRA against without it."""

    tag: str
    change: float
    """How much less the LoRA changes the picture when the tag is left out, as a share of its change with it."""
    concept: float
    """How much of the concept goes with the tag."""


@dataclass(frozen=True)
class Diagnosis:
    """What was found."""

    sentences: tuple[str, ...]
    concept: float | None
    """None without a tagger."""
    leakage: float
    """Perceptual change without the trigger in parts of that with it."""
    saturation_drift: float
    contrast_drift: float
    """Relative to the bare checkpoint."""
    variety: float
    """Over seeds, in parts of the bare checkpoint's."""
    copies: tuple[Copy, ...]
    blame: tuple[TagBlame, ...]
    grid: GridResult


@dataclass(frozen=True)
class PriorKnowledge:
    """What the bare checkpoint makes of a word."""

    word: str
    seen: tuple[tuple[str, float], ...]
    """Tags that come with it: how much likelier than without it, the most first."""
    change: float
    """Perceptual change against the empty prompt."""
    sentence: str


def run_diagnosis(
    host: Host,
    plan: DiagnosisPlan,
    judge: Judge | None = None,
    listen: Callable[[GridEvent], None] = lambda event: None,
    stop: Callable[[], bool] = lambda: False,
) -> Diagnosis | None:
    """Make the pictures (the prompt, the prompt without the trigger and without each other tag) and read them.

    Raises:
        SettingsError: fewer than two different seeds, or no trigger in the prompt.
        LoraLabError: see `run_grid`.
    """
    if len(set(plan.seeds)) < 2:
        raise SettingsError("all seeds are equal, so that variety cannot be seen", remedy="give different seeds")
    plain = without_tag(plan.prompt, plan.trigger)
    if plain == plan.prompt:
        raise SettingsError(f"the prompt lacks the trigger {plan.trigger!r}", remedy="put it into the prompt")
    rest = [tag for tag in tags_of(plan.prompt) if without_tag(tag, plan.trigger) == tag]
    prompts = (plan.prompt, plain, *(without_tag(plan.prompt, tag) for tag in rest))
    grid = GridPlan(
        plan.lora, (NOTHING,), prompts, plan.seeds, plan.look, plan.batch, out=plan.out, large=True, trigger=None
    )
    result = run_grid(host, grid, listen, stop)
    return None if result.stopped else _read(plan, result, judge, (plan.trigger, *rest))


class _Sides:
    """Pictures of a prompt with the LoRA and without it."""

    def __init__(self, result: GridResult) -> None:
        self._result = result
        self._columns = result.plan.columns

    def of(self, prompt: str, *, bare: bool) -> list[Image.Image]:
        found = []
        for i, (words, _) in enumerate(self._columns):
            made = self._result.at(0 if bare else None, i)
            if words == prompt and made is not None:
                found.append(made.image)
        return found

    def change(self, prompt: str) -> float:
        pairs = list(zip(self.of(prompt, bare=False), self.of(prompt, bare=True), strict=True))
        return sum(measures.perceptual_distance(a, b) for a, b in pairs) / len(pairs)


def _read(plan: DiagnosisPlan, result: GridResult, judge: Judge | None, tags: Sequence[str]) -> Diagnosis:
    sides = _Sides(result)
    plain = result.plan.prompts[1]
    with_it, bare = sides.of(plan.prompt, bare=False), sides.of(plan.prompt, bare=True)
    whole = max(sides.change(plan.prompt), 1e-6)
    drifts = _drift(measures.saturation, with_it, bare), _drift(measures.contrast, with_it, bare)
    variety = measures.variety(with_it) / max(measures.variety(bare), 1e-6)
    copies = find_copies(_previews(result, plan.prompt), plan.dataset) if plan.dataset else ()
    leakage = sides.change(plain) / whole
    concept: tuple[str, ...] = ()
    share = None
    if judge is not None:
        seen = judge.look(with_it)
        concept = judge.found_concept(seen, judge.look(bare), asked_for((plan.prompt,), plan.trigger))
        share = judge.share(seen, concept) if concept else None
    blame = []
    for tag, prompt in zip(tags, result.plan.prompts[1:], strict=True):
        lost = 0.0 if judge is None else (share or 0.0) - judge.share(judge.look(sides.of(prompt, bare=False)), concept)
        blame.append(TagBlame(tag, 1 - sides.change(prompt) / whole, lost))
    words = tuple(_sentences(share, judge is not None and not concept, leakage, drifts, variety, copies))
    return Diagnosis(words, share, leakage, *drifts, variety, copies, tuple(blame), result)


def _drift(measure: Callable[[Image.Image], float], own: Sequence[Image.Image], bare: Sequence[Image.Image]) -> float:
    mine, theirs = (sum(map(measure, some)) / len(some) for some in (own, bare))
    return mine / max(theirs, 1e-3) - 1


def _previews(result: GridResult, prompt: str) -> list[tuple[Path, Image.Image]]:
    found = (result.at(None, i) for i, (words, _) in enumerate(result.plan.columns) if words == prompt)
    return [(made.path, made.image) for made in found if made is not None]


def find_copies(previews: Iterable[tuple[Path, Image.Image]], dataset: Path) -> tuple[Copy, ...]:
    """Previews that are pictures of the dataset, mirrored ones too; the likest first.

    Raises:
        DatasetError: the folder cannot be read.
    """
    from lora_lab.dataset.folders import read_root
    from lora_lab.dataset.pictures import small

    hashes = []
    for path in (picture.path for subset in read_root(dataset, ".txt")[0] for picture in subset.pictures):
        image = small(path, 256)
        mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        hashes += [(path, measures.fingerprint(one)) for one in (image, mirrored)]
    found = []
    for path, image in previews:
        own = measures.fingerprint(image)
        likest = max(((measures.likeness(own, bits), str(file)) for file, bits in hashes), default=(0.0, ""))
        if likest[0] >= COPY:
            found.append(Copy(path, Path(likest[1]), likest[0]))
    return tuple(sorted(found, key=lambda copy: -copy.likeness))


def _sentences(
    share: float | None, unseen: bool, leakage: float, drifts: Sequence[float], variety: float,
    copies: Sequence[Copy],
) -> Iterable[str]:
    """The signs in words; one sentence that all is well if there is none."""
    found = []
    if copies:
        found.append(
            f"Overfit: {len(copies)} previews are copies of dataset pictures, such as {copies[0].picture.name}."
        )
    for name, drift in zip(("saturation", "contrast"), drifts, strict=True):
        if abs(drift) > DRIFT:
            found.append(f"Burnt: {name} is {abs(drift):.0%} {'above' if drift > 0 else 'below'} the checkpoint's own.")
    if leakage > LEAK:
        found.append(
            f"It leaks: prompts without the trigger change {leakage:.0%} as much as those with it. Regularisation "
            "pictures (in Dataset) hold the class where it was."
        )
    if variety < SAME:
        found.append(f"Overfit: over seeds its pictures differ {variety:.0%} as much as the checkpoint's own.")
    if share is not None and share < WEAK:
        found.append(f"Underfit: {share:.0%} of the concept is there; train longer or at higher rates.")
    if unseen:
        found.append(NO_TAG)
    return found or ["No sign of overfit or underfit."]


def prior_knowledge(
    host: Host, words: Sequence[str], seeds: tuple[int, ...], judge: Judge, look: Look | None = None, batch: int = 8
) -> tuple[PriorKnowledge, ...]:
    """What the bare checkpoint makes of each word (a trigger to be, a tag), before anything is trained.

    Raises:
        SettingsError: no word, or no seed.
        LoraLabError: see `LoadedModel.generate`.
    """
    from lora_lab.host.base import PreviewRequest

    if not words or not seeds:
        raise SettingsError("there is nothing to look at", remedy="give a word and a seed")
    shared = vars(look or Look())
    pictures: list[Image.Image] = []
    wanted = [(word, seed) for word in ("", *words) for seed in seeds]
    for at in range(0, len(wanted), batch):
        some = wanted[at : at + batch]
        with host.lease("pictures") as model:
            request = PreviewRequest(tuple(word for word, _ in some), tuple(seed for _, seed in some), **shared)
            pictures += model.generate(request).images
    seen = judge.look(pictures)
    count = len(seeds)
    found = []
    for i, word in enumerate(words, 1):
        gain = seen[i * count : (i + 1) * count].mean(0) - seen[:count].mean(0)
        order = [k for k in (-gain).argsort()[:8] if gain[k] >= 0.15]
        tags = tuple((judge.tags[k].name.replace("_", " "), float(gain[k])) for k in order)
        pairs = zip(pictures[i * count : (i + 1) * count], pictures[:count], strict=True)
        change = sum(measures.perceptual_distance(a, b) for a, b in pairs) / count
        found.append(PriorKnowledge(word, tags, change, _known(word, tags)))
    return tuple(found)


def _known(word: str, tags: Sequence[tuple[str, float]]) -> str:
    if not tags:
        return f"{word!r} means nothing to this checkpoint: free to be a trigger."
    listed = ", ".join(tag for tag, _ in tags[:3])
    return f"{word!r} already brings {listed}: as a trigger it would carry that along."
