"""Scoring a LoRA on generated pictures: its concept with the trigger, its leakage without, its room for other tags."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from lora_lab.dataset.captions import first_line, split_tags
from lora_lab.dataset.folders import Picture, read_root
from lora_lab.errors import DatasetError
from lora_lab.host.base import PreviewRequest
from lora_lab.tagging import names
from lora_lab.workflow.compare_runs import Score
from lora_lab.workflow.demo import adapter_of
from lora_lab.workflow.gachamax import likeness
from lora_lab.workflow.regularisation import Listen

if TYPE_CHECKING:
    from lora_lab.host.base import Host
    from lora_lab.tagging.session import Tagger

LOOKED_AT = 24
"""Pictures of the dataset that say what its subject is."""
FOUND = 0.5
"""A tag counts as obeyed from this probability on."""


@dataclass(frozen=True)
class Probe:
    """How pictures are made for a score; the same for all runs that are compared."""

    trigger: str
    size: int = 512
    steps: int = 20
    cfg_scale: float = 7.0
    sampler: str = "Euler"
    seed: int = 1000
    pictures: int = 8
    """Of each kind: the trigger alone, the trigger with other tags, other tags alone."""
    batch: int = 4


def score(host: Host, lora: Path, dataset: Path, probe: Probe, tagger: Tagger, listen: Listen) -> Score:
    """Make the pictures and look at them.

    Args:
        host: with the checkpoint that the LoRA is used on.
        lora: its file.
        dataset: whose subject it learnt.
        probe: how.
        tagger: opened.
        listen: told of each batch; raises `Interrupted` to stop.

    Raises:
        DatasetError: the dataset holds no picture.
        AdapterFileError: the LoRA does not fit the checkpoint.
    """
    own = pictures_of(dataset)
    concept = _concept(own, tagger)
    others = [" ".join(", ".join(_without(picture, probe.trigger)).split()) or "1girl" for picture in own]
    neutral = [others[i % len(others)] for i in range(probe.pictures)]
    alone = [probe.trigger] * probe.pictures
    beside = [f"{probe.trigger}, {text}" for text in neutral]
    total = 4 * probe.pictures
    bare = _make(host, None, neutral, probe, lambda done: listen("the bare checkpoint", done, total))
    made = _make(host, lora, [*alone, *beside, *neutral], probe,
                 lambda done: listen("with the LoRA", probe.pictures + done, total))  # fmt: skip
    n = probe.pictures
    called, obeyed, free = made[:n], made[n : 2 * n], made[2 * n :]
    seen = concept.likeness(tagger.probabilities(called))
    leaked = concept.likeness(tagger.probabilities(free)).mean() - concept.likeness(tagger.probabilities(bare)).mean()
    apart = np.abs(likeness.thumbnails(free) - likeness.thumbnails(bare)).mean()
    return Score(
        round(float(seen.mean()), 4), round(max(0.0, float(leaked)), 4), round(float(apart), 4),
        _flexibility(obeyed, beside, probe.trigger, concept, tagger),
    )  # fmt: skip


def pictures_of(dataset: Path) -> list[Picture]:
    """Some of a dataset's pictures, from all over it.

    Raises:
        DatasetError: there is none.
    """
    subsets, _ = read_root(dataset, ".txt")
    found = [picture for subset in subsets for picture in subset.pictures]
    if not found:
        raise DatasetError("there is no picture to compare with", file=dataset, remedy="choose the dataset's folder")
    return found[:: -(-len(found) // LOOKED_AT)]


def _concept(own: Sequence[Picture], tagger: Tagger) -> likeness.Concept:
    images = [Image.open(picture.path).convert("RGB") for picture in own]
    captions = [split_tags(first_line(picture.caption)) for picture in own]
    return likeness.concept_of(tagger.probabilities(images), tagger.tags, captions)


def _without(picture: Picture, trigger: str) -> list[str]:
    return [tag for tag in split_tags(first_line(picture.caption)) if names.key(tag) != names.key(trigger)]


def _make(
    host: Host, lora: Path | None, prompts: Sequence[str], probe: Probe, told: Callable[[int], None]
) -> list[Image.Image]:
    """A picture of each prompt; equal places have equal seeds, with the LoRA and without."""
    made: list[Image.Image] = []
    for start in range(0, len(prompts), probe.batch):
        some = tuple(host.as_prompt(text) for text in prompts[start : start + probe.batch])
        seeds = tuple(probe.seed + (start + i) % probe.pictures for i in range(len(some)))
        request = PreviewRequest(
            some, seeds, width=probe.size, height=probe.size, steps=probe.steps, cfg_scale=probe.cfg_scale,
            sampler=probe.sampler,
        )  # fmt: skip
        with host.lease("pictures") as model, ExitStack() as stack:
            if lora is not None:
                stack.enter_context(adapter_of(model, lora).to(model.device).attached())
            made += model.generate(request).images
        told(len(made))
    return made


def _flexibility(
    images: Sequence[Image.Image], prompts: Sequence[str], trigger: str, concept: likeness.Concept, tagger: Tagger
) -> float | None:
    """Of the tags beside the trigger that the tagger knows and that are not the subject's: how many are found?"""
    columns = {names.key(tag.name): i for i, tag in enumerate(tagger.tags)}
    own = {names.key(tag) for tag in (*concept.tags, trigger)}
    probabilities = tagger.probabilities(images)
    found = [
        float(probabilities[i, columns[names.key(tag)]]) >= FOUND
        for i, prompt in enumerate(prompts)
        for tag in split_tags(prompt)
        if names.key(tag) in columns and names.key(tag) not in own
    ]
    return round(sum(found) / len(found), 4) if found else None
