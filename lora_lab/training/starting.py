"""What a run starts from: a LoRA that it goes on with, and LoRAs that act beside it as if merged into the checkpoint.

Both are looked at by their headers before the start (`start_files`), and read and put on the live model when the
run is set up. No weight of the model is touched: LoRAs beside are frozen adapters of their own, which
hang on the model while the trained one does, and go with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lora_lab.errors import AdapterFileError, SettingsError
from lora_lab.network import files
from lora_lab.network.adapter import Adapter
from lora_lab.network.lora_file import by_site
from lora_lab.network.outline import alpha_of, rank_of
from lora_lab.network.reach import WIDEST
from lora_lab.network.sites import Site, find_sites
from lora_lab.network.sizes import Size, Sizes
from lora_lab.training.start_files import find_file, multipliers

if TYPE_CHECKING:
    from torch import Tensor

    from lora_lab.host.base import LoadedModel
    from lora_lab.network.piece import Piece
    from lora_lab.training.settings import TrainSettings

@dataclass(frozen=True)
class Beside:
    """A frozen adapter that hangs on the model together with the trained one."""

    adapter: Adapter
    strength: float
    saved: bool
    """Is it part of the result? So are the parts of `network_weights` that this run does not train."""


class Start:
    """The files of a run, read; made once while it is set up."""

    def __init__(self, settings: TrainSettings, model: LoadedModel, lora_dir: Path) -> None:
        """
        Raises:
            AdapterFileError: a file that cannot be read, or does not fit the model.
        """
        self._settings = settings
        self._sites: tuple[Site, ...] = ()
        if settings.network_weights or settings.base_weights:
            self._sites = find_sites(model.unet, model.text_encoders, model.info.family, model.layout, reach=WIDEST)
        self._path = find_file(settings.network_weights, lora_dir) if settings.network_weights else None
        self._held: dict[str, dict[str, Tensor]] = {}
        self._loaded: dict[str, Piece] = {}
        if self._path is not None:
            tensors = files.read(self._path).tensors
            self._held = by_site(tensors)
            pieces = Adapter.from_tensors(self._sites, tensors, file=self._path).pieces
            self._loaded = {piece.site.name: piece for piece in pieces}
        self._paths = [find_file(value, lora_dir) for value in settings.base_weights]
        self._base = [self._frozen(path) for path in self._paths]

    def sites(self, usual: tuple[Site, ...]) -> tuple[Site, ...]:
        """Those to train: with dim_from_weights all that the file has, in the parts of `usual`."""
        if not self._from_file:
            return usual
        parts = {site.part for site in usual}
        return tuple(site for site in self._sites if site.part in parts and site.name in self._held)

    def sizes(self, usual: Sizes | Size) -> Sizes | Size:
        """Rank and alpha of each site: with dim_from_weights the file's."""
        if not self._from_file:
            return usual
        return lambda site: self._size(site)

    def fill(self, adapter: Adapter) -> Adapter:
        """The fresh `adapter` with the file's pieces in the place of its own where the file has the site.

        Raises:
            AdapterFileError: one of another kind.
            SettingsError: one of another size, which dim_from_weights would take.
        """
        if not self._loaded:
            return adapter
        return Adapter([self._taken(piece) for piece in adapter.pieces])

    def beside(self, adapter: Adapter) -> tuple[Beside, ...]:
        """base_weights, and what network_weights has of layers that `adapter` does not train."""
        trained = {site.name for site in adapter.sites}
        rest = [piece for name, piece in self._loaded.items() if name not in trained]
        kept = [Beside(_freeze(Adapter(rest)), 1.0, saved=True)] if rest else []
        base = zip(self._base, multipliers(self._settings), strict=True)
        return (*(Beside(one, strength, saved=False) for one, strength in base), *kept)

    @property
    def text_mark(self) -> str:
        """Changes with whatever acts on a text encoder that is not trained; empty where nothing does."""
        settings = self._settings
        if not settings.base_weights and self._path is None and not settings.fp8_base:
            return ""
        stamps = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in (*self._paths, self._path) if p is not None]
        return f" {stamps} {multipliers(settings)} {settings.fp8_base}"

    @property
    def _from_file(self) -> bool:
        return self._settings.dim_from_weights and self._path is not None

    def _size(self, site: Site) -> Size | None:
        held = self._held.get(site.name)
        if held is None:
            return None
        rank, alpha = rank_of(held), alpha_of(held)
        if rank is None or alpha is None:
            return Size(self._settings.network_dim, self._settings.network_alpha)  # a kind, or a form, without a rank
        wide = getattr(self._settings, "rs_lora", False)
        return Size(rank, alpha / math.sqrt(rank) if wide else alpha)

    def _taken(self, fresh: Piece) -> Piece:
        loaded = self._loaded.get(fresh.site.name)
        if loaded is None:
            return fresh
        mine, its = fresh.tensors(), loaded.tensors()
        if mine.keys() != its.keys():
            what = f"network_weights is of another kind than this run at {fresh.site.name}"
            raise AdapterFileError(what, file=self._path, remedy="choose the kind that the file was trained as")
        _check_alike(fresh.site, mine, its, self._path)
        loaded.how = fresh.how
        return loaded

    def _frozen(self, path: Path) -> Adapter:
        return _freeze(Adapter.from_tensors(self._sites, files.read(path).tensors, file=path))


def _check_alike(site: Site, mine: Mapping[str, Tensor], its: Mapping[str, Tensor], path: Path | None) -> None:
    remedy = "set network_dim and network_alpha as the file has them, or switch dim_from_weights on"
    wrong = next((name for name in mine if mine[name].shape != its[name].shape), None)
    if wrong is not None:
        what = f"network_weights has {wrong} of {tuple(its[wrong].shape)} at {site.name}, this run "
        raise SettingsError(f"{what}{tuple(mine[wrong].shape)} ({path})", remedy=remedy)
    if "alpha" in mine and not math.isclose(float(mine["alpha"]), float(its["alpha"]), rel_tol=1e-3):
        what = f"network_weights has the alpha {float(its['alpha']):g}, this run {float(mine['alpha']):g} ({path})"
        raise SettingsError(what, remedy=remedy)


def _freeze(adapter: Adapter) -> Adapter:
    for parameter in adapter.parameters():
        parameter.requires_grad_(False)
    return adapter
