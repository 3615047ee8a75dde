"""Pictures that are held out: a share of each concept put aside, and the options that they have. No torch."""

from __future__ import annotations

import dataclasses
import math
import random

from lora_lab.dataset.folders import Subset
from lora_lab.dataset.options import DatasetOptions
from lora_lab.dataset.scan import ScanReport


def plain(options: DatasetOptions) -> DatasetOptions:
    """Held-out pictures are never flipped, coloured or cut at random, and keep their captions and their order whatever
    the run's seed."""
    return dataclasses.replace(
        options,
        seed=0,
        flip_aug=False,
        color_aug=False,
        random_crop=False,
        face_crop_aug_range="",
        cache_latents=True,
        shuffle_caption=False,
        enable_wildcard=False,
        caption_dropout_rate=0.0,
        caption_dropout_every_n_epochs=0,
        caption_tag_dropout_rate=0.0,
        token_warmup_step=0.0,
    )


def once(report: ScanReport) -> ScanReport:
    """Each picture counts once, with `plain` options, no regularisation picture among them."""
    subsets = {
        id(s): dataclasses.replace(s, repeats=1, loss_weight=1.0, options=plain(s.options))
        for s in report.subsets
        if not s.regularisation
    }
    return _with(report, subsets)


def split(report: ScanReport, seed: int) -> tuple[ScanReport, ScanReport | None]:
    """What is trained on, and the share (validation_split) of each subset that is not; None where there is none.

    As kohya's scripts: the pictures are shuffled by validation_seed, the first ceil(n * (1 - share)) are trained on,
    regularisation pictures all.

    Args:
        report: of the pictures.
        seed: of the run, where validation_seed is not set.
    """
    if not any(s.options.validation_split and not s.regularisation for s in report.subsets):
        return report, None
    trained, held = {}, {}
    for subset in report.subsets:
        first, rest = _parted(subset, seed)
        trained[id(subset)] = first
        if rest.pictures:
            held[id(subset)] = rest
    return _with(report, trained), once(_with(report, held)) if held else None


def _parted(subset: Subset, seed: int) -> tuple[Subset, Subset]:
    share, own = subset.options.validation_split, subset.options.validation_seed
    if subset.regularisation or not share:
        return subset, dataclasses.replace(subset, pictures=())
    pictures = list(subset.pictures)
    random.Random(seed if own is None else own).shuffle(pictures)
    count = math.ceil(len(pictures) * (1 - share))
    # In the folder's order again: which pictures they are is what was drawn.
    kept = {id(picture) for picture in pictures[:count]}
    first = tuple(p for p in subset.pictures if id(p) in kept)
    rest = tuple(p for p in subset.pictures if id(p) not in kept)
    return dataclasses.replace(subset, pictures=first), dataclasses.replace(subset, pictures=rest)


def _with(report: ScanReport, subsets: dict[int, Subset]) -> ScanReport:
    """The report of these subsets only (by the identity of those that they replace), and of the pictures they have."""
    there = {(number, id(p)) for number, subset in subsets.items() for p in subset.pictures}
    items = tuple(
        dataclasses.replace(item, subset=subsets[id(item.subset)])
        for item in report.items
        if (id(item.subset), id(item.picture)) in there
    )
    found = tuple(subsets.values())
    options = found[0].options if found else report.options
    return dataclasses.replace(report, options=options, subsets=found, items=items)
