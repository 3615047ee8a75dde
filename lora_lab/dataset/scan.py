"""The dataset check: what is there, what will hurt and why, the buckets, and what an epoch is in steps. No torch."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_lab.dataset.buckets import Placement, Size, make_buckets, place
from lora_lab.dataset.captions import first_line, lines_of, split_tags
from lora_lab.dataset.folders import Picture, Subset, read_root
from lora_lab.dataset.options import DatasetOptions
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
        """A batch never mixes buckets, and each bucket's last batch is short."""
        size = self.options.train_batch_size
        return sum(math.ceil(count / size) for count in self.bucket_counts.values())

    def steps_per_epoch(self, gradient_accumulation_steps: int = 1) -> int:
        """Optimizer updates of one epoch."""
        return math.ceil(self.batches_per_epoch / gradient_accumulation_steps)

    def tag_frequency(self) -> dict[str, dict[str, int]]:
        """Folder -> tag in lower case -> captions that have it (kohya's ss_tag_frequency; repeats not counted)."""
        wild = self.options.enable_wildcard
        return {
            subset.folder.name: dict(Counter(tag.lower() for p in subset.pictures for tag in _tags(p.caption, wild)))
            for subset in self.subsets
            if not subset.regularisation
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
    buckets = make_buckets(options)
    items = [Item(s, p, place(p.size, options, buckets)) for s in subsets for p in s.pictures]
    problems += [found for item in items for found in _item_problems(item, options)]
    problems += [p for s in subsets if not s.regularisation for p in _caption_problems(s)]
    return ScanReport(folder, options, tuple(subsets), tuple(items), tuple(problems))


def require_pictures(report: ScanReport) -> None:
    """Stop before a training without pictures.

    Raises:
        DatasetError: names the first thing that is wrong.
    """
    if any(not item.subset.regularisation for item in report.items):
        return
    first = next((p for p in report.problems if p.severity == "error"), None) or next(iter(report.problems), None)
    if first is None:
        raise DatasetError("there is no picture to train on", file=report.folder, remedy="put pictures into it")
    raise DatasetError(f"there is no picture to train on: {first.why}", file=first.file, remedy=first.remedy)


def epoch_items(report: ScanReport) -> list[tuple[Item, int]]:
    """Each picture of an epoch and how often it comes.

    Training pictures come `repeats` times. Regularisation pictures are entered in order with their own repeats until
    there are at least as many as training items (kohya; the last one entered may go beyond); too few get one repeat
    more in turn, of too many the rest is unused.
    """
    train = [(item, item.subset.repeats) for item in report.items if not item.subset.regularisation]
    reg = [item for item in report.items if item.subset.regularisation]
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


def _tags(caption: str, wild: bool) -> list[str]:
    """The tags that training may see of a caption file."""
    return split_tags(",".join(lines_of(caption)) if wild else first_line(caption))


def _has_entries(folder: Path) -> bool:
    """An empty regularisation folder means none, as in the scripts people have."""
    return not folder.is_dir() or any(folder.iterdir())


def _item_problems(item: Item, options: DatasetOptions) -> list[Problem]:
    found = []
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
    if item.picture.has_alpha:
        why = "its transparent parts are laid on white"
        found.append(Problem(name, "alpha", why, "give it the background that you want", "note"))
    return found


def _caption_problems(subset: Subset) -> list[Problem]:
    bare = [p for p in subset.pictures if not p.has_caption]
    if not bare:
        return []
    if len(bare) == len(subset.pictures):
        why = f"no picture has a caption: all are trained on the folder's word '{subset.name}' (keyword style)"
        remedy = "tag them if the parts are to be promptable"
        return [Problem(told(subset.folder), "keyword-style", why, remedy, "note")]
    return [
        Problem(told(p.path), "no-caption", f"it has no caption, others have: trained on '{subset.name}'", "tag it")
        for p in bare
    ]
