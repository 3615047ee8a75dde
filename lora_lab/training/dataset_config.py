"""kohya's dataset_config: several datasets in one run, each subset with settings of its own. No torch here.

    [general]                      what all datasets share
    [[datasets]]                   resolution, batch_size, buckets; batches never mix two datasets
      [[datasets.subsets]]         image_dir, num_repeats, class_tokens, caption settings, loss_weight (ours)

A value is looked for in the subset, its dataset, general, and then in the settings of the run.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_lab.dataset.options import DatasetOptions
from lora_lab.dataset.scan import ScanReport, scan
from lora_lab.dataset.sources import SubsetSource, scan_sources
from lora_lab.errors import SettingsError
from lora_lab.training.checks.captions import check_text_cache
from lora_lab.training.plan import options_of
from lora_lab.training.settings import TrainSettings
from lora_lab.training.settings.fields import FieldSpec
from lora_lab.training.settings.values import parse

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

OF_DATASETS = (
    "resolution", "enable_bucket", "min_bucket_reso", "max_bucket_reso", "bucket_reso_steps", "bucket_no_upscale",
    "validation_split", "validation_seed",
)  # fmt: skip
OF_SUBSETS = (
    "shuffle_caption", "caption_separator", "keep_tokens", "keep_tokens_separator", "secondary_separator",
    "enable_wildcard", "caption_prefix", "caption_suffix", "caption_dropout_rate", "caption_dropout_every_n_epochs",
    "caption_tag_dropout_rate", "token_warmup_min", "token_warmup_step", "color_aug", "flip_aug", "random_crop",
    "face_crop_aug_range", "caption_extension", "resize_interpolation",
)  # fmt: skip
ONLY_SUBSETS = ("alpha_mask", "conditioning_data_dir")
OWN: Mapping[str, FieldSpec] = {
    "batch_size": dataclasses.replace(TrainSettings.spec("train_batch_size"), name="batch_size"),
    "num_repeats": dataclasses.replace(TrainSettings.spec("dataset_repeats"), name="num_repeats", minimum=None),
    "is_reg": dataclasses.replace(TrainSettings.spec("flip_aug"), name="is_reg"),
    "class_tokens": dataclasses.replace(TrainSettings.spec("caption_prefix"), name="class_tokens"),
    "image_dir": dataclasses.replace(TrainSettings.spec("train_data_dir"), name="image_dir"),
    "metadata_file": dataclasses.replace(TrainSettings.spec("in_json"), name="metadata_file"),
    "loss_weight": dataclasses.replace(TrainSettings.spec("prior_loss_weight"), name="loss_weight", maximum=100),
    "network_multiplier": dataclasses.replace(TrainSettings.spec("prior_loss_weight"), name="network_multiplier"),
}
"""Keys that are no settings of their own, read as the settings that they are most like."""
WITHOUT_EFFECT = ("cache_info", "custom_attributes", "debug_dataset")
"""kohya's keys that change nothing here: headers are read anew each time, attributes are for other programs."""
SHARED = (*OF_SUBSETS, "num_repeats", "class_tokens", "loss_weight", *WITHOUT_EFFECT)
DATASET = (*OF_DATASETS, "batch_size", "network_multiplier", *SHARED)
LEVELS: Mapping[str, tuple[str, ...]] = {
    "general": DATASET,
    "datasets": DATASET,
    "datasets.subsets": (*SHARED, *ONLY_SUBSETS, "image_dir", "is_reg", "metadata_file"),
}
"""Section -> the keys that it may have."""


@dataclass(frozen=True)
class DatasetConfig:
    """What a file asks for."""

    sources: tuple[SubsetSource, ...]
    warnings: tuple[str, ...] = ()


def sources_of(settings: TrainSettings, seed: int = 0) -> DatasetConfig | None:
    """The subsets that are named one by one; None where they are found below train_data_dir.

    Args:
        settings: with dataset_config, which goes before in_json and train_data_dir.
        seed: of the run.

    Raises:
        SettingsError: the file cannot be read, has an unknown key, or a value that is none.
    """
    options = options_of(settings, seed)
    if settings.dataset_config:
        return read(Path(plain_path(settings.dataset_config)), settings, options)
    if settings.in_json:
        folder = Path(settings.train_data_dir) if settings.train_data_dir else None
        file = Path(plain_path(settings.in_json))
        return DatasetConfig((SubsetSource(folder, options, repeats=settings.dataset_repeats, metadata=file),))
    return None


def scan_of(settings: TrainSettings, seed: int = 0) -> tuple[ScanReport, tuple[str, ...]]:
    """The check of all pictures that these settings ask for, before any are held out; and remarks on dataset_config.

    Raises:
        DatasetError: no such folder.
        SettingsError: a dataset_config that cannot be read, or options that contradict each other.
    """
    config = sources_of(settings, seed)
    if config is not None:
        for source in config.sources:
            check_text_cache(settings, source.options)
        return scan_sources(config.sources), config.warnings
    reg = Path(settings.reg_data_dir) if settings.reg_data_dir else None
    return scan(Path(settings.train_data_dir), options_of(settings, seed), reg), ()


def plain_path(text: str) -> str:
    """Without the quotation marks that file managers put around a copied path."""
    return text.strip().strip('"')


def read(path: Path, settings: TrainSettings, options: DatasetOptions) -> DatasetConfig:
    """Read a TOML or JSON file.

    Args:
        path: of the file.
        settings: of the run, where the file says nothing.
        options: the same, as the dataset reads them.

    Raises:
        SettingsError: see `sources_of`.
    """
    try:
        return _config(_load(path), path.parent, settings, options)
    except SettingsError as error:
        raise SettingsError(error.what, file=error.file or path, remedy=error.remedy) from error


def _config(
    values: Mapping[str, Any], base: Path, settings: TrainSettings, options: DatasetOptions
) -> DatasetConfig:
    unknown = sorted(set(values) - {"general", "datasets"})
    if unknown:
        remedy = "put what all datasets share into [general], and each dataset into [[datasets]]"
        raise SettingsError(f"{unknown[0]} stands outside of the sections", remedy=remedy)
    general = _section(values.get("general", {}), "general")
    sources: list[SubsetSource] = []
    told: list[str] = []
    for number, dataset in enumerate(_tables(values.get("datasets", []), "datasets")):
        subsets = _tables(dataset.get("subsets", []), "datasets.subsets")
        own = _section({name: value for name, value in dataset.items() if name != "subsets"}, "datasets")
        if not subsets:
            remedy = "add [[datasets.subsets]] with image_dir"
            raise SettingsError(f"dataset {number + 1} has no subsets", remedy=remedy)
        read_subsets = [_section(subset, "datasets.subsets") for subset in subsets]
        if len({"metadata_file" in subset for subset in read_subsets}) > 1:
            what = f"dataset {number + 1} mixes subsets with and without a metadata_file"
            raise SettingsError(what, remedy="make two datasets of them")
        for subset in read_subsets:
            found = {**general, **own, **subset}
            told += _odd(found)
            if found.get("num_repeats", 1) < 1:
                told.append(f"{found.get('image_dir')} is left out, since its num_repeats is below 1")
                continue
            sources.append(_source(found, number, base, settings, options))
    if not sources:
        raise SettingsError("it has no dataset", remedy="add [[datasets]] and [[datasets.subsets]] with image_dir")
    return DatasetConfig(tuple(sources), tuple(f"dataset_config: {text}." for text in dict.fromkeys(told)))


def _odd(values: Mapping[str, Any]) -> Iterator[str]:
    """What has no effect here."""
    yield from (f"{name} has no effect here" for name in WITHOUT_EFFECT if values.get(name))
    if values.get("enable_bucket") and values.get("face_crop_aug_range"):
        yield "face_crop_aug_range has no effect, since enable_bucket is on"


def _source(
    values: Mapping[str, Any], number: int, base: Path, settings: TrainSettings, options: DatasetOptions
) -> SubsetSource:
    """One subset, from its values and those above it."""
    if not values.get("image_dir") and not values.get("metadata_file"):
        what = f"a subset of dataset {number + 1} has no image_dir"
        raise SettingsError(what, remedy="set it to the folder of its pictures")
    if values.get("conditioning_data_dir") and not settings.masked_loss:
        raise SettingsError("conditioning_data_dir holds masks, and masked_loss is off", remedy="switch it on")
    if values.get("network_multiplier", 1) != 1:
        what = f"network_multiplier is {values['network_multiplier']:g}"
        raise SettingsError(what, remedy="leave it out, and weigh the subset by loss_weight")
    changed = {name: values[name] for name in (*OF_DATASETS, *OF_SUBSETS, *ONLY_SUBSETS) if name in values}
    if "batch_size" in values:
        changed["train_batch_size"] = values["batch_size"]
    if changed.get("conditioning_data_dir"):
        changed["conditioning_data_dir"] = str(_resolved(changed["conditioning_data_dir"], base))
    own = dataclasses.replace(options, **changed)
    own.check()
    metadata = values.get("metadata_file")
    return SubsetSource(
        folder=_resolved(values["image_dir"], base) if values.get("image_dir") else None,
        options=own,
        name=values.get("class_tokens", ""),
        repeats=values.get("num_repeats", settings.dataset_repeats if metadata else 1),
        regularisation=bool(values.get("is_reg", False)),
        dataset=number,
        loss_weight=values.get("loss_weight", 1.0),
        metadata=_resolved(metadata, base) if metadata else None,
    )


def _resolved(text: str, base: Path) -> Path:
    """A relative path begins where the program was started, as in kohya's scripts, else beside the file."""
    path = Path(plain_path(text)).expanduser()
    return path if path.is_absolute() or path.exists() else base / path


def _section(values: Mapping[str, Any], level: str) -> dict[str, Any]:
    """The values of one section, read and checked; what is null counts as not given."""
    if not isinstance(values, Mapping):
        raise SettingsError(f"{level} holds no names and values", remedy="write name = value below it")
    found: dict[str, Any] = {}
    for name, value in values.items():
        if name not in LEVELS[level]:
            raise _misplaced(name, level)
        if value is not None:
            found[name] = value if name in WITHOUT_EFFECT else _value(name, value)
    return found


def _value(name: str, value: Any) -> Any:  # noqa: ANN401 - whatever a file holds
    if name == "face_crop_aug_range" and isinstance(value, (list, tuple)):
        value = ",".join(map(str, value))
    return parse(OWN[name] if name in OWN else TrainSettings.spec(name), value)


def _misplaced(name: str, level: str) -> SettingsError:
    """An unknown key, or one that belongs elsewhere."""
    right = [other for other, names in LEVELS.items() if name in names]
    if right:
        return SettingsError(f"{name} may not stand in [{level}]", remedy=f"move it to [{right[-1]}]")
    near = difflib.get_close_matches(name, LEVELS[level], n=1)
    remedy = f"did you mean {near[0]}" if near else "see docs/datasets.md for those there are"
    return SettingsError(f"[{level}] has no key {name!r}", remedy=remedy)


def _tables(values: Any, level: str) -> Sequence[Mapping[str, Any]]:  # noqa: ANN401 - whatever a file holds
    if not isinstance(values, list) or not all(isinstance(value, Mapping) for value in values):
        raise SettingsError(f"{level} is no list of sections", remedy=f"write [[{level}]]")
    return values


LARGEST = 4_000_000
"""Bytes of a file."""


def _load(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError("it is too large for one")
        text = path.read_bytes().decode("utf-8-sig")
        values = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except OSError as error:
        raise SettingsError("the dataset_config cannot be read", file=path, remedy="check its path") from error
    except (ValueError, RecursionError) as error:
        reason = re.sub(r"\s+", " ", str(error))
        raise SettingsError(f"the dataset_config is no valid TOML or JSON, {reason}", file=path) from error
    if not isinstance(values, dict):
        raise SettingsError("the dataset_config holds no names and values", file=path)
    return values
