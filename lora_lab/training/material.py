"""The pictures of a run: settings to dataset options, and what plan, metadata and person want to know of the scan."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lora_lab.dataset.dataset import Dataset, Encode
from lora_lab.dataset.held_out import once, split
from lora_lab.dataset.scan import ScanReport, epoch_items, scan
from lora_lab.errors import DatasetError
from lora_lab.training.dataset_config import scan_of
from lora_lab.training.dataset_facts import facts_of
from lora_lab.training.events import Event, Progress, Warned
from lora_lab.training.plan import options_of
from lora_lab.training.record.metadata import DatasetFacts
from lora_lab.training.settings import TrainSettings
from lora_lab.training.text.text_cache import captions_of

TOLD = 10
"""So many problems of the pictures are told one by one."""


@dataclass(frozen=True)
class Material:
    """The pictures that are trained on, and those that are held out."""

    train: Dataset
    validation: Dataset | None
    facts: DatasetFacts
    warnings: tuple[str, ...]

    @property
    def pictures(self) -> int:
        """Training pictures, repeats not counted."""
        return sum(not item.subset.regularisation for item in self.train.report.items)

    @property
    def moving(self) -> bool:
        """Do captions change from epoch to epoch?"""
        options = [subset.options for subset in self.train.report.subsets]
        return any(own.moves_tags or own.enable_wildcard for own in options)

    def captions(self) -> list[str]:
        """All captions that the run may meet, for the text encoder's cache.

        Raises:
            DatasetError: one has too many variants.
        """
        held_out = () if self.validation is None else self.validation.epochs.items
        return captions_of({id(item): item for item in (*self.train.epochs.items, *held_out)}.values())

    @cached_property
    def fingerprint(self) -> str:
        """Changes with the pictures, their captions, their buckets, repeats or order, and with what their masks show.

        Raises:
            DatasetError: a mask cannot be read.
        """
        digest = hashlib.sha256()
        for item, count in epoch_items(self.train.report):
            picture = item.picture
            line = [picture.path.name, list(picture.size), picture.caption, list(item.placement.bucket), count]
            line += [] if picture.mask is None else [picture.mask.name, _sum_of(picture.mask)]
            digest.update(json.dumps(line).encode())
        return digest.hexdigest()[:16]

    def prepare(self, encode: Encode, vae: str, stop: Callable[[], bool]) -> Iterator[Event]:
        """Cache the latents; ends early when `stop` says so. `vae` changes when latents would be others.

        Raises:
            DatasetError: a picture that cannot be decoded, or whose latent is no number.
        """
        for dataset in (self.train, self.validation):
            if dataset is None:
                continue
            for done, total in dataset.prepare(encode, vae):
                yield Progress("caching latents", done, total)
                if stop():
                    return
            if dataset.warning:
                yield Warned(f"{dataset.warning}.")


def _sum_of(path: Path) -> int:
    """Of a file's bytes. A mask is small, and is painted anew without changing its name or size."""
    try:
        return zlib.crc32(path.read_bytes())
    except OSError as error:
        raise DatasetError(f"the mask cannot be read, {error.strerror}", file=path) from error


def gather(settings: TrainSettings, seed: int, cache_dir: Path, processes: int = 1) -> Material:
    """Scan the folders.

    Args:
        settings: checked ones.
        seed: of the run.
        cache_dir: for latents on disk.
        processes: that train together: a batch holds train_batch_size items for each.

    Raises:
        DatasetError: no such folder, or no picture in it that can be used.
    """
    report, told = scan_of(settings, seed)
    report, held_out = split(report, seed)
    if settings.validation_data_dir:
        held_out = once(scan(Path(settings.validation_data_dir), options_of(settings, seed)))
    facts = facts_of(report, 0 if held_out is None else held_out.images, by_config=bool(settings.dataset_config))
    if processes > 1:
        report = together(report, processes)
        facts = dataclasses.replace(facts, batches_per_epoch=report.batches_per_epoch)
    return Material(
        train=Dataset(report, cache_dir),
        validation=None if held_out is None else Dataset(held_out, cache_dir),
        facts=facts,
        warnings=told + _warnings(report),
    )


def together(report: ScanReport, processes: int) -> ScanReport:
    """The pictures for processes that train together: a batch holds train_batch_size items for each of them."""
    larger = {}
    for subset in report.subsets:
        options = dataclasses.replace(subset.options, train_batch_size=subset.options.train_batch_size * processes)
        larger[id(subset)] = dataclasses.replace(subset, options=options)
    items = tuple(dataclasses.replace(item, subset=larger[id(item.subset)]) for item in report.items)
    return dataclasses.replace(report, subsets=tuple(larger.values()), items=items)


def _warnings(report: ScanReport) -> tuple[str, ...]:
    """Pictures that are skipped, and pictures that will hurt."""
    found = [p for p in report.problems if p.severity != "note"]
    texts = [str(DatasetError(p.why, file=p.file, remedy=p.remedy)) for p in found[:TOLD]]
    if len(found) > TOLD:
        texts.append(f"{len(found) - TOLD} more remarks on the pictures: see the dataset check.")
    return tuple(texts)
