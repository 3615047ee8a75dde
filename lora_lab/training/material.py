"""The pictures of a run: settings to dataset options, and what plan, metadata and person want to know of the scan."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_lab.dataset.dataset import Dataset, Encode
from lora_lab.dataset.options import DatasetOptions
from lora_lab.dataset.scan import ScanReport, epoch_items, scan
from lora_lab.errors import DatasetError
from lora_lab.training.events import Event, Progress, Warned
from lora_lab.training.metadata import DatasetFacts
from lora_lab.training.plan import options_of
from lora_lab.training.settings import TrainSettings

if TYPE_CHECKING:
    from lora_lab.host.base import CheckpointInfo

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
    def fingerprint(self) -> str:
        """Changes with the pictures, their captions, their buckets, repeats or order."""
        digest = hashlib.sha256()
        for item, count in epoch_items(self.train.report):
            picture = item.picture
            line = [picture.path.name, list(picture.size), picture.caption, list(item.placement.bucket), count]
            digest.update(json.dumps(line).encode())
        return digest.hexdigest()[:16]

    def prepare(self, encode: Encode, checkpoint: CheckpointInfo, stop: Callable[[], bool]) -> Iterator[Event]:
        """Cache the latents; ends early when `stop` says so.

        Raises:
            DatasetError: a picture that cannot be decoded, or whose latent is no number.
        """
        vae = f"{checkpoint.vae_name or ''} {checkpoint.identity}"
        for dataset in (self.train, self.validation):
            if dataset is None:
                continue
            for done, total in dataset.prepare(encode, vae):
                yield Progress("caching latents", done, total)
                if stop():
                    return
            if dataset.warning:
                yield Warned(f"{dataset.warning}.")


def gather(settings: TrainSettings, seed: int, cache_dir: Path) -> Material:
    """Scan the folders.

    Args:
        settings: checked ones.
        seed: of the run.
        cache_dir: for latents on disk.

    Raises:
        DatasetError: no such folder, or no picture in it that can be used.
    """
    options = options_of(settings, seed)
    reg = Path(settings.reg_data_dir) if settings.reg_data_dir else None
    report = scan(Path(settings.train_data_dir), options, reg)
    train = Dataset(report, cache_dir)
    held_out = _held_out(settings, options) if settings.validation_data_dir else None
    validation = None if held_out is None else Dataset(held_out, cache_dir)
    return Material(
        train=train,
        validation=validation,
        facts=facts_of(report, 0 if held_out is None else held_out.images),
        warnings=_warnings(report),
    )


def _held_out(settings: TrainSettings, options: DatasetOptions) -> ScanReport:
    """Held-out pictures count once each, are never flipped or cut at random, and keep their captions and their
    order whatever the run's seed."""
    plain = dataclasses.replace(
        options,
        seed=0,
        flip_aug=False,
        random_crop=False,
        cache_latents=True,
        shuffle_caption=False,
        enable_wildcard=False,
        caption_dropout_rate=0.0,
        caption_dropout_every_n_epochs=0,
        caption_tag_dropout_rate=0.0,
    )
    report = scan(Path(settings.validation_data_dir), plain)
    once = {id(subset): dataclasses.replace(subset, repeats=1) for subset in report.subsets}
    items = tuple(dataclasses.replace(item, subset=once[id(item.subset)]) for item in report.items)
    return dataclasses.replace(report, subsets=tuple(once.values()), items=items)


def facts_of(report: ScanReport, validation_images: int = 0) -> DatasetFacts:
    """What a LoRA file tells of its pictures."""
    train = [subset for subset in report.subsets if not subset.regularisation]
    reg = [subset for subset in report.subsets if subset.regularisation]
    return DatasetFacts(
        train_images=sum(s.repeats * len(s.pictures) for s in train),
        reg_images=sum(s.repeats * len(s.pictures) for s in reg),
        validation_images=validation_images,
        batches_per_epoch=report.batches_per_epoch,
        dirs={s.folder.name: {"n_repeats": s.repeats, "img_count": len(s.pictures)} for s in train},
        reg_dirs={s.folder.name: {"n_repeats": s.repeats, "img_count": len(s.pictures)} for s in reg},
        tag_frequency=report.tag_frequency(),
        bucket_info=_bucket_info(report) if report.options.enable_bucket else None,
    )


def _bucket_info(report: ScanReport) -> Mapping[str, Any]:
    """kohya's ss_bucket_info; the error is the mean difference of the aspect ratios, width by height."""
    counts = report.bucket_counts.items()
    errors = [
        abs(item.picture.size[0] / item.picture.size[1] - item.placement.bucket[0] / item.placement.bucket[1])
        for item, repeats in epoch_items(report)
        for _ in range(repeats)
    ]
    return {
        "buckets": {str(i): {"resolution": list(size), "count": count} for i, (size, count) in enumerate(counts)},
        "mean_img_ar_error": sum(errors) / max(1, len(errors)),
    }


def _warnings(report: ScanReport) -> tuple[str, ...]:
    """Pictures that are skipped, and pictures that will hurt."""
    found = [p for p in report.problems if p.severity != "note"]
    texts = [str(DatasetError(p.why, file=p.file, remedy=p.remedy)) for p in found[:TOLD]]
    if len(found) > TOLD:
        texts.append(f"{len(found) - TOLD} more remarks on the pictures: see the dataset check.")
    return tuple(texts)
