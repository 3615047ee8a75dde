"""The captions of a run before it starts, as the text encoder will get them, and where they are cut. No torch."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from lora_lab.dataset.epochs import Epochs
from lora_lab.dataset.scan import ScanReport
from lora_lab.training.plan import Plan
from lora_lab.training.settings import TrainSettings
from lora_lab.training.text.brackets import parse, plain

SHOWN = 10
Counter = Callable[[str], int]
"""Tokens of a text for the live checkpoint, begin and end apart."""


@dataclass(frozen=True)
class ShownCaption:
    """One caption of the first epoch."""

    picture: Path
    read: str
    """What the text encoder reads."""
    cut: str
    """What does not fit any more."""
    tokens: int | None
    """Of both; None while no checkpoint is loaded."""
    weights: tuple[tuple[str, float], ...] = ()
    """Words that brackets weigh, with weighted_captions."""


@dataclass(frozen=True)
class CaptionPreview:
    """The first captions of a run."""

    captions: tuple[ShownCaption, ...]
    total: int
    """Captions of an epoch."""
    room: int
    """Tokens."""
    certain: bool
    """Will they come so? Only with a seed."""


def preview(report: ScanReport, settings: TrainSettings, plan: Plan, counter: Counter | None) -> CaptionPreview:
    """The captions of the first batches, drawn as the run will draw them.

    Args:
        report: of what is trained on, scanned with the run's seed.
        settings: of the run.
        plan: of them.
        counter: of the live checkpoint.

    Raises:
        DatasetError: there is no picture to train on, or a mask is missing.
    """
    epochs = Epochs(report)
    epochs.steps = plan.steps
    found: list[ShownCaption] = []
    for number, batch in enumerate(epochs.batches(1)):
        if len(found) >= SHOWN:
            break
        for index in batch.indices[: SHOWN - len(found)]:
            text = epochs.caption(index, 1, number // settings.gradient_accumulation_steps)
            shown = _shown(text, settings, counter)
            found.append(replace(shown, picture=epochs.items[index].picture.path))
    return CaptionPreview(tuple(found), len(epochs.items), settings.max_token_length, settings.seed is not None)


def _shown(text: str, settings: TrainSettings, counter: Counter | None) -> ShownCaption:
    weights: tuple[tuple[str, float], ...] = ()
    if settings.weighted_captions:
        pieces = parse(text)
        text = re.sub(r"\s+(,?)", lambda found: found[1] or " ", plain(pieces)).strip()
        weights = tuple((word.strip(" ,"), weight) for word, weight in pieces if weight != 1 and word.strip(" ,"))
    if counter is None:
        return ShownCaption(Path(), text, "", None, weights)
    tokens = counter(text)
    end = len(text) if tokens <= settings.max_token_length else where_cut(text, settings.max_token_length, counter)
    return ShownCaption(Path(), text[:end], text[end:], tokens, weights)


def where_cut(text: str, room: int, counter: Counter) -> int:
    """Letters of the longest beginning, ending at a blank or a comma, that has at most `room` tokens."""
    ends = [0, *(found.start() for found in re.finditer(r"[\s,]", text)), len(text)]
    low, high = 0, len(ends) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if counter(text[: ends[middle]]) <= room:
            low = middle
        else:
            high = middle - 1
    return ends[low]
