"""Split a DyLoRA (arXiv 2210.07558), whose every leading part is a LoRA of its own, into files of single ranks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from lora_lab.errors import AdapterFileError, SettingsError
from lora_lab.network.deltas import Kind
from lora_lab.surgery.adapters import AdapterReader
from lora_lab.surgery.metadata import inherited, recipe, source_entry
from lora_lab.surgery.outcome import Outcome, Progress, Tally, silent
from lora_lab.surgery.spool import Spool

AlphaRule = Literal["auto", "trained", "keep"]
"""What becomes of alpha at rank k of R. `trained`: kohya's DyLoRA trains rank k at alpha / R * sqrt(R / k), so alpha
becomes alpha * sqrt(k / R). `keep`: alpha as it is, for LyCORIS's DyLoRA with a block size of 1, and as kohya's own
splitting tool does it. `auto`: `keep` for a file of LyCORIS, else `trained`."""


@dataclass(frozen=True)
class SplitRequest:
    """What to split: the file, the ranks wanted, the name that they are put behind, and what becomes of alpha."""

    source: Path
    ranks: tuple[int, ...]
    out: Path
    alpha: AlphaRule = "auto"
    force: bool = False
    dry_run: bool = False


def split(request: SplitRequest, progress: Progress = silent) -> list[Outcome]:
    """Write `OUT-0004.safetensors` and so on, one for each rank.

    Raises:
        AdapterFileError: no plain LoRA, or sites of different ranks.
        SettingsError: a rank that the file does not have.
        OutputError: see :func:`lora_lab.network.streams.check_output`.
    """
    source, ranks, out, alpha = request.source, request.ranks, request.out, request.alpha
    with AdapterReader(source) as reader:
        whole = _rank(reader)
        wrong = [rank for rank in ranks if not 1 <= rank < whole]
        if wrong or not ranks:
            raise SettingsError(
                f"rank {wrong[0]} is not below the file's {whole}" if wrong else "no rank is given",
                file=source,
                remedy=f"give ranks from 1 to {whole - 1}",
            )
        keep = alpha == "keep" or (alpha == "auto" and "lycoris" in reader.metadata.get("ss_network_module", ""))
        done = []
        for number, rank in enumerate(ranks):
            progress(number, len(ranks), f"rank {rank}")
            place = out.with_name(f"{out.stem}-{rank:04d}.safetensors")
            with Spool(place, force=request.force, inputs=[source]) as spool:
                done.append(_one(reader, rank, 1.0 if keep else (rank / whole) ** 0.5, spool, request.dry_run))
        return done


def _rank(reader: AdapterReader) -> int:
    ranks = {entry.rank for entry in reader}
    plain = all(e.kind is Kind.LORA and "lora_mid.weight" not in e.keys and "dora_scale" not in e.keys for e in reader)
    if not plain or len(ranks) != 1:
        what = "sites of different ranks" if plain else f"sites of the kind {', '.join(reader.kinds)}"
        raise AdapterFileError(f"the file has {what}", file=reader.path, remedy="a DyLoRA is a LoRA of one rank")
    return ranks.pop() or 0


def _one(reader: AdapterReader, rank: int, factor: float, spool: Spool, dry_run: bool) -> Outcome:
    tally, alphas = Tally(), set()
    for entry in reader:
        tensors = reader.tensors(entry)
        alpha = float(tensors.get("alpha", torch.tensor(float(entry.rank or 1)))) * factor
        alphas.add(alpha)
        spool.put(f"{entry.name}.lora_up.weight", tensors["lora_up.weight"][:, :rank])
        spool.put(f"{entry.name}.lora_down.weight", tensors["lora_down.weight"][:rank])
        spool.put(f"{entry.name}.alpha", torch.tensor(alpha))
    metadata = inherited(reader.metadata, spool.path.stem)
    metadata |= recipe("split", source=source_entry(reader.file), rank=rank)
    metadata |= {"ss_network_dim": str(rank), "ss_network_alpha": str(alphas.pop()) if len(alphas) == 1 else "Dynamic"}
    size = sum(spec.nbytes for spec in spool.specs.values())
    if not dry_run:
        size = spool.write(metadata)
    return tally.outcome(None if dry_run else spool.path, size, rank=rank)
