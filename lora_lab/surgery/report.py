"""What is in an adapter file, site by site and never all at once: norms by block and by text encoder layer for every
kind, numbers that are broken or stick out, the hashes, and its metadata as tables that a person can read."""

from __future__ import annotations

import json
import math
import re
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lora_lab.errors import UserError
from lora_lab.families import Family
from lora_lab.network.blocks import order
from lora_lab.surgery.adapters import AdapterReader, SiteEntry
from lora_lab.surgery.library import tag_counts
from lora_lab.surgery.metadata import read_recipe
from lora_lab.surgery.outcome import Progress, silent
from lora_lab.surgery.places import block_of

STICKS_OUT = 4.0
"""A site is an outlier where its norm is this many times, and `FAR` deviations, away from the median of its part."""
FAR = 5.0
TE_LAYER = re.compile(r"lora_te([12]?)_text_model_encoder_layers_(\d+)_")


@dataclass(frozen=True)
class Table:
    """Rows of name and value under a title."""

    title: str
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Report:
    """An adapter file, described.

    Attributes:
        ranks, alphas: with the number of sites that have them.
        blocks: the norm of each block's deltas together at strength 1, of every kind that needs no checkpoint.
        text_layers: the same for each layer of the text encoders, `TE 3` or `TE2 17`.
        unknown: sites whose norm only the checkpoint can tell.
        outliers: sites that stick out of their part, with how many times its median they are.
    """

    path: Path
    size: int
    kinds: tuple[str, ...]
    family: Family
    sites: int
    ranks: Mapping[int, int]
    alphas: Mapping[float, int]
    blocks: Mapping[str, float]
    text_layers: Mapping[str, float]
    unknown: int
    outliers: tuple[tuple[str, float], ...]
    problems: tuple[str, ...]
    metadata: Mapping[str, str]

    @property
    def tables(self) -> tuple[Table, ...]:
        """The metadata, readable."""
        return metadata_tables(self.metadata)

    def to_json(self) -> dict[str, Any]:
        """As the command line prints it."""
        return {
            "kind": ", ".join(self.kinds),
            "family": self.family.value,
            "sites": self.sites,
            "rank": {str(rank): count for rank, count in self.ranks.items()},
            "alpha": {f"{alpha:g}": count for alpha, count in self.alphas.items()},
            "norms_by_block": dict(self.blocks),
            "metadata": dict(self.metadata),
            "problems": list(self.problems),
            "kinds": list(self.kinds),
            "size": self.size,
            "text_layers": dict(self.text_layers),
            "outliers": [{"site": site, "times": times} for site, times in self.outliers],
            "tables": {table.title: dict(table.rows) for table in self.tables},
        }


def look_into(path: Path, progress: Progress = silent) -> Report:
    """Read and describe an adapter.

    Raises:
        AdapterFileError: no adapter, or one that cannot be understood.
    """
    with AdapterReader(path) as reader:
        problems: list[str] = []
        norms: dict[str, float] = {}
        alphas: Counter[float] = Counter()
        unknown = 0
        for number, entry in enumerate(reader):
            progress(number, len(reader.sites), entry.name)
            _count_alpha(reader, entry, alphas, problems)
            try:
                norm = reader.norm(entry)
            except UserError as wrong:
                problems.append(wrong.what)
                continue
            if norm is None:
                unknown += 1
            else:
                norms[entry.name] = norm
        ranks = Counter(entry.rank for entry in reader if entry.rank)
        problems += _without_alpha(reader) + _changed(reader)
        return Report(
            path, path.stat().st_size, tuple(reader.kinds), reader.family, len(reader.sites),
            dict(sorted(ranks.items())), dict(sorted(alphas.items())), _by_block(norms, reader.family),
            _by_layer(norms), unknown, _outliers(norms), tuple(problems), dict(reader.metadata),
        )  # fmt: skip


def _count_alpha(reader: AdapterReader, entry: SiteEntry, alphas: Counter[float], problems: list[str]) -> None:
    if "alpha" in entry.keys:
        alpha = reader.file.read(entry.keys["alpha"]).float()
        if alpha.numel() != 1 or not bool(torch.isfinite(alpha).all()):
            problems.append(f"the alpha of {entry.name} is no single number")
        else:
            alphas[float(alpha.reshape(()))] += 1
    elif entry.rank:
        alphas[float(entry.rank)] += 1


def _without_alpha(reader: AdapterReader) -> list[str]:
    missing = sum("lora_down.weight" in entry.keys and "alpha" not in entry.keys for entry in reader)
    told = [f"{missing} sites have no alpha and are read with alpha = rank"] if missing else []
    if reader.others:
        told.append(f"{len(reader.others)} tensors are no part of a site, such as {reader.others[0]}")
    return told


def _changed(reader: AdapterReader) -> list[str]:
    stated = reader.metadata.get("sshs_model_hash")
    if not stated or stated == reader.file.data_hash():
        return []
    return ["sshs_model_hash does not fit the tensors: the file was changed"]


def _by_block(norms: Mapping[str, float], family: Family) -> dict[str, float]:
    squares: dict[str, float] = {}
    for site, norm in norms.items():
        block = block_of(site, family)
        squares[block] = squares.get(block, 0.0) + norm**2
    return {block: squares[block] ** 0.5 for block in sorted(squares, key=order)}


def _by_layer(norms: Mapping[str, float]) -> dict[str, float]:
    squares: dict[tuple[str, int], float] = {}
    for site, norm in norms.items():
        found = TE_LAYER.match(site)
        if found:
            key = (found[1], int(found[2]))
            squares[key] = squares.get(key, 0.0) + norm**2
    return {f"TE{encoder} {layer}": squares[encoder, layer] ** 0.5 for encoder, layer in sorted(squares)}


def _outliers(norms: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    """Sites far from the others of the UNet or the text encoders, by the median absolute deviation of log norms."""
    found: list[tuple[str, float]] = []
    for part in ("lora_unet_", "lora_te"):
        logs = {site: math.log(norm) for site, norm in norms.items() if site.startswith(part) and norm > 0}
        if len(logs) < 8:
            continue
        middle = statistics.median(logs.values())
        spread = 1.4826 * statistics.median(abs(value - middle) for value in logs.values())
        for site, value in logs.items():
            if value - middle > max(FAR * spread, math.log(STICKS_OUT)):
                found.append((site, math.exp(value - middle)))
    return tuple(sorted(found, key=lambda item: -item[1]))


TRAINING = (
    ("network_module", "network"), ("network_dim", "rank"), ("network_alpha", "alpha"), ("network_args", "arguments"),
    ("optimizer", "optimizer"), ("learning_rate", "learning rate"), ("unet_lr", "UNet rate"),
    ("text_encoder_lr", "text encoder rate"), ("lr_scheduler", "schedule"), ("lr_warmup_steps", "warmup steps"),
    ("steps", "steps"), ("max_train_steps", "steps planned"), ("epoch", "epoch"), ("num_epochs", "epochs planned"),
    ("batch_size_per_device", "batch size"), ("total_batch_size", "batch size in all"), ("resolution", "resolution"),
    ("clip_skip", "clip skip"), ("mixed_precision", "precision"), ("min_snr_gamma", "min-SNR gamma"),
    ("noise_offset", "noise offset"), ("multires_noise_iterations", "noise of several resolutions"),
    ("network_dropout", "dropout"), ("caption_dropout_rate", "captions dropped"), ("keep_tokens", "tags kept first"),
    ("shuffle_caption", "tags shuffled"), ("seed", "seed"), ("training_comment", "comment"),
)  # fmt: skip
ABOUT = (
    ("modelspec.title", "title"), ("modelspec.author", "author"), ("modelspec.trigger_phrase", "trigger"),
    ("modelspec.description", "description"), ("modelspec.usage_hint", "usage"), ("modelspec.tags", "tags"),
    ("modelspec.license", "license"), ("modelspec.date", "date"), ("modelspec.architecture", "architecture"),
    ("ss_output_name", "name when it was made"), ("ss_sd_model_name", "trained on"),
    ("ss_sd_model_hash", "its short hash"), ("ss_new_sd_model_hash", "its sha256"), ("ss_vae_name", "VAE"),
    ("ss_base_model_version", "base version"), ("sshs_model_hash", "hash of the tensors"),
)  # fmt: skip
TAG_ROWS = 200


def metadata_tables(metadata: Mapping[str, str]) -> tuple[Table, ...]:
    """Metadata as tables: what it is, how it was trained, on what, with which tags; then all else as it stands."""
    about = [(word, metadata[key]) for key, word in ABOUT if _there(metadata, key)]
    training = [(word, metadata[f"ss_{key}"]) for key, word in TRAINING if _there(metadata, f"ss_{key}")]
    known = {key for key, _ in ABOUT} | {f"ss_{key}" for key, _ in TRAINING}
    known |= {"ss_tag_frequency", "ss_bucket_info", "ss_dataset_dirs", "ss_datasets", "lora_lab_recipe"}
    recipe = read_recipe(metadata)
    tables = [
        Table("About", tuple(about)),
        Table("Training", tuple(training)),
        Table("Datasets", tuple(_datasets(metadata))),
        Table("Buckets", tuple(_buckets(metadata))),
        Table("Tags", tuple((tag, str(count)) for tag, count in tag_counts(metadata, TAG_ROWS).items())),
        Table("Made by", tuple((key, _short(value)) for key, value in (recipe or {}).items())),
        Table("All else", tuple((key, _short(text)) for key, text in sorted(metadata.items()) if key not in known)),
    ]
    return tuple(table for table in tables if table.rows)


def _there(metadata: Mapping[str, str], key: str) -> bool:
    return metadata.get(key, "None") not in ("", "None")


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 400 else f"{text[:400]} …"


def _parsed(metadata: Mapping[str, str], key: str) -> Any:  # noqa: ANN401 - whatever the metadata holds
    try:
        return json.loads(metadata.get(key, ""))
    except ValueError:
        return None


def _datasets(metadata: Mapping[str, str]) -> Sequence[tuple[str, str]]:
    """Folders with their pictures and repeats, by either of kohya's two keys."""
    folders = _parsed(metadata, "ss_dataset_dirs")
    rows = []
    for name, about in folders.items() if isinstance(folders, dict) else ():
        if isinstance(about, dict):
            rows.append((name, f"{about.get('img_count', '?')} pictures, {about.get('n_repeats', '?')} times"))
    datasets = _parsed(metadata, "ss_datasets")
    for one in datasets if isinstance(datasets, list) and not rows else ():
        for subset in one.get("subsets", ()) if isinstance(one, dict) else ():
            if isinstance(subset, dict):
                name = str(subset.get("image_dir") or subset.get("metadata_file") or "?")
                rows.append((name, f"{subset.get('img_count', '?')} pictures, {subset.get('num_repeats', '?')} times"))
    return rows


def _buckets(metadata: Mapping[str, str]) -> Sequence[tuple[str, str]]:
    found = _parsed(metadata, "ss_bucket_info")
    buckets = found.get("buckets") if isinstance(found, dict) else None
    rows = []
    for one in buckets.values() if isinstance(buckets, dict) else ():
        size = one.get("resolution") if isinstance(one, dict) else None
        if isinstance(size, list) and len(size) == 2:
            rows.append((f"{size[0]} × {size[1]}", f"{one.get('count', '?')} pictures"))
    return rows
