"""What is in a LoRA file, told by its keys and shapes and never by its name."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from lora_lab.errors import AdapterFileError
from lora_lab.families import Family
from lora_lab.network.blocks import BLOCKS, OTHER, block_of_name
from lora_lab.network.streams import TensorFile

KINDS = MappingProxyType(
    {
        "dora_scale": "DoRA",
        "hada_w1_a": "LoHa",
        "lokr_w1": "LoKr",
        "lokr_w1_a": "LoKr",
        "on_input": "(IA)^3",
        "oft_blocks": "OFT",
        "a1.weight": "GLoRA",
        "lora_mid.weight": "LoCon (Tucker)",
        "diff": "full",
        "w_norm": "norm",
        "lora_down.weight": "LoRA",
    }
)
"""A tensor that only one kind has, the most telling first."""


@dataclass(frozen=True)
class AdapterReport:
    """A LoRA file, described."""

    kind: str
    family: Family | None
    """None where the keys fit none that we know."""
    sites: int
    rank: Mapping[int, int]
    """Rank -> number of sites that have it; empty for kinds without one."""
    alpha: Mapping[float, int]
    """Alpha -> number of sites; a site without one counts as its rank, which is how it is read."""
    norms_by_block: Mapping[str, float]
    """Frobenius norm of the delta of all sites of a block together, at strength 1 (plain LoRA only)."""
    metadata: Mapping[str, Any]
    """Values that are JSON are parsed."""
    problems: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values under the command line's keys."""
        return {
            "kind": self.kind,
            "family": self.family.value if self.family else None,
            "sites": self.sites,
            "rank": {str(k): v for k, v in self.rank.items()},
            "alpha": {f"{k:g}": v for k, v in self.alpha.items()},
            "norms_by_block": dict(self.norms_by_block),
            "metadata": dict(self.metadata),
            "problems": list(self.problems),
        }


def inspect(path: str | Path) -> AdapterReport:
    """Read a LoRA file and describe it.

    Raises:
        AdapterFileError: no safetensors file, or none of a LoRA.
    """
    with TensorFile(path, AdapterFileError) as file:
        return _described(file)


@dataclass(frozen=True)
class _Site(Mapping[str, Tensor]):
    """A site's tensors by suffix, read when they are asked for: a large file is never in memory whole."""

    file: TensorFile
    keys_: dict[str, str]

    def __getitem__(self, rest: str) -> Tensor:
        return self.file.read(self.keys_[rest])

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys_)

    def __len__(self) -> int:
        return len(self.keys_)


def _described(file: TensorFile) -> AdapterReport:
    path, metadata, digest = file.path, dict(file.metadata), file.data_hash()
    sites: dict[str, _Site] = {}
    for key in file:
        name, _, rest = key.partition(".")
        sites.setdefault(name, _Site(file, {})).keys_[rest] = key
    kind = kind_of(sites)
    if kind is None:
        remedy = "give the file of a LoRA; for a checkpoint use the tools for checkpoints"
        raise AdapterFileError("none of its tensors belongs to a LoRA", file=path, remedy=remedy)
    family = family_of(sites)
    ranks, alphas = _sizes(sites)
    problems = [*_problems(sites), *_hash_problem(metadata, digest)]
    norms = _norms_by_block(sites, family or Family.SD1)
    return AdapterReport(
        kind, family, len(sites), ranks, alphas, norms, {k: _value(v) for k, v in metadata.items()}, tuple(problems)
    )


def family_of(sites: Mapping[str, Mapping[str, Tensor]]) -> Family | None:
    """The family by the names of the sites, and by the width of the text states that cross attention reads.

    Full-size SD1 reads 768 and SD2 1024 numbers; other widths (a narrow checkpoint) count as SD1, unless more than 12
    text encoder layers show SD2's.
    """
    names = set(sites)
    if any(re.match(r"lora_te[12]_|lora_unet_(input|output)_blocks_|lora_unet_middle_block", n) for n in names):
        return Family.SDXL
    if not any(n.startswith(("lora_unet_", "lora_te_")) for n in names):
        return None
    if any(re.match(r"lora_te_text_model_encoder_layers_(1[2-9]|2\d)_", n) for n in names):
        return Family.SD2
    for name, tensors in sites.items():
        if name.endswith("attn2_to_k") and "lora_down.weight" in tensors:
            return Family.SD2 if tensors["lora_down.weight"].shape[1] == 1024 else Family.SD1
    return Family.SD1


def delta_norm_squared(tensors: Mapping[str, Tensor]) -> float | None:
    """``||alpha/r * up @ down||^2`` of a site without forming the product: ``s^2 tr((B'B)(AA'))``; None if not LoRA."""
    held_down, held_up = tensors.get("lora_down.weight"), tensors.get("lora_up.weight")
    if held_down is None or held_up is None or "lora_mid.weight" in tensors:
        return None
    if min(held_down.dim(), held_up.dim()) < 2:
        return None
    down, up = held_down.double().flatten(1), held_up.double().flatten(1)
    if up.shape[1] != down.shape[0] or not down.shape[0]:
        return None
    alpha = _alpha(tensors)
    scale = 1.0 if alpha is None else alpha / down.shape[0]
    return scale**2 * float(((up.T @ up) * (down @ down.T).T).sum())


def kind_of(sites: Mapping[str, Mapping[str, Tensor]]) -> str | None:
    """The kind by the names of the tensors; None if none of them is a LoRA's."""
    found = {rest for tensors in sites.values() for rest in tensors}
    kind = next((name for key, name in KINDS.items() if key in found), None)
    if kind == "LoRA" and any(t["lora_down.weight"].dim() == 4 and t["lora_down.weight"].shape[-1] == 3
                              for t in sites.values() if "lora_down.weight" in t):  # fmt: skip
        return "LoCon"
    return kind


def _sizes(sites: Mapping[str, Mapping[str, Tensor]]) -> tuple[dict[int, int], dict[float, int]]:
    ranks: Counter[int] = Counter()
    alphas: Counter[float] = Counter()
    for tensors in sites.values():
        down = tensors.get("lora_down.weight", tensors.get("hada_w1_b"))
        rank = down.shape[0] if down is not None and down.dim() else None
        if rank is not None:
            ranks[rank] += 1
        alpha = _alpha(tensors)
        if alpha is not None:
            alphas[alpha] += 1
        elif rank is not None:
            alphas[float(rank)] += 1
    return dict(sorted(ranks.items())), dict(sorted(alphas.items()))


def _alpha(tensors: Mapping[str, Tensor]) -> float | None:
    """A site's alpha; None without one, or with one that is no single number."""
    alpha = tensors.get("alpha")
    return float(alpha.reshape(())) if alpha is not None and alpha.numel() == 1 else None


def _norms_by_block(sites: Mapping[str, Mapping[str, Tensor]], family: Family) -> dict[str, float]:
    squares: dict[str, float] = {}
    for name, tensors in sites.items():
        square = delta_norm_squared(tensors)
        if square is not None:
            block = block_of_name(name, family)
            squares[block] = squares.get(block, 0.0) + square
    order = (*BLOCKS, OTHER)
    return {block: squares[block] ** 0.5 for block in order if block in squares}


def _problems(sites: Mapping[str, Mapping[str, Tensor]]) -> list[str]:
    problems = []
    for name, tensors in sites.items():
        for rest, tensor in tensors.items():
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor.float()).all()):
                problems.append(f"{name}.{rest} holds numbers that are not finite")
        if "alpha" in tensors and _alpha(tensors) is None:
            problems.append(f"the alpha of {name} is no single number")
        if ("lora_down.weight" in tensors) != ("lora_up.weight" in tensors):
            problems.append(f"{name} has only one half of its pair")
    missing = sum("alpha" not in t for t in sites.values() if "lora_down.weight" in t)
    if missing:
        problems.append(f"{missing} sites have no alpha and are read with alpha = rank")
    return problems


def _hash_problem(metadata: Mapping[str, str], digest: str) -> list[str]:
    stated = metadata.get("sshs_model_hash")
    return ["sshs_model_hash does not fit the tensors: the file was changed"] if stated and stated != digest else []


def _value(text: str) -> Any:  # noqa: ANN401 - whatever the metadata holds
    try:
        return json.loads(text) if text[:1] in "{[" else text
    except ValueError:
        return text
