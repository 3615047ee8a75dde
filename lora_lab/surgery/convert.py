"""Convert an adapter's key layout and precision: kohya's names, diffusers' and peft's, SDXL by ldm's names or by
diffusers'. Every layout that :mod:`lora_lab.surgery.layouts` knows is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from lora_lab.errors import AdapterFileError, SettingsError
from lora_lab.families import Family
from lora_lab.network import names
from lora_lab.network.deltas import Kind
from lora_lab.surgery.adapters import AdapterReader, SiteEntry
from lora_lab.surgery.bake import folded
from lora_lab.surgery.layouts import diffusers_key
from lora_lab.surgery.lowrank import energy_of
from lora_lab.surgery.metadata import inherited, recipe, source_entry
from lora_lab.surgery.outcome import Outcome, Progress, Tally, silent
from lora_lab.surgery.places import block_of
from lora_lab.surgery.precision import rounded
from lora_lab.surgery.spool import Spool

LayoutName = Literal["kohya", "diffusers", "kohya-diffusers"]
LAYOUTS: dict[str, str] = {
    "kohya": "as kohya's trainers save: UNet of SD1, SD2 by diffusers' names, of SDXL by ldm's",
    "diffusers": "as diffusers and peft save: unet.down_blocks.0....lora_A.weight, alpha folded",
    "kohya-diffusers": "kohya's, but the UNet of SDXL by diffusers' names too",
}


@dataclass(frozen=True)
class ConvertRequest:
    """What to convert; ``dtype`` None keeps the precision, ``fold_alpha`` makes alpha the rank."""

    source: Path
    out: Path
    layout: LayoutName = "kohya"
    dtype: torch.dtype | None = None
    fold_alpha: bool = False
    force: bool = False
    dry_run: bool = False

    def __post_init__(self) -> None:
        """Check the layout.

        Raises:
            SettingsError: an unknown one.
        """
        if self.layout not in get_args(LayoutName):
            known = ", ".join(f"{name} ({what})" for name, what in LAYOUTS.items())
            raise SettingsError(f"'{self.layout}' is no layout", remedy=f"choose one of {known}")


def convert(request: ConvertRequest, progress: Progress = silent) -> Outcome:
    """Do it.

    Raises:
        AdapterFileError: a kind or a site that the layout has no name for.
        OutputError: see :func:`lora_lab.network.streams.check_output`.
    """
    with (
        AdapterReader(request.source) as reader,
        Spool(
            request.out, force=request.force, inputs=[request.source], expect=reader.stored_bytes(request.dtype)
        ) as spool,
    ):
        tally = Tally()
        for number, entry in enumerate(reader):
            progress(number, len(reader.sites), entry.name)
            _site(request, reader, entry, spool, tally)
        for key in reader.others:
            spool.put(key, reader.file.read(key))
        metadata = inherited(reader.metadata, request.out.stem)
        metadata |= recipe("convert", source=source_entry(reader.file), layout=request.layout)
        metadata.pop("lora_adapter_metadata", None)
        if request.layout == "diffusers":
            metadata |= {"format": "pt"}
        elif reader.family is not Family.SD1 or "ss_base_model_version" not in metadata:
            metadata.setdefault("ss_v2", str(reader.family is Family.SD2))
        size = sum(spec.nbytes for spec in spool.specs.values())
        if not request.dry_run:
            size = spool.write(metadata, hashes=request.layout != "diffusers")
        return tally.outcome(None if request.dry_run else request.out, size)


def _site(request: ConvertRequest, reader: AdapterReader, entry: SiteEntry, spool: Spool, tally: Tally) -> None:
    before: Mapping[str, Tensor] = reader.tensors(entry)
    plain = entry.kind is Kind.LORA and "dora_scale" not in entry.keys
    if request.layout == "diffusers" and (entry.kind is not Kind.LORA or "lora_mid.weight" in entry.keys):
        raise AdapterFileError(
            f"the site {entry.name} is {entry.kind.value}, which diffusers' layout cannot hold",
            file=reader.path,
            remedy="resize it to a LoRA first",
        )
    fold = request.fold_alpha or request.layout == "diffusers"
    after = folded(before) if fold and entry.kind is Kind.LORA else dict(before)
    if request.layout == "diffusers":
        after.pop("alpha")
        if not plain:
            after["dora_scale"] = after["dora_scale"].flatten()
    lost = 0.0
    for suffix, tensor in after.items():
        kept = before[suffix].dtype if suffix in before else torch.float32
        dtype = request.dtype if request.dtype and tensor.is_floating_point() and suffix != "alpha" else kept
        new = rounded(tensor, dtype, f"{entry.name}.{suffix}")
        energy = energy_of(tensor.float())
        lost = max(lost, energy_of(tensor.float() - new.float()) / energy if energy else 0.0)
        spool.put(_key(request, reader, entry.name, suffix), new)
    norm2 = (reader.norm(entry) or 0.0) ** 2
    tally.add(block_of(entry.name, reader.family), norm2, lost * norm2)


def _key(request: ConvertRequest, reader: AdapterReader, site: str, suffix: str) -> str:
    if request.layout == "kohya":
        return f"{site}.{suffix}"
    if request.layout == "diffusers":
        key = diffusers_key(site, suffix, reader.family)
    else:
        found = names.module_path(site, reader.family, "diffusers")
        path = found and (found[1] if found[0] == "unet" else None)
        key = f"lora_unet_{path.replace('.', '_')}.{suffix}" if path else f"{site}.{suffix}"
    if key is None:
        raise AdapterFileError(
            f"diffusers has no layer for the site {site}", file=reader.path, remedy="keep kohya's layout"
        )
    return key
