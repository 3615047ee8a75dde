"""An adapter on a live model: attached by forward hooks on instances, switched and scaled at call time.

No weight of the model is copied or changed, and detaching is attaching's inverse: nothing is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lora_lab.errors import AdapterFileError, SettingsError
from lora_lab.families import Part
from lora_lab.network import blocks
from lora_lab.network.attention import OpenedAttention
from lora_lab.network.lora_file import pieces_from_tensors
from lora_lab.network.make import fresh
from lora_lab.network.piece import Factor, Piece, acting
from lora_lab.network.recipe import Recipe
from lora_lab.network.sites import Site
from lora_lab.network.sizes import Size, Sizes, checked

PLAIN = Recipe()
"""A plain LoRA."""


@dataclass(frozen=True)
class Strengths:
    """How strongly an adapter acts. A site's strength is the product of its part's, its block's and its sample's."""

    unet: float = 1.0
    text_encoder: float = 1.0
    """Of all text encoders."""
    blocks: Mapping[str, float] = field(default_factory=dict)
    """By block name; a block that is not named has 1."""
    per_sample: Tensor | None = None
    """(n,), or (n, number of `Adapter.blocks`), in their order. A batch of k * n takes them k times over."""
    sites: Mapping[str, float | Tensor] = field(default_factory=dict)
    """By a site's name on disk, what stands there in place of its block's and its sample's: a number, or (n,)."""


class Adapter:
    """A trained network of pieces, one at each site. Make one by `create` or `from_tensors`."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self.pieces = tuple(pieces)
        self.blocks = blocks.in_order(piece.site.block for piece in self.pieces)
        """The blocks that its sites lie in: BASE, inputs, middle, outputs."""
        self._handles: list[RemovableHandle] = []
        self._strengths = Strengths()
        self._on = True

    @classmethod
    def create(
        cls,
        sites: Sequence[Site],
        *,
        sizes: Sizes | Size,
        how: Recipe | Callable[[Site], Recipe] = PLAIN,
        generator: torch.Generator,
    ) -> Adapter:
        """A fresh adapter, whose delta is zero.

        Args:
            sites: from `find_sites`, in its order: the same generator gives the same tensors in every layout.
            sizes: rank and alpha of each site's piece; a site whose size is None gets no piece.
            how: the kind and its options, everywhere or of each site.
            generator: on the CPU.

        Raises:
            SettingsError: no site is left, or a size that makes no adapter.
        """
        ask = checked(sizes)
        pieces = [
            fresh(site, size, how if isinstance(how, Recipe) else how(site), generator)
            for site in sites
            if (size := ask(site)) is not None
        ]
        if not pieces:
            raise SettingsError("there is nothing to train", remedy="train the UNet, the text encoder or both")
        return cls(pieces)

    @classmethod
    def from_tensors(
        cls, sites: Sequence[Site], tensors: Mapping[str, Tensor], *, file: str | Path | None = None
    ) -> Adapter:
        """The adapter that a LoRA file holds, on those of `sites` that the file has.

        Args:
            sites: of the live model.
            tensors: by their names on disk, see `files.read`.
            file: for the sentence of an error.

        Raises:
            AdapterFileError: it is for another model (which site, which sizes), or of a kind that is not known.
        """
        return cls(pieces_from_tensors(sites, tensors, file))

    @property
    def sites(self) -> tuple[Site, ...]:
        """Where it hangs, or would."""
        return tuple(piece.site for piece in self.pieces)

    def to_tensors(self) -> dict[str, Tensor]:
        """Names on disk -> float32 copies on the CPU, alphas 0-dim."""
        return {
            f"{piece.site.name}.{suffix}": tensor.to("cpu", copy=True).contiguous()
            for piece in self.pieces
            for suffix, tensor in piece.tensors().items()
        }

    def parameters(self, part: Part | None = None) -> list[nn.Parameter]:
        """What is trained, float32, in the order of the sites; of one part, or all."""
        return [p for piece in self.pieces if part in (None, piece.site.part) for p in piece.parameters]

    def freeze(self, *parts: Part) -> None:
        """What is trained of these parts stays as it is from now on: no gradient is computed, no dropout acts there."""
        for piece in self.pieces:
            if piece.site.part in parts:
                piece.frozen = True
                for parameter in piece.parameters:
                    parameter.requires_grad_(False)
                    parameter.grad = None

    def to(self, device: torch.device | str) -> Adapter:
        """Move all parameters (they stay the same objects, so an optimizer keeps them); returns itself."""
        for parameter in (p for piece in self.pieces for p in piece.held):
            parameter.data = parameter.data.to(device)
            if parameter.grad is not None:
                parameter.grad.data = parameter.grad.data.to(device)
        self._apply()
        return self

    def fits(self, *networks: nn.Module) -> bool:
        """Are its sites still modules of these? Told by the first and the last: a host may have built them anew."""
        ends = {id(site.anchor) for site in self.sites[:1] + self.sites[-1:]}
        return ends <= {id(module) for network in networks for module in network.modules()}

    def rebind(self, sites: Iterable[Site]) -> None:
        """Take the same sites of a model whose modules were built anew.

        Raises:
            AdapterFileError: the new model lacks a site, or has it in another size.
            RuntimeError: while it is attached.
        """
        if self.attached_now:
            raise RuntimeError("an attached adapter cannot change its sites: detach it first")
        new = {site.name: site for site in sites}
        for piece in self.pieces:
            old, site = piece.site, new.get(piece.site.name)
            if site is None or _shape(site) != _shape(old):
                raise AdapterFileError(
                    f"the model has no site {old.name} of {old.in_features} to {old.out_features} any more",
                    remedy="load the checkpoint that this adapter was made for",
                )
        for piece in self.pieces:
            piece.site = new[piece.site.name]

    def limit_norms(self, most: float) -> None:
        """kohya's scale_weight_norms: shrink every piece whose delta's norm is above `most`."""
        for piece in self.pieces:
            piece.limit(most)

    # On the model and off it.

    @property
    def attached_now(self) -> bool:
        """Does it hang on the live model?"""
        return bool(self._handles)

    def attach(self) -> None:
        """Hook every site. Nothing is hooked if that fails midway.

        Raises:
            RuntimeError: it is attached already.
        """
        if self.attached_now:
            raise RuntimeError("this adapter is attached already: detach it first")
        try:
            for attention in self._attentions():
                attention.open()
            for piece in self.pieces:
                module = piece.site.module
                piece.alone = not module._forward_hooks
                self._handles.append(module.register_forward_hook(piece.hook))
        except BaseException:
            self.detach()
            raise

    def detach(self) -> None:
        """Take every hook away; the model is as it was before `attach`. Harmless when it is not attached."""
        while self._handles:
            self._handles.pop().remove()
        for attention in self._attentions():
            attention.close()

    def _attentions(self) -> list[OpenedAttention]:
        """open_clip's attentions that have sites, each once."""
        found = [piece.site.attention for piece in self.pieces if piece.site.attention is not None]
        return list({id(attention): attention for attention in found}.values())

    @contextmanager
    def attached(self) -> Iterator[Adapter]:
        """Attached inside, detached however one leaves."""
        self.attach()
        try:
            yield self
        finally:
            self.detach()

    # How strongly it acts.

    @property
    def strengths(self) -> Strengths:
        """In force now (whether it is on or off)."""
        return self._strengths

    @contextmanager
    def scaled(
        self,
        *,
        unet: float = 1.0,
        text_encoder: float = 1.0,
        blocks: Mapping[str, float] | None = None,
        per_sample: Tensor | None = None,
        sites: Mapping[str, float | Tensor] | None = None,
    ) -> Iterator[None]:
        """Other strengths inside (see `Strengths`); they replace those outside, which are back afterwards.

        Raises:
            ValueError: a block that the adapter has no site in, or a shape of `per_sample` that does not fit.
        """
        before = self._strengths
        self._set(Strengths(unet, text_encoder, dict(blocks or {}), per_sample, dict(sites or {})))
        try:
            yield
        finally:
            self._set(before)

    @contextmanager
    def off(self) -> Iterator[None]:
        """Inside it does nothing: the model computes bit for bit what it computes without."""
        before, self._on = self._on, False
        self._apply()
        try:
            yield
        finally:
            self._on = before
            self._apply()

    @contextmanager
    def training(self, *, lean: bool = False) -> Iterator[None]:
        """Inside dropout acts; it draws from torch's global generator. Pictures and validation stay outside.

        Args:
            lean: keep less for the way back (see `lean.keep`); not while saved tensors are packed by other hooks, as
                gradient checkpointing does.
        """
        before = [(piece.dropping, piece.lean) for piece in self.pieces]
        for piece in self.pieces:
            piece.dropping, piece.lean = not piece.frozen, lean
        try:
            yield
        finally:
            for piece, (dropping, was_lean) in zip(self.pieces, before, strict=True):
                piece.dropping, piece.lean = dropping, was_lean

    def _set(self, strengths: Strengths) -> None:
        factor = self._resolved(strengths)
        self._strengths = strengths
        for piece in self.pieces:
            piece.strength = factor(piece) if self._on else None
            piece.acting = acting(piece.strength)

    def _apply(self) -> None:
        self._set(self._strengths)

    def _resolved(self, strengths: Strengths) -> Callable[[Piece], Factor]:
        """Each piece's strength: a number wherever all samples agree, None for zero."""
        unknown = set(strengths.blocks) - set(blocks.BLOCKS)
        if unknown:
            raise ValueError(f"there is no block {sorted(unknown)[0]!r}: this adapter has {' '.join(self.blocks)}")
        columns = self._columns(strengths.per_sample)

        def factor(piece: Piece) -> Factor:
            number = strengths.unet if piece.site.part == "unet" else strengths.text_encoder
            column = strengths.sites.get(piece.site.name)
            if column is None:
                number *= strengths.blocks.get(piece.site.block, 1.0)
                column = columns[piece.site.block]
            if not isinstance(column, Tensor):
                return number * column or None
            return column.to(piece.site.device) * number if number else None

        return factor

    def _columns(self, per_sample: Tensor | None) -> dict[str, float | Tensor]:
        """Each block's strengths by sample, one number if they are all the same."""
        if per_sample is None:
            return dict.fromkeys(self.blocks, 1.0)
        shape, table = tuple(per_sample.shape), per_sample.detach().to("cpu", torch.float32)
        if len(shape) == 1 and shape[0]:
            table = table[:, None].expand(-1, len(self.blocks))
        elif len(shape) != 2 or not shape[0] or shape[1] != len(self.blocks):
            raise ValueError(
                f"per_sample has the shape {shape}: give (samples,) or (samples, {len(self.blocks)}), "
                f"the columns in the order {' '.join(self.blocks)}"
            )
        same = (table == table[:1]).all(0).tolist()
        return {
            block: float(table[0, i]) if same[i] else table[:, i].contiguous() for i, block in enumerate(self.blocks)
        }


def _shape(site: Site) -> tuple[str, int, int, tuple[int, int]]:
    return site.kind, site.in_features, site.out_features, site.kernel
