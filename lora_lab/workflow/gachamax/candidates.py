"""Candidates of a round: prompts that vary, pictures from them and from the originals, sorted by what they show."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from lora_lab.dataset import pictures
from lora_lab.dataset.buckets import Placement, make_buckets, place
from lora_lab.dataset.captions import first_line, split_tags
from lora_lab.errors import SettingsError
from lora_lab.host.base import PreviewRequest
from lora_lab.tagging import names
from lora_lab.workflow.demo import adapter_of
from lora_lab.workflow.gachamax import likeness
from lora_lab.workflow.gachamax.rounds import Candidate
from lora_lab.workflow.regularisation import Listen, save_picture
from lora_lab.workflow.variants import MARK

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lora_lab.dataset.folders import Picture
    from lora_lab.dataset.options import DatasetOptions
    from lora_lab.host.base import Host, LoadedModel
    from lora_lab.tagging.session import Tagger

LEAST_CFG, MOST_CFG = 5.0, 7.0
"""The guide's: above, contrast and saturation go into the LoRA."""
FOUND = 0.5
"""A tag of the prompt counts as obeyed from this probability on."""


@dataclass(frozen=True)
class CandidateSettings:
    """How candidates are made."""

    trigger: str
    count: int = 16
    """1 to 200."""
    vary: tuple[tuple[str, ...], ...] = ()
    """Groups of tags: a prompt takes one of each, or none. Without any, the captions' own tags, each taken or not."""
    from_originals: float = 0.5
    """The share that starts from an original by img2img, 0 to 1; the rest come from their prompt alone."""
    denoise: float = 0.7
    """Of img2img: the guide's value, which changes pose and style and keeps the colours' places."""
    cfg_scale: float = 6.0
    """`LEAST_CFG` to `MOST_CFG`."""
    steps: int = 20
    sampler: str = "Euler a"
    negative: str = ""
    batch_size: int = 4
    seed: int = 1
    beside: tuple[tuple[Path, float], ...] = field(default=())
    """LoRAs that act beside it, with their strengths: a style's, for variety."""

    def check(self) -> None:
        """Refuse what cannot be made.

        Raises:
            SettingsError: the reason.
        """
        if not self.trigger.strip():
            raise SettingsError("there is no trigger", remedy="give the tag that calls the subject")
        if not 1 <= self.count <= 200:
            raise SettingsError(f"count is {self.count}", remedy="give 1 to 200")
        if not LEAST_CFG <= self.cfg_scale <= MOST_CFG:
            what = f"cfg_scale is {self.cfg_scale:g}, and its contrast would go into the LoRA"
            raise SettingsError(what, remedy=f"give {LEAST_CFG:g} to {MOST_CFG:g}")
        if not 0 <= self.from_originals <= 1 or not 0 < self.denoise <= 1:
            raise SettingsError("from_originals is 0 to 1, denoise above 0 to 1", remedy="give such numbers")
        if self.batch_size < 1 or self.steps < 1:
            raise SettingsError("batch_size and steps are at least 1", remedy="give 1 or more")


@dataclass(frozen=True)
class Eye:
    """What looks at pictures, and what the dataset is in its eyes."""

    tagger: Tagger
    concept: likeness.Concept
    there: NDArray[np.float32]
    """Thumbnails of the dataset's pictures."""


@dataclass(frozen=True)
class _Wish:
    """A candidate before it is made."""

    seed: int
    tags: tuple[str, ...]
    original: Picture | None


@dataclass(frozen=True)
class Made:
    """What a round's pictures came out as."""

    candidates: tuple[Candidate, ...]
    """The best first."""
    concept: float
    flexibility: float | None
    """None when no prompt asked for a tag that the tagger knows."""


def wishes(settings: CandidateSettings, originals: Sequence[Picture]) -> list[_Wish]:
    """Prompts and starting points, drawn by the seed."""
    r = random.Random(f"gachamax {settings.seed}")
    from_originals = round(settings.count * settings.from_originals)
    found = []
    for n in range(settings.count):
        picture = originals[n % len(originals)]
        if settings.vary:
            tags = [tag for group in settings.vary if (tag := r.choice(("", *group, *group, *group)))]
        else:
            tags = [t for t in split_tags(first_line(picture.caption)) if t != settings.trigger and r.random() < 0.5]
        found.append(_Wish(settings.seed + n, tuple(tags), picture if n < from_originals else None))
    return found


def make(
    host: Host, lora: Path, originals: Sequence[Picture], options: DatasetOptions, settings: CandidateSettings,
    folder: Path, listen: Listen,
) -> list[tuple[_Wish, Path]]:  # fmt: skip
    """Make the pictures; they have the size of their original's bucket.

    Args:
        host: lends the live model, whichever checkpoint it is: another one than the LoRA's brings variety.
        lora: of the round's run.
        originals: the person's own pictures.
        options: of the dataset.
        settings: how.
        folder: of the round.
        listen: told of each batch; raises `Interrupted` to stop.

    Raises:
        AdapterFileError: the LoRA, or one beside it, does not fit the live checkpoint.
        HostBusyError, OutputError: as they say.
    """
    made: list[tuple[_Wish, Path]] = []
    asked = wishes(settings, originals)
    for batch in _batches(asked, options, originals, settings.batch_size):
        placed = _placed(batch[0].original or originals[0], options)
        with host.lease("pictures") as model, ExitStack() as stack:
            _attach(stack, model, lora, settings)
            result = model.generate(_request(host, batch, options, placed.bucket, settings))
        for wish, image, infotext in zip(batch, result.images, result.infotexts, strict=True):
            path = folder / f"{folder.name}{MARK}{wish.seed}.png"
            save_picture(image, path, infotext, ", ".join((settings.trigger, *wish.tags)))
            made.append((wish, path))
        listen("candidates", len(made), len(asked))
    return made


def look(made: Sequence[tuple[_Wish, Path]], trigger: str, eye: Eye) -> Made:
    """Score and sort what was made."""
    images = [Image.open(path).convert("RGB") for _, path in made]
    probabilities, small = eye.tagger.probabilities(images), likeness.thumbnails(images)
    alike = eye.concept.likeness(probabilities)
    best, apart = likeness.order(alike, small, eye.there)
    columns = {names.key(tag.name): i for i, tag in enumerate(eye.tagger.tags)}
    obeyed = [_obeyed(wish, row, columns) for (wish, _), row in zip(made, probabilities, strict=True)]
    candidates = [
        Candidate(
            file=path.name, caption=", ".join((trigger, *(tag for tag, yes in asked.items() if yes is not False))),
            likeness=round(float(alike[i]), 4), apart=round(float(apart[i]), 4),
            original=wish.original.path.name if wish.original else "", copy=float(apart[i]) < likeness.COPY,
        )
        for i, ((wish, path), asked) in enumerate(zip(made, obeyed, strict=True))
    ]  # fmt: skip
    alone = [i for i, (wish, _) in enumerate(made) if wish.original is None] or list(range(len(made)))
    known = [yes for i in alone for yes in obeyed[i].values() if yes is not None]
    flexible = sum(known) / len(known) if known else None
    return Made(tuple(candidates[i] for i in best), float(alike[alone].mean()), flexible)


def _obeyed(wish: _Wish, row: NDArray[np.float32], columns: dict[str, int]) -> dict[str, bool | None]:
    """Of each asked tag: does the picture show it? None where the tagger does not know it."""
    found: dict[str, bool | None] = {}
    for tag in wish.tags:
        column = columns.get(names.key(tag))
        found[tag] = None if column is None else bool(row[column] >= FOUND)
    return found


def _attach(stack: ExitStack, model: LoadedModel, lora: Path, settings: CandidateSettings) -> None:
    for path, strength in ((lora, 1.0), *settings.beside):
        adapter = adapter_of(model, path).to(model.device)
        stack.enter_context(adapter.scaled(unet=strength, text_encoder=strength))
        stack.enter_context(adapter.attached())


def _request(
    host: Host, batch: Sequence[_Wish], options: DatasetOptions, size: tuple[int, int], settings: CandidateSettings
) -> PreviewRequest:
    starts = tuple(pictures.load(w.original.path, _placed(w.original, options)) for w in batch if w.original)
    return PreviewRequest(
        prompts=tuple(host.as_prompt(", ".join((settings.trigger, *wish.tags))) for wish in batch),
        seeds=tuple(wish.seed for wish in batch), negative=settings.negative, width=size[0], height=size[1],
        steps=settings.steps, cfg_scale=settings.cfg_scale, sampler=settings.sampler, init_images=starts,
        denoise=settings.denoise,
    )  # fmt: skip


def _placed(picture: Picture, options: DatasetOptions) -> Placement:
    return place(picture.size, options, make_buckets(options))


def _batches(
    asked: Sequence[_Wish], options: DatasetOptions, originals: Sequence[Picture], most: int
) -> list[list[_Wish]]:
    """Of one size and one way each."""
    groups: dict[Any, list[_Wish]] = {}
    for wish in asked:
        size = _placed(wish.original or originals[0], options).bucket
        groups.setdefault((size, wish.original is not None), []).append(wish)
    return [group[i : i + most] for group in groups.values() for i in range(0, len(group), most)]


