"""Subsets that are named one by one (by a dataset_config or a metadata file), not found below a folder. No torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lora_lab.dataset.folders import Subset, read_subset
from lora_lab.dataset.metadata_file import read_pictures
from lora_lab.dataset.options import DatasetOptions
from lora_lab.dataset.problems import Problem, told
from lora_lab.dataset.scan import ScanReport, examine


@dataclass(frozen=True)
class SubsetSource:
    """Where the pictures of one subset are, and what holds for them."""

    folder: Path | None
    """None only where `metadata` has whole paths."""
    options: DatasetOptions
    name: str = ""
    """kohya's class_tokens: the caption of pictures without one."""
    repeats: int = 1
    regularisation: bool = False
    dataset: int = 0
    loss_weight: float = 1.0
    metadata: Path | None = None

    @property
    def place(self) -> Path:
        """For what is said of it."""
        return self.folder or self.metadata or Path()


def scan_sources(sources: Sequence[SubsetSource]) -> ScanReport:
    """Check the subsets without decoding their pictures.

    Args:
        sources: at least one; the options of those of one dataset have the same sizes.

    Raises:
        DatasetError: a metadata file that cannot be read.
        SettingsError: options that contradict each other.
    """
    subsets: list[Subset] = []
    problems: list[Problem] = []
    seen: set[tuple[int, Path, Path | None]] = set()
    for source in sources:
        source.options.check()
        key = (source.dataset, source.place, source.metadata)
        if key in seen:
            why = "it is named twice in one dataset; the first time counts"
            problems.append(Problem(told(source.place), "twice", why, "take one of them out, or raise num_repeats"))
            continue
        seen.add(key)
        subset, more = _read(source)
        subsets.append(subset)
        problems += more
    return examine(sources[0].place, subsets, problems)


def _read(source: SubsetSource) -> tuple[Subset, list[Problem]]:
    if source.metadata is None:
        assert source.folder is not None
        extension = source.options.caption_extension
        subset, problems = read_subset(
            source.folder, source.repeats, source.name, extension, regularisation=source.regularisation
        )
    else:
        pictures, problems = read_pictures(source.metadata, source.folder, source.options)
        subset = Subset(source.place, source.name, source.repeats, tuple(pictures), source.regularisation)
    subset = dataclasses.replace(
        subset,
        options=source.options,
        dataset=source.dataset,
        loss_weight=source.loss_weight,
        metadata=source.metadata,
    )
    return subset, problems
