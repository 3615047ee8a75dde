"""The dataset check: what is there, what will hurt and why, the buckets, and what an epoch is in steps. No torch."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from lora_lab.dataset.buckets import Placement, Size, make_buckets, place
from lora_lab.dataset.captions import first_line, lines_of, split_tags
from lora_lab.dataset.faces import face_of
from lora_lab.dataset.folders import Picture, Subset, read_root
from lora_lab.dataset.masks import RULES, with_masks
from lora_lab.dataset.options import DatasetOptions, parse_weights
from lora_lab.dataset.problems import Problem, told
from lora_lab.errors import DatasetError

UPSCALED = 0.6
"""A picture that covers less than this share of its bucket's side is enlarged until it is soft."""
CROPPED = 0.2
"""A crop that takes away more than this share may take the subject with it."""


@dataclass(frozen=True)
class Item:
    """A picture in its bucket."""

    subset: Subset
    picture: Picture
    placement: Placement


@dataclass(frozen=True)
class ScanReport:
    """A dataset, checked."""

    folder: Path
    options: DatasetOptions
    """Of the first dataset; each subset has its own."""
    subsets: tuple[Subset, ...]
    """Training subsets, then regularisation subsets."""
    items: tuple[Item, ...]
    """Every usable picture once, in the order of the subsets."""
    problems: tuple[Problem, ...]

    @property
    def images(self) -> int:
        """Usable pictures, regularisation pictures among them."""
        return len(self.items)

    @property
    def bucket_counts(self) -> dict[Size, int]:
        """Bucket -> training items of an epoch (repeats counted), sorted by size."""
        counts: Counter[Size] = Counter()
        for item, repeats in epoch_items(self):
            counts[item.placement.bucket] += repeats
        return dict(sorted(counts.items()))

    @property
    def batches_per_epoch(self) -> int:
        """A batch never mixes buckets or datasets, and each bucket's last batch is short."""
        counts: Counter[tuple[int, Size, int]] = Counter()
        for item, repeats in epoch_items(self):
            subset = item.subset
            counts[subset.dataset, item.placement.bucket, subset.options.train_batch_size] += repeats
        return sum(math.ceil(count / size) for (_, _, size), count in counts.items())

    def steps_per_epoch(self, gradient_accumulation_steps: int = 1) -> int:
        """Optimizer updates of one epoch."""
        return math.ceil(self.batches_per_epoch / gradient_accumulation_steps)

    def tag_frequency(self) -> dict[str, dict[str, int]]:
        """Folder -> tag in lower case -> captions that have it (kohya's ss_tag_frequency; repeats not counted)."""
        return {
            s.label: dict(Counter(tag.lower() for p in s.pictures for tag in _tags(p.caption, s.options)))
            for s in self.subsets
            if not s.regularisation
        }

    def to_json(self) -> dict[str, Any]:
        """The keys of `lora-lab scan --json`."""
        return {
            "images": self.images,
            "subsets": [
                {
                    "folder": told(s.folder), "name": s.name, "repeats": s.repeats, "images": len(s.pictures),
                    "captions": sum(p.has_caption for p in s.pictures), "regularisation": s.regularisation,
                }
                for s in self.subsets
            ],
            "buckets": [{"size": list(size), "count": count} for size, count in self.bucket_counts.items()],
            "steps_per_epoch": self.steps_per_epoch(),
            "problems": [problem.to_json() for problem in self.problems],
        }  # fmt: skip


def scan(folder: Path, options: DatasetOptions, reg_folder: Path | None = None) -> ScanReport:
    """Check a dataset without decoding its pictures.

    Args:
        folder: holds ``<repeats>_<name>`` folders, or pictures.
        options: sizes, buckets, caption extension.
        reg_folder: regularisation pictures, in the same form.

    Raises:
        DatasetError: no such folder. An empty one, or one with broken pictures only, is a report with problems.
        SettingsError: options that contradict each other.
    """
    options.check()
    subsets, problems = read_root(folder, options.caption_extension)
    if reg_folder is not None and _has_entries(reg_folder):
        reg, more = read_root(reg_folder, options.caption_extension, regularisation=True)
        subsets, problems = subsets + reg, problems + more
    weights = parse_weights(options.loss_weights)
    unknown = [name for name in weights if all(name not in (s.folder.name, s.name) for s in subsets)]
    why = "loss_weights names it, and there is no such concept"
    problems += [Problem(name, "no-such-concept", why, "write the name of a folder") for name in unknown]
    weighed = [dataclasses.replace(s, options=options, loss_weight=_weight(s, weights)) for s in subsets]
    return examine(folder, weighed, problems)


def examine(folder: Path, subsets: Sequence[Subset], problems: Sequence[Problem]) -> ScanReport:
    """Masks, buckets and remarks of subsets that carry their options.

    Args:
        folder: for what is said of all of them.
        subsets: at least one; those of one dataset have the same sizes.
        problems: found so far.
    """
    found = list(problems)
    masked = []
    for subset in subsets:
        more, odd = with_masks(subset)
        masked.append(more)
        found += odd
    items = [Item(s, p, place(p.size, s.options, _buckets(s.options))) for s in masked for p in s.pictures]
    found += [problem for item in items for problem in _item_problems(item)]
    found += [p for s in masked if not s.regularisation for p in _caption_problems(s)]
    options = masked[0].options if masked else DatasetOptions()
    return ScanReport(folder, options, tuple(masked), tuple(items), tuple(found))


@lru_cache(maxsize=64)
def _buckets(options: DatasetOptions) -> list[Size]:
    return make_buckets(options)


def _weight(subset: Subset, weights: dict[str, float]) -> float:
    """By the folder's name, with or without its repeats."""
    return weights.get(subset.folder.name, weights.get(subset.name, 1.0))


def require_pictures(report: ScanReport) -> None:
    """Stop before a training without pictures.

    Raises:
        DatasetError: names the first thing that is wrong, a missing mask too.
    """
    mask = next((p for p in report.problems if p.rule in RULES), None)
    if mask is not None:
        raise DatasetError(mask.why, file=mask.file, remedy=mask.remedy)
    if any(not item.subset.regularisation for item in report.items):
        return
    first = next((p for p in report.problems if p.severity == "error"), None) or next(iter(report.problems), None)
    if first is None:
        raise DatasetError("there is no picture to train on", file=report.folder, remedy="put pictures into it")
    raise DatasetError(f"there is no picture to train on: {first.why}", file=first.file, remedy=first.remedy)


def epoch_items(report: ScanReport) -> list[tuple[Item, int]]:
    """Each picture of an epoch and how often it comes.

    Training pictures come `repeats` times. Regularisation pictures are entered in order with their own repeats until
    there are at least as many as training items of their dataset (kohya; the last one entered may go beyond); too few
    get one repeat more in turn, of too many the rest is unused.
    """
    found: list[tuple[Item, int]] = []
    for number in dict.fromkeys(item.subset.dataset for item in report.items):
        found += _dataset_items([item for item in report.items if item.subset.dataset == number])
    return found


def _dataset_items(items: Sequence[Item]) -> list[tuple[Item, int]]:
    """`epoch_items` of one dataset."""
    train = [(item, item.subset.repeats) for item in items if not item.subset.regularisation]
    reg = [item for item in items if item.subset.regularisation]
    wanted = sum(repeats for _, repeats in train)
    counts: list[int] = []
    short = wanted
    for item in reg:
        if short <= 0:
            break
        counts.append(item.subset.repeats)
        short -= item.subset.repeats
    short = max(0, short)
    counts = [count + short // len(counts) + (i < short % len(counts)) for i, count in enumerate(counts)]
    return train + list(zip(reg, counts, strict=False))


def _tags(caption: str, options: DatasetOptions) -> list[str]:
    """The tags that training may see of a caption file."""
    comma = options.caption_separator
    return split_tags(comma.join(lines_of(caption)) if options.enable_wildcard else first_line(caption), comma)


def _has_entries(folder: Path) -> bool:
    """An empty regularisation folder means none, as in the scripts people have."""
    return not folder.is_dir() or any(folder.iterdir())


def _item_problems(item: Item) -> list[Problem]:
    found, options = [], item.subset.options
    name, (width, height) = told(item.picture.path), item.picture.size
    bucket, resized = item.placement.bucket, item.placement.resized
    if width < resized[0] * UPSCALED:
        why = f"{width} x {height} pixels must be enlarged to {resized[0]} x {resized[1]}, which makes it soft"
        found.append(Problem(name, "small", why, "use a larger version, or a smaller resolution"))
    if item.placement.lost > CROPPED:
        why = f"{item.placement.lost:.0%} of it are cut off to fit {bucket[0]} x {bucket[1]}"
        found.append(Problem(name, "cropped", why, "crop it yourself, or allow longer buckets (max_bucket_reso)"))
    if not options.enable_bucket and (width, height) != options.resolution:
        why = f"{width} x {height} pixels are resized and cropped to {bucket[0]} x {bucket[1]}"
        found.append(Problem(name, "not-the-resolution", why, "turn enable_bucket on to keep its shape", "note"))
    if options.faces and face_of(item.picture.path) is None:
        why = "its name does not say where the face is, so it is cut like any other"
        found.append(Problem(name, "no-face", why, "end the name in _x_y_width_height, the middle of the face first"))
    if item.picture.has_alpha and not options.alpha_mask:
        why = "its transparent parts are laid on white"
        found.append(Problem(name, "alpha", why, "give it the background that you want", "note"))
    return found


def _caption_problems(subset: Subset) -> list[Problem]:
    bare = [p for p in subset.pictures if not p.has_caption]
    if not bare:
        return []
    if not subset.name:
        why = "it has no caption and no class_tokens, so it is trained without words"
        return [Problem(told(p.path), "no-caption", why, "tag it, or set class_tokens") for p in bare]
    if len(bare) == len(subset.pictures):
        why = f"no picture has a caption: all are trained on the folder's word '{subset.name}' (keyword style)"
        remedy = "tag them if the parts are to be promptable"
        return [Problem(told(subset.folder), "keyword-style", why, remedy, "note")]
    return [
        Problem(told(p.path), "no-caption", f"it has no caption, others have: trained on '{subset.name}'", "tag it")
        for p in bare
    ]
