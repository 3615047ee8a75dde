"""The webui's live text encoders, family by family: their modules, plain tokens of captions, and their states.

The encoders are called as the webui calls them for a picture, only past its prompt syntax, embeddings and weights.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import torch

from lora_lab.families import Family
from lora_lab.host import clip
from lora_lab.host.base import Conditioning, TokenBatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from lora_lab.host.webui_types import SdModel


class TextSide(ABC):
    """The text encoders of one family."""

    modules: tuple[nn.Module, ...]
    """Whose paths `network.names` knows."""

    @abstractmethod
    def tokenize(self, captions: Sequence[str], max_token_length: int) -> TokenBatch:
        """See `LoadedModel.tokenize`."""

    @abstractmethod
    def encode(self, ids: Sequence[Tensor], clip_skip: int) -> Conditioning:
        """States of ids on the device, see `LoadedModel.encode_tokens`."""


def text_side(sd_model: SdModel, family: Family) -> TextSide:
    """The live model's text encoders."""
    if family is Family.SDXL:
        return _Sdxl(wrappers(sd_model))
    return _Sd1(sd_model.cond_stage_model) if family is Family.SD1 else _Sd2(sd_model.cond_stage_model)


def wrappers(sd_model: SdModel) -> list[Any]:
    """The webui's wrappers of the text encoders of a model with a `conditioner`."""
    conditioner: Any = sd_model.conditioner
    return [embedder for embedder in conditioner.embedders if hasattr(embedder, "wrapped")]


class _Sd1(TextSide):
    """One CLIP of transformers."""

    def __init__(self, wrapper: Any) -> None:  # noqa: ANN401 - the webui's
        self._embedder = wrapper.wrapped
        self.modules = (self._embedder.transformer,)

    def tokenize(self, captions: Sequence[str], max_token_length: int) -> TokenBatch:
        return clip.tokenize(self._embedder.tokenizer, captions, max_token_length)

    def encode(self, ids: Sequence[Tensor], clip_skip: int) -> Conditioning:
        return Conditioning(clip.encode(self.modules[0], ids[0], clip_skip))


class _Sd2(TextSide):
    """One CLIP of open_clip, whose embedder leaves the last layer out."""

    def __init__(self, wrapper: Any) -> None:  # noqa: ANN401 - the webui's
        self._wrapper = wrapper
        self.modules = (wrapper.wrapped.model,)

    def tokenize(self, captions: Sequence[str], max_token_length: int) -> TokenBatch:
        return clip.pack((_open_clip_ids(captions),), (_marks(self._wrapper),), max_token_length)

    def encode(self, ids: Sequence[Tensor], clip_skip: int) -> Conditioning:
        found = self._wrapper.wrapped.encode_with_transformer(ids[0].flatten(0, 1))
        return Conditioning(clip.flat(found, ids[0]))


class _Sdxl(TextSide):
    """A CLIP of transformers and one of open_clip, side by side."""

    def __init__(self, found: Sequence[Any]) -> None:
        self._wrappers = found
        self._one, self._two = found[0].wrapped, found[1].wrapped
        self.modules = (self._one.transformer, self._two.model)

    def tokenize(self, captions: Sequence[str], max_token_length: int) -> TokenBatch:
        lists = clip.ids_of(self._one.tokenizer, captions), _open_clip_ids(captions)
        return clip.pack(lists, [_marks(wrapper) for wrapper in self._wrappers], max_token_length)

    def encode(self, ids: Sequence[Tensor], clip_skip: int) -> Conditioning:
        one = self._one.transformer(input_ids=ids[0].flatten(0, 1), output_hidden_states=True)
        first = one.last_hidden_state if self._one.layer == "last" else one.hidden_states[self._one.layer_idx]
        two = self._two.encode_with_transformer(ids[1].flatten(0, 1))
        context = torch.cat([clip.flat(first, ids[0]), clip.flat(two[self._two.layer], ids[1])], 2)
        pooled: Tensor = two["pooled"]
        return Conditioning(context, pooled.view(*ids[1].shape[:2], -1)[:, 0])


def _marks(wrapper: Any) -> clip.Marks:  # noqa: ANN401 - the webui's
    return clip.Marks(wrapper.id_start, wrapper.id_end, wrapper.id_pad)


def _open_clip_ids(captions: Sequence[str]) -> list[list[int]]:
    """Through the one tokenizer that the webui uses for open_clip's encoders."""
    from modules import sd_hijack_open_clip

    return [list(sd_hijack_open_clip.tokenizer.encode(caption)) for caption in captions]
