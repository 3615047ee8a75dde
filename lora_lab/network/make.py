"""Fresh pieces of every kind."""

from __future__ import annotations

import torch

from lora_lab.errors import SettingsError
from lora_lab.network.lora import LoraPiece
from lora_lab.network.piece import Piece
from lora_lab.network.recipe import Recipe
from lora_lab.network.sites import Site
from lora_lab.network.sizes import Size


def fresh(site: Site, size: Size, how: Recipe, generator: torch.Generator) -> Piece:
    """A new piece on `site`, whose delta is zero.

    Args:
        generator: on the CPU; its numbers are taken in the same way on every device.

    Raises:
        SettingsError: a share of dropout that leaves nothing.
    """
    for name in ("dropout", "rank_dropout", "module_dropout"):
        if not 0 <= getattr(how, name) < 1:
            what = f"{name} {getattr(how, name):g} is no share"
            raise SettingsError(what, remedy="choose 0 or more, below 1")
    return LoraPiece.fresh(site, size, how, generator)
