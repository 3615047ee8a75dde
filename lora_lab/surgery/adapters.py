"""An adapter file as sites: whatever its maker named the tensors, one site after the other is read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lora_lab.errors import AdapterFileError
from lora_lab.families import Family
from lora_lab.network.deltas import Delta, Kind, delta, factors, kind_of, needs_base, rank_of
from lora_lab.network.streams import TensorFile
from lora_lab.surgery import places
from lora_lab.surgery.layouts import family_of, split_key
from lora_lab.surgery.lowrank import product_norm
from lora_lab.surgery.precision import all_finite


@dataclass(frozen=True)
class SiteEntry:
    """A site of a file: its kind, the rank that its alpha is divided by, and each tensor's key and shape by suffix."""

    name: str
    kind: Kind
    rank: int | None
    keys: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def needs_base(self) -> bool:
        """Whether the delta depends on the checkpoint's weight."""
        return needs_base(self.kind, self.keys)


class AdapterReader:
    """An open adapter file. Use it in a ``with``.

    Attributes:
        family: told by names and widths.
        sites: by kohya's names, in the order of the names.
        others: keys that belong to no site, such as bundled embeddings.
    """

    def __init__(self, path: str | Path, hint: Family | None = None) -> None:
        """Open and understand the file.

        Args:
            hint: decides between SD1 and SD2 where nothing in the file does.

        Raises:
            AdapterFileError: unreadable, no adapter at all, a site of no known kind or half of one, or of rank 0.
        """
        self.file = TensorFile(path, AdapterFileError)
        self.path = self.file.path
        try:
            self._understand(hint)
        except BaseException:
            self.file.close()
            raise

    def _understand(self, hint: Family | None) -> None:
        raw: dict[str, dict[str, str]] = {}
        self.others: list[str] = []
        for key in self.file:
            found = split_key(key)
            if found is None:
                self.others.append(key)
            else:
                raw.setdefault(found[0], {})[found[1]] = key
        if not raw:
            self._refuse()
        shapes = {s: {suffix: self.file.specs[key].shape for suffix, key in keys.items()} for s, keys in raw.items()}
        self.family = family_of(raw, shapes, self.file.metadata, hint)
        self.sites: dict[str, SiteEntry] = {}
        for name in sorted(raw, key=self._canonical):
            self._add(self._canonical(name), raw[name], shapes[name])
        self._scales = self._peft_scales()

    def _canonical(self, site: str) -> str:
        if self.family is Family.SDXL and site.startswith("lora_te_"):
            site = "lora_te1_" + site.removeprefix("lora_te_")
        return places.canonical(site, self.family)

    def _add(self, name: str, keys: dict[str, str], shapes: dict[str, tuple[int, ...]]) -> None:
        if name in self.sites:
            raise AdapterFileError(f"two names in the file mean the site {name}", file=self.path)
        try:
            kind = kind_of(shapes, name)
        except AdapterFileError as wrong:
            raise AdapterFileError(wrong.what, file=self.path, remedy=wrong.remedy) from wrong
        try:
            rank = rank_of(kind, shapes)
        except IndexError as wrong:
            raise AdapterFileError(
                f"the tensors of {name} have impossible shapes", file=self.path, remedy="get the file again"
            ) from wrong
        if rank == 0 or any(0 in shape for shape in shapes.values()):
            raise AdapterFileError(f"the site {name} has rank 0", file=self.path, remedy="make the file again")
        self.sites[name] = SiteEntry(name, kind, rank, keys, shapes)

    def _refuse(self) -> None:
        some = ", ".join(sorted(self.file)[:2]) or "nothing"
        whole = any(key.startswith(("model.diffusion_model.", "cond_stage_model.")) for key in self.file)
        what = "this is a checkpoint, not an adapter" if whole else f"no LoRA or LyCORIS adapter (it holds {some})"
        raise AdapterFileError(what, file=self.path, remedy="give a LoRA file")

    def _peft_scales(self) -> dict[str, float]:
        """alpha / r of each part, where diffusers wrote its configuration into the metadata."""
        try:
            config = json.loads(self.file.metadata.get("lora_adapter_metadata", "{}"))
            parts = {"unet": "lora_unet_", "text_encoder": "lora_te", "text_encoder_2": "lora_te2_"}
            return {
                prefix: float(config[f"{part}.lora_alpha"]) / float(config[f"{part}.r"])
                for part, prefix in parts.items()
                if f"{part}.lora_alpha" in config
            }
        except (ValueError, TypeError, KeyError, ZeroDivisionError):
            return {}

    def __enter__(self) -> AdapterReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __iter__(self) -> Iterator[SiteEntry]:
        return iter(self.sites.values())

    @property
    def metadata(self) -> Mapping[str, str]:
        """The file's own metadata."""
        return self.file.metadata

    @property
    def dtype(self) -> torch.dtype:
        """What most of the numbers are stored in."""
        counts: Counter[torch.dtype] = Counter()
        for spec in self.file.specs.values():
            counts[spec.dtype] += spec.count if spec.dtype.is_floating_point else 0
        return counts.most_common(1)[0][0]

    def stored_bytes(self, dtype: torch.dtype | None) -> int:
        """What the tensors take in a precision (None: their own)."""
        return sum(
            spec.count * dtype.itemsize if dtype is not None and spec.dtype.is_floating_point else spec.nbytes
            for spec in self.file.specs.values()
        )

    @property
    def kinds(self) -> list[str]:
        """The kinds in the file; `dora` besides where a site is decomposed."""
        return sorted({e.kind.value for e in self} | {"dora" for e in self if "dora_scale" in e.keys})

    def tensors(self, entry: SiteEntry) -> dict[str, Tensor]:
        """A site's tensors by suffix, as stored, but for peft's magnitudes, which get LyCORIS's shape, and its
        scales, which come as `scale`."""
        found = {suffix: self.file.read(key) for suffix, key in entry.keys.items()}
        for suffix, tensor in found.items():
            if tensor.is_floating_point() and not all_finite(tensor):
                raise AdapterFileError(
                    f"{entry.name}.{suffix} holds NaN or infinite numbers", file=self.path, remedy="train it again"
                )
        if "dora_scale" in found and found["dora_scale"].dim() == 1:
            found["dora_scale"] = found["dora_scale"].reshape(-1, *[1] * (found["lora_down.weight"].dim() - 1))
        scale = [s for prefix, s in self._scales.items() if entry.name.startswith(prefix)]
        if scale and "alpha" not in found:
            found["scale"] = torch.tensor(scale[-1])
        return found

    def delta(self, entry: SiteEntry, base: Tensor | None = None) -> Delta:
        """What a site adds at strength 1, float32.

        Raises:
            AdapterFileError: the site does not fit the weight, or needs one and has none.
        """
        if base is None and entry.needs_base:
            raise AdapterFileError(
                f"the site {entry.name} ({entry.kind.value}) changes a weight by what it was",
                file=self.path,
                remedy="give the checkpoint too",
            )
        try:
            return delta(entry.kind, self.tensors(entry), base, entry.name)
        except AdapterFileError as wrong:
            raise AdapterFileError(wrong.what, file=self.path, remedy=wrong.remedy) from wrong

    def factors(self, entry: SiteEntry) -> tuple[Tensor, Tensor] | None:
        """`up` (out, r), `down` (r, rest) with the delta as their product; None for a kind that is none.

        Raises:
            AdapterFileError: the tensors do not fit each other.
        """
        try:
            found = factors(entry.kind, self.tensors(entry))
        except (RuntimeError, IndexError, ValueError) as wrong:
            raise self._misfit(entry) from wrong
        if found is not None and found[0].shape[1] != found[1].shape[0]:
            raise self._misfit(entry)
        return found

    def _misfit(self, entry: SiteEntry) -> AdapterFileError:
        shapes = ", ".join(f"{name} {list(shape)}" for name, shape in sorted(entry.shapes.items()))
        what = f"the tensors of {entry.name} do not fit each other: {shapes}"
        return AdapterFileError(what, file=self.path, remedy="get the file again")

    def shape(self, entry: SiteEntry, out: int, rest: int) -> tuple[int, ...]:
        """The shape of the layer's weight, from the tensors where they tell it, else from the name."""
        down = entry.shapes.get("lora_down.weight")
        if down is not None and len(down) == 4:
            return out, down[1], *entry.shapes.get("lora_mid.weight", down)[2:]
        for name in ("lokr_w2", "lokr_t2", "hada_t1", "diff"):
            if len(entry.shapes.get(name, ())) == 4:
                kernel = entry.shapes[name][2:]
                return out, rest // (kernel[0] * kernel[1]), *kernel
        if down is not None:
            return out, rest
        return places.layer_shape(entry.name, out, rest, self.family)

    def norm(self, entry: SiteEntry) -> float | None:
        """The Frobenius norm of a site's delta; None where only the checkpoint can tell."""
        product = self.factors(entry)
        if product is not None:
            return product_norm(*product)
        if entry.needs_base:
            return None
        weight = self.delta(entry).weight
        return None if weight is None else float(weight.norm())
