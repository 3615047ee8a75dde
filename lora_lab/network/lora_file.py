"""From the tensors of a LoRA file to pieces on the sites of a live model, with every check between."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from lora_lab.errors import AdapterFileError
from lora_lab.network import deltas, names
from lora_lab.network.deltas import Kind
from lora_lab.network.formula_piece import CONSTANT, FormulaPiece
from lora_lab.network.lora import LoraPiece
from lora_lab.network.piece import Piece
from lora_lab.network.sites import Site

OTHER_MODEL = "load the checkpoint family that this LoRA was made for"


def by_site(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Names on disk split at the first dot: site -> suffix -> tensor. kohya's OFT has a prefix of its own."""
    found: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        site, _, suffix = key.partition(".")
        site = f"lora_unet_{site.removeprefix('oft_unet_')}" if site.startswith("oft_unet_") else site
        found.setdefault(site, {})[suffix] = tensor
    return found


def pieces_from_tensors(
    sites: Sequence[Site], tensors: Mapping[str, Tensor], file: str | Path | None = None
) -> list[Piece]:
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


def _piece(site: Site, held: Mapping[str, Tensor], file: str | Path | None) -> Piece:
    shapes = {suffix: tuple(tensor.shape) for suffix, tensor in held.items()}
    try:
        kind = deltas.kind_of(shapes, site.name)
    except AdapterFileError as wrong:
        raise AdapterFileError(wrong.what, file=file, remedy=wrong.remedy) from wrong
    strange = sorted(name for name, tensor in held.items() if not tensor.is_floating_point() and name != "on_input")
    if strange:
        what = f"{strange[0]} of site {site.name} is {held[strange[0]].dtype}"
        raise AdapterFileError(what, file=file, remedy="get the file again")
    alpha = _alpha(site, held.get("alpha"), file)
    if kind is Kind.LORA and held.keys() <= LoraPiece.NAMES:
        return _lora(site, held, alpha, file)
    if (kind is Kind.NORM) != (site.kind == "norm"):
        raise _unfit(site, shapes, file)
    own = {name: t.clone() if name in CONSTANT else _own(t, site) for name, t in held.items()}
    piece = FormulaPiece(site, kind, own)
    try:
        with torch.no_grad():
            _check(site, piece.change())
    except (RuntimeError, IndexError, ValueError, KeyError) as wrong:
        raise _unfit(site, shapes, file) from wrong
    return piece


def _check(site: Site, change: tuple[Tensor, Tensor | None]) -> None:
    """A bias may be added only where it has the layer's width."""
    if change[1] is not None and change[1].numel() != site.out_features:
        raise ValueError("the bias has another width")


def _unfit(site: Site, shapes: Mapping[str, tuple[int, ...]], file: str | Path | None) -> AdapterFileError:
    listed = ", ".join(f"{name} {shape}" for name, shape in sorted(shapes.items()))
    return AdapterFileError(
        f"site {site.name} is {site.in_features} to {site.out_features} wide in the loaded model, "
        f"the file has {listed}",
        file=file,
        remedy=OTHER_MODEL,
    )


def _lora(site: Site, held: Mapping[str, Tensor], alpha: float | None, file: str | Path | None) -> LoraPiece:
    down, up = held["lora_down.weight"], held["lora_up.weight"]
    dim = down.shape[0] if down.dim() else 0
    if not dim or not _fits(down, dim, site.in_features, site.kernel) or not _fits(up, site.out_features, dim):
        raise AdapterFileError(
            f"site {site.name} is {site.in_features} to {site.out_features} wide in the loaded model, the "
            f"file has down {tuple(down.shape)} and up {tuple(up.shape)}",
            file=file,
            remedy=OTHER_MODEL,
        )
    kernel, tail = ((), ()) if site.kind == "linear" else (site.kernel, (1, 1))
    return LoraPiece(
        site,
        _own(down, site).view(dim, site.in_features, *kernel),
        _own(up, site).view(site.out_features, dim, *tail),
        float(dim) if alpha is None else alpha,
    )


def _fits(tensor: Tensor, rows: int, columns: int, kernel: tuple[int, int] = (1, 1)) -> bool:
    """(rows, columns, kernel); a 1x1 kernel may be left out: files of SD2 have either at the same site."""
    shapes = [(rows, columns, *kernel), *([(rows, columns)] if kernel == (1, 1) else [])]
    return tuple(tensor.shape) in shapes and tensor.is_floating_point()


def _own(tensor: Tensor, site: Site) -> Tensor:
    return tensor.detach().to(site.device, torch.float32, copy=True).contiguous()


def _alpha(site: Site, alpha: Tensor | None, file: str | Path | None) -> float | None:
    """The number; without one kohya's loaders take the rank."""
    if alpha is None:
        return None
    if alpha.numel() != 1:
        raise AdapterFileError(f"the alpha of site {site.name} is no number", file=file, remedy="get the file again")
    return float(alpha.reshape(()))
