"""From the tensors of a LoRA file to pieces on the sites of a live model, with every check between."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from lora_lab.errors import AdapterFileError
from lora_lab.network import names
from lora_lab.network.lora import LoraPiece
from lora_lab.network.sites import Site

SUFFIXES = frozenset({"alpha", "lora_down.weight", "lora_up.weight"})
OTHER_MODEL = "load the checkpoint family that this LoRA was made for"


def by_site(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Names on disk split at the first dot: site -> suffix -> tensor."""
    found: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        site, _, suffix = key.partition(".")
        found.setdefault(site, {})[suffix] = tensor
    return found


def pieces_from_tensors(
    sites: Sequence[Site], tensors: Mapping[str, Tensor], file: str | Path | None = None
) -> list[LoraPiece]:
    """The pieces that `tensors` hold, in the order of `sites`.

    Raises:
        AdapterFileError: a tensor that belongs to no site, or does not fit its site.
    """
    found = by_site(tensors)
    known = {site.name for site in sites}
    ours, theirs = names.generation(known), names.generation(found)
    if ours and theirs and ours != theirs:
        raise AdapterFileError(f"this LoRA is for {theirs}, the loaded model is {ours}", file=file, remedy=OTHER_MODEL)
    _refuse_strangers((name for name in found if name not in known), found, file)
    pieces = [_piece(site, found[site.name], file) for site in sites if site.name in found]
    if not pieces:
        raise AdapterFileError("the file holds no LoRA", file=file, remedy="choose another file")
    return pieces


def _refuse_strangers(
    strangers: Iterable[str], found: Mapping[str, Mapping[str, Tensor]], file: str | Path | None
) -> None:
    odd = list(strangers)
    if odd:
        shapes = {suffix: tuple(tensor.shape) for suffix, tensor in found[odd[0]].items()}
        raise AdapterFileError(
            f"the loaded model has no site {odd[0][:120]} {shapes} ({len(odd)} of {len(found)} sites of the file)",
            file=file,
            remedy=OTHER_MODEL,
        )


def _piece(site: Site, held: Mapping[str, Tensor], file: str | Path | None) -> LoraPiece:
    odd = sorted(set(held) - SUFFIXES)
    if odd:
        what = f"site {site.name} has a tensor {odd[0][:60]!r}: this kind of adapter cannot be put on a model yet"
        raise AdapterFileError(what, file=file, remedy="choose a plain LoRA")
    if not {"lora_down.weight", "lora_up.weight"} <= set(held):
        raise AdapterFileError(f"site {site.name} lacks its down or up half", file=file, remedy="get the file again")
    down, up = held["lora_down.weight"], held["lora_up.weight"]
    dim = down.shape[0] if down.dim() else 0
    if not dim or not _fits(down, dim, site.in_features, site.kernel) or not _fits(up, site.out_features, dim):
        raise AdapterFileError(
            f"site {site.name} is {site.in_features} to {site.out_features} wide in the loaded model, the "
            f" file has down {tuple(down.shape)} and up {tuple(up.shape)}",
            file=file,
            remedy=OTHER_MODEL,
        )
    kernel, tail = ((), ()) if site.kind == "linear" else (site.kernel, (1, 1))
    return LoraPiece(
        site,
        _own(down, site).view(dim, site.in_features, *kernel),
        _own(up, site).view(site.out_features, dim, *tail),
        _alpha(site, held.get("alpha"), dim, file),
    )


def _fits(tensor: Tensor, rows: int, columns: int, kernel: tuple[int, int] = (1, 1)) -> bool:
    """(rows, columns, kernel); a 1x1 kernel may be left out: files of SD2 have either at the same site."""
    shapes = [(rows, columns, *kernel), *([(rows, columns)] if kernel == (1, 1) else [])]
    return tuple(tensor.shape) in shapes and tensor.is_floating_point()


def _own(tensor: Tensor, site: Site) -> Tensor:
    return tensor.detach().to(site.device, torch.float32, copy=True).contiguous()


def _alpha(site: Site, alpha: Tensor | None, dim: int, file: str | Path | None) -> float:
    """Without one, kohya's loaders take the rank."""
    if alpha is None:
        return float(dim)
    if alpha.numel() != 1:
        raise AdapterFileError(f"the alpha of site {site.name} is no number", file=file, remedy="get the file again")
    return float(alpha.reshape(()))
