"""Bake strengths and block weights into an adapter's own file, exactly: factors stay as they are, alpha takes the
factor, so that at strength 1 the file does what the original does at those strengths.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lora_lab.errors import AdapterFileError, SettingsError
from lora_lab.network.deltas import Kind
from lora_lab.surgery.adapters import AdapterReader, SiteEntry
from lora_lab.surgery.lowrank import energy_of
from lora_lab.surgery.metadata import inherited, recipe
from lora_lab.surgery.outcome import Outcome, Progress, Tally, silent
from lora_lab.surgery.places import block_of
from lora_lab.surgery.precision import rounded
from lora_lab.surgery.spool import Spool
from lora_lab.surgery.uses import AdapterUse, open_uses

BY_TENSORS = {
    Kind.IA3: ("weight",),
    Kind.FULL: ("diff",),
    Kind.NORM: ("w_norm", "b_norm"),
    Kind.GLORA: ("a1.weight", "b1.weight"),
}
"""Kinds whose own tensors scale with the delta; the others have an alpha, which the webui passes over for GLoRA."""


@dataclass(frozen=True)
class BakeRequest:
    """What to bake: the adapter and its strengths; ``fold_alpha`` moves alpha into `lora_up`, so that alpha = rank."""

    use: AdapterUse
    out: Path
    fold_alpha: bool = False
    dtype: torch.dtype | None = None
    force: bool = False
    dry_run: bool = False


def bake(request: BakeRequest, progress: Progress = silent) -> Outcome:
    """Do it.

    Raises:
        AdapterFileError: a kind that has no place for a strength (OFT, BOFT, DoRA).
        SettingsError: a block that the family does not have, or nothing is left.
        OutputError: see :func:`lora_lab.network.streams.check_output`.
    """
    with ExitStack() as stack:
        opened = open_uses(stack, [request.use])[0]
        reader, expect = opened.reader, opened.reader.stored_bytes(request.dtype)
        spool = stack.enter_context(
            Spool(request.out, force=request.force, inputs=[request.use.path], expect=expect)
        )  # fmt: skip
        tally, dropped = Tally(), 0
        for number, entry in enumerate(reader):
            progress(number, len(reader.sites), entry.name)
            strength = opened.strength(entry)
            if strength == 0:
                dropped += 1
                continue
            _bake_site(request, reader, entry, strength, spool, tally)
        if dropped == len(reader.sites):
            raise SettingsError("nothing is left", file=request.use.path, remedy="give strengths other than 0")
        if dropped:
            tally.notes.append(f"{dropped} sites at strength 0 are left out")
        for key in reader.others:
            spool.put(key, reader.file.read(key))
        metadata = inherited(reader.metadata, request.out.stem) | recipe("bake", adapter=opened.to_json())
        if request.fold_alpha or not opened.is_plain:
            metadata["ss_network_alpha"] = "Dynamic"
        size = sum(spec.nbytes for spec in spool.specs.values())
        if not request.dry_run:
            size = spool.write(metadata)
        return tally.outcome(None if request.dry_run else request.out, size)


def _bake_site(
    request: BakeRequest, reader: AdapterReader, entry: SiteEntry, strength: float, spool: Spool, tally: Tally
) -> None:
    """Put one site's tensors; what is lost is taken from the tensor that is rounded the most."""
    before = reader.tensors(entry)
    after = scaled(entry, before, strength, reader.path)
    if request.fold_alpha and entry.kind is Kind.LORA and "dora_scale" not in after:
        after = folded(after)
    lost = 0.0
    for suffix, tensor in after.items():
        stored = before[suffix].dtype if suffix in before and suffix != "alpha" else torch.float32
        if request.dtype is not None and suffix not in ("alpha", "scale") and tensor.is_floating_point():
            stored = request.dtype
        new = rounded(tensor, stored, f"{entry.name}.{suffix}")
        spool.put(f"{entry.name}.{suffix}", new)
        if suffix not in ("alpha", "scale"):
            share = energy_of(tensor.float())
            lost = max(lost, energy_of(tensor.float() - new.float()) / share if share else 0.0)
    norm = reader.norm(entry)
    norm2 = (norm * strength) ** 2 if norm is not None else 1.0
    tally.add(block_of(entry.name, reader.family), norm2, lost * norm2)


def scaled(entry: SiteEntry, tensors: Mapping[str, Tensor], strength: float, path: Path) -> dict[str, Tensor]:
    """A site's tensors for a delta times ``strength``.

    Raises:
        AdapterFileError: the kind has no place for it.
    """
    new = dict(tensors)
    if strength == 1:
        return new
    if "dora_scale" in tensors or entry.kind in (Kind.OFT, Kind.BOFT):
        kind = "DoRA" if "dora_scale" in tensors else entry.kind.value
        raise AdapterFileError(
            f"the site {entry.name} is {kind}, whose file has no place for a strength",
            file=path,
            remedy="merge it with the method svd and the checkpoint, or leave its blocks at 1 or 0",
        )
    own = BY_TENSORS.get(entry.kind, ())
    if entry.kind is Kind.LOKR and entry.rank is None:  # both halves whole: alpha means nothing here
        own = ("lokr_w1",)
    for suffix in (*own, "diff_b"):
        if suffix in new:
            new[suffix] = new[suffix].float() * strength
    if not own:
        name = "scale" if "scale" in new else "alpha"
        old = float(new[name]) if name in new else float(entry.rank or 1)
        new[name] = torch.tensor(old * strength)
    return new


def folded(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A LoRA site's tensors with the scale in `lora_up` and alpha equal to the rank."""
    new = dict(tensors)
    rank = new["lora_down.weight"].shape[0]
    scale = float(new.pop("scale")) if "scale" in new else float(new.get("alpha", torch.tensor(float(rank)))) / rank
    new["lora_up.weight"] = new["lora_up.weight"].float() * scale
    new["alpha"] = torch.tensor(float(rank))
    return new
