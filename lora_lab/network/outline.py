"""What a LoRA file is, told from its header alone: family, kind, and the rank at each site. Nothing else is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lora_lab.errors import AdapterFileError
from lora_lab.families import Family
from lora_lab.network.inspect import family_of, kind_of
from lora_lab.network.lora_file import by_site
from lora_lab.network.streams import TensorFile

CHECKPOINT = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "conditioner.")
"""What a checkpoint's keys begin with."""
RANKED = ("lora_down.weight", "hada_w1_b", "lokr_w1_b", "lokr_w2_b")
"""Factors whose first side is the rank."""


@dataclass(frozen=True)
class Outline:
    """A LoRA file as its header tells it."""

    family: Family | None
    """None where the names fit none that we know."""
    kind: str
    """One of `inspect.KINDS`' names."""
    ranks: Mapping[str, int]
    """Site -> rank, of those that have one."""
    sites: frozenset[str]
    metadata: Mapping[str, str]


def outline(path: str | Path) -> Outline:
    """Read the header.

    Raises:
        AdapterFileError: no such file, no safetensors, a whole checkpoint, or nothing of a LoRA in it.
    """
    with TensorFile(path, AdapterFileError) as file:
        specs, metadata = dict(file.specs), dict(file.metadata)
    sites = by_site({name: torch.empty(s.shape, dtype=s.dtype, device="meta") for name, s in specs.items()})
    kind = kind_of(sites)
    if any(name.startswith(CHECKPOINT) for name in specs):
        raise AdapterFileError("this is a whole checkpoint, no LoRA", file=path, remedy="give the file of a LoRA")
    if kind is None:
        raise AdapterFileError("the file holds no LoRA", file=path, remedy="give the file of a LoRA")
    ranks = {name: rank for name, held in sites.items() if (rank := rank_of(held)) is not None}
    family = family_of(sites)
    if family is Family.SD1 and metadata.get("ss_v2") == "True":  # their names are the same, a narrow one's shapes too
        family = Family.SD2
    return Outline(family, kind, ranks, frozenset(sites), metadata)


def rank_of(held: Mapping[str, Tensor]) -> int | None:
    """The rank of a site's tensors; None for kinds without one."""
    found = (held[name] for name in RANKED if name in held and held[name].dim())
    return next((tensor.shape[0] for tensor in found), None)


def alpha_of(held: Mapping[str, Tensor]) -> float | None:
    """The alpha in force: the site's own, or its rank as all readers take it; None for kinds without."""
    alpha, rank = held.get("alpha"), rank_of(held)
    if alpha is not None and alpha.numel() == 1:
        return float(alpha.reshape(()))
    return None if rank is None else float(rank)
