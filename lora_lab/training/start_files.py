"""The files that a run starts from, looked at before the start: where they are, and what their headers say. No torch
until a header is read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from lora_lab.errors import AdapterFileError, SettingsError
from lora_lab.training.record.outputs import ENDING
from lora_lab.training.settings import TrainSettings

if TYPE_CHECKING:
    from lora_lab.host.base import CheckpointInfo


def find_file(value: str, lora_dir: Path) -> Path:
    """A path as it is given, or a name in the LoRA folder (with or without its ending)."""
    path = Path(value.strip().strip('"')).expanduser()
    named = lora_dir / (path.name if path.name.endswith(ENDING) else path.name + ENDING)
    return named if not path.exists() and path.parent == Path() and named.is_file() else path


def multipliers(settings: TrainSettings) -> tuple[float, ...]:
    """One for each of base_weights.

    Raises:
        SettingsError: one that is no number, or more of them than files.
    """
    texts = settings.base_weights_multiplier
    if len(texts) > len(settings.base_weights):
        what = f"base_weights_multiplier has {len(texts)} values for {len(settings.base_weights)} base_weights"
        raise SettingsError(what, remedy="give one for each file, in their order")
    numbers = []
    for text in texts:
        try:
            numbers.append(float(text))
        except ValueError:
            numbers.append(math.nan)
        if not math.isfinite(numbers[-1]):
            raise SettingsError(f"base_weights_multiplier holds {text!r}", remedy="give numbers such as 0.8")
    return (*numbers, *[1.0] * (len(settings.base_weights) - len(numbers)))


def check_start_files(settings: TrainSettings, info: CheckpointInfo, lora_dir: Path) -> None:
    """Read the headers of the files that a run starts from.

    Raises:
        AdapterFileError: no such file, no LoRA, or one of another family.
        SettingsError: its rank is not the settings'.
    """
    for value in settings.base_weights:
        _check_family(find_file(value, lora_dir), info)
    if not settings.network_weights:
        return
    path = find_file(settings.network_weights, lora_dir)
    ranks = _check_family(path, info)
    if settings.dim_from_weights or len(ranks) != 1 or getattr(settings, "block_dims", False):
        return
    (rank,) = ranks
    if rank != settings.network_dim:
        what = f"network_weights has rank {rank}, network_dim is {settings.network_dim} ({path.name})"
        raise SettingsError(what, remedy=f"set network_dim to {rank}, or switch dim_from_weights on")


def _check_family(path: Path, info: CheckpointInfo) -> frozenset[int]:
    """The ranks at its layers outside of residual blocks, if it is of the checkpoint's family."""
    from lora_lab.network.outline import outline

    found = outline(path)
    if found.family is not info.family:
        family = "unknown" if found.family is None else found.family.value
        what = f"this LoRA is of the family {family}, the loaded checkpoint {info.name} of {info.family.value}"
        raise AdapterFileError(what, file=path, remedy="choose a LoRA of the checkpoint's family")
    return frozenset(rank for name, rank in found.ranks.items() if "resnets" not in name and "samplers" not in name)


def following(name: str) -> str:
    """mika, mika-more, mika-more2, ..."""
    head, found, number = name.rpartition("-more")
    if found and (number.isdecimal() or not number):
        return f"{head}-more{int(number or 1) + 1}"
    return f"{name}-more"
