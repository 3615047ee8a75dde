"""What a LoRA file tells of its pictures, from the dataset's check: kohya's names and shapes. No torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from lora_lab.dataset.folders import Subset
from lora_lab.dataset.scan import ScanReport, epoch_items
from lora_lab.training.record.metadata import DatasetFacts


def facts_of(report: ScanReport, validation_images: int = 0, *, by_config: bool = False) -> DatasetFacts:
    """The facts of a run.

    Args:
        report: what is trained on.
        validation_images: held out.
        by_config: a dataset_config names the subsets; each dataset is then told of by itself.
    """
    train = [subset for subset in report.subsets if not subset.regularisation]
    reg = [subset for subset in report.subsets if subset.regularisation]
    return DatasetFacts(
        train_images=_count(train),
        reg_images=_count(reg),
        validation_images=validation_images,
        batches_per_epoch=report.batches_per_epoch,
        dirs=_dirs(train),
        reg_dirs=_dirs(reg),
        tag_frequency=report.tag_frequency(),
        bucket_info=_bucket_info(report) if report.options.enable_bucket else None,
        datasets=_datasets(report) if by_config else None,
    )


def _count(subsets: Iterable[Subset]) -> int:
    return sum(s.repeats * len(s.pictures) for s in subsets)


def _dirs(subsets: Iterable[Subset]) -> dict[str, dict[str, int]]:
    """Folder's name to repeats and pictures; a name that comes again gets a number, as kohya's scripts write it."""
    found: dict[str, dict[str, int]] = {}
    for subset in subsets:
        name, number = subset.label, 2
        while name in found:
            name, number = f"{subset.label} ({number})", number + 1
        found[name] = {"n_repeats": subset.repeats, "img_count": len(subset.pictures)}
    return found


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


def _datasets(report: ScanReport) -> list[dict[str, Any]]:
    """kohya's ss_datasets: an object for each dataset, with its subsets."""
    return [
        _dataset(_part(report, number)) for number in dict.fromkeys(subset.dataset for subset in report.subsets)
    ]


def _part(report: ScanReport, number: int) -> ScanReport:
    subsets = tuple(s for s in report.subsets if s.dataset == number)
    items = tuple(item for item in report.items if item.subset.dataset == number)
    return dataclasses.replace(report, options=subsets[0].options, subsets=subsets, items=items)


def _dataset(report: ScanReport) -> dict[str, Any]:
    """One dataset."""
    options = report.options
    return {
        "is_dreambooth": report.subsets[0].metadata is None,
        "batch_size_per_device": options.train_batch_size,
        "num_train_images": _count(s for s in report.subsets if not s.regularisation),
        "num_reg_images": _count(s for s in report.subsets if s.regularisation),
        "resolution": list(options.resolution),
        "enable_bucket": options.enable_bucket,
        "min_bucket_reso": options.min_bucket_reso if options.enable_bucket else None,
        "max_bucket_reso": options.max_bucket_reso if options.enable_bucket else None,
        "tag_frequency": report.tag_frequency(),
        "bucket_info": _bucket_info(report) if options.enable_bucket else None,
        "resize_interpolation": options.resize_interpolation or None,
        "subsets": [_subset(subset) for subset in report.subsets],
    }


def _subset(subset: Subset) -> dict[str, Any]:
    """One subset; loss_weight is ours and there only where it is used."""
    options = subset.options
    values: dict[str, Any] = {
        "img_count": len(subset.pictures),
        "num_repeats": subset.repeats,
        "color_aug": options.color_aug,
        "flip_aug": options.flip_aug,
        "random_crop": options.random_crop,
        "shuffle_caption": options.shuffle_caption,
        "keep_tokens": options.keep_tokens,
        "keep_tokens_separator": options.keep_tokens_separator or None,
        "secondary_separator": options.secondary_separator or None,
        "enable_wildcard": options.enable_wildcard,
        "caption_prefix": options.caption_prefix or None,
        "caption_suffix": options.caption_suffix or None,
        "resize_interpolation": options.resize_interpolation or None,
        "image_dir": subset.folder.name,
    }
    if subset.metadata is not None:
        values["metadata_file"] = subset.metadata.name
    else:
        values |= {"class_tokens": subset.name or None, "is_reg": subset.regularisation}
    return values if subset.loss_weight == 1 else {**values, "loss_weight": subset.loss_weight}
