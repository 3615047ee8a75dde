"""DyLoRA: a LoRA that is good at every smaller rank too (arXiv 2210.07558), in kohya's way of training it.

In each forward of a training step one block of ranks is drawn, gets the gradient, and the whole is made larger by
sqrt(dim / ranks up to and with that block). Out of training, and on disk, it is a plain LoRA.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from lora_lab.errors import SettingsError
from lora_lab.network.lora import LoraPiece
from lora_lab.network.piece import PLAIN, Piece, geometry, ratio
from lora_lab.network.recipe import Recipe
from lora_lab.network.sites import Site
from lora_lab.network.sizes import Size


class DyloraPiece(Piece):
    """The two factors in blocks of ranks, each a parameter of its own, so that the others rest in a step."""

    def __init__(self, site: Site, down: Tensor, up: Tensor, alpha: float, how: Recipe = PLAIN) -> None:
        super().__init__(site, how)
        self.alpha = alpha
        self.downs = [nn.Parameter(block.clone()) for block in torch.split(down, how.block_size)]
        self.ups = [nn.Parameter(block.clone()) for block in torch.split(up, how.block_size, dim=1)]

    @classmethod
    def fresh(cls, site: Site, size: Size, how: Recipe, generator: torch.Generator) -> DyloraPiece:
        """As a fresh LoRA.

        Raises:
            SettingsError: blocks of a size that does not divide the rank.
        """
        if how.block_size < 1 or size.dim % how.block_size:
            what = f"block_size {how.block_size} does not divide network_dim {size.dim}"
            raise SettingsError(what, remedy="choose one that does, such as 1 or 4")
        whole = LoraPiece.fresh(site, size, how, generator)
        return cls(site, whole.down.detach(), whole.up.detach(), whole.alpha, how)

    @property
    def parameters(self) -> tuple[nn.Parameter, ...]:
        """All downs, all ups."""
        return (*self.downs, *self.ups)

    @property
    def scale(self) -> float:
        """alpha / dim."""
        return self.alpha / sum(block.shape[0] for block in self.downs)

    def tensors(self) -> dict[str, Tensor]:
        """Those of a plain LoRA."""
        return {
            "alpha": torch.tensor(self.alpha),
            "lora_down.weight": torch.cat(tuple(self.downs)).detach(),
            "lora_up.weight": torch.cat(tuple(self.ups), dim=1).detach(),
        }

    def delta(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """See `Piece.delta`."""
        downs, ups, scale = list[Tensor](self.downs), list[Tensor](self.ups), self.scale
        if self.dropping:
            chosen = int(torch.randint(len(downs), ()))
            downs = [block if i == chosen else block.detach() for i, block in enumerate(downs)]
            ups = [block if i == chosen else block.detach() for i, block in enumerate(ups)]
            scale *= (len(downs) / (chosen + 1)) ** 0.5
        down, up = torch.cat(downs).to(dtype), torch.cat(ups, dim=1).to(dtype)
        if self.site.kind == "linear":
            return functional.linear(functional.linear(x.to(dtype), down), up).to(dtype) * scale
        inner = functional.conv2d(x.to(dtype), down, None, *geometry(self.site))
        return functional.conv2d(inner, up).to(dtype) * scale

    def limit(self, most: float) -> None:
        """See `Piece.limit`."""
        with torch.no_grad():
            up, down = torch.cat(tuple(self.ups), dim=1).flatten(1), torch.cat(tuple(self.downs)).flatten(1)
            kept = ratio((up @ down).norm() * self.scale, most)
            for parameter in self.parameters:
                parameter.mul_(kept**0.5)
