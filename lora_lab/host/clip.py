"""Captions through CLIP text encoders of transformers: plain tokens in chunks, states as each family takes them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch

from lora_lab.host.base import Conditioning, TokenBatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

CHUNK = 75
"""Tokens of a chunk between its BOS and its EOS."""


class Tokenizer(Protocol):
    """What is asked of transformers' CLIPTokenizer."""

    bos_token_id: int
    eos_token_id: int

    def __call__(self, text: list[str], *, truncation: bool, add_special_tokens: bool) -> Any:  # noqa: ANN401
        """A mapping whose ``input_ids`` has a list of ids for each text."""


@dataclass(frozen=True)
class Marks:
    """The ids that are not words."""

    bos: int
    eos: int
    pad: int
    """What follows the EOS of a chunk that is not full."""


OPEN_CLIP_PAD = 0
"""SD2's encoder and SDXL's second were trained with zeros after the EOS."""


def tokenize(tokenizer: Tokenizer, captions: Sequence[str], max_token_length: int = 75) -> TokenBatch:
    """BOS + 75 tokens + EOS per chunk, padded with EOS; as many chunks as the longest caption needs and may have."""
    eos = tokenizer.eos_token_id
    return pack((ids_of(tokenizer, captions),), (Marks(tokenizer.bos_token_id, eos, eos),), max_token_length)


def ids_of(tokenizer: Tokenizer, captions: Sequence[str]) -> list[list[int]]:
    """Plain tokens of each caption, uncut."""
    found = tokenizer(list(captions), truncation=False, add_special_tokens=False)["input_ids"]
    return [list(ids) for ids in found]


def pack(lists: Sequence[Sequence[Sequence[int]]], marks: Sequence[Marks], max_token_length: int = 75) -> TokenBatch:
    """Cut plain tokens into chunks, all encoders into as many.

    Args:
        lists: for each encoder, the tokens of each caption.
        marks: of each encoder.
        max_token_length: 75, 150 or 225 places.
    """
    lengths = tuple(len(ids) for ids in lists[0])
    longest = max((len(ids) for some in lists for ids in some), default=1)
    chunks = min(max_token_length // CHUNK, max(1, -(-longest // CHUNK)))
    return TokenBatch(tuple(_chunked(some, chunks, mark) for some, mark in zip(lists, marks, strict=True)), lengths)


def _chunked(lists: Sequence[Sequence[int]], chunks: int, marks: Marks) -> Tensor:
    """(b, chunks, 77): a full chunk ends in EOS, an empty one begins BOS EOS."""
    rows = [[_chunk(ids[i * CHUNK : (i + 1) * CHUNK], marks) for i in range(chunks)] for ids in lists]
    return torch.tensor(rows, dtype=torch.int64)


def _chunk(ids: Sequence[int], marks: Marks) -> list[int]:
    """77 ids."""
    return [marks.bos, *ids, marks.eos, *[marks.pad] * (CHUNK - len(ids))]


def count(tokenizer: Tokenizer, caption: str) -> int:
    """Tokens of a caption without BOS and EOS."""
    return len(tokenizer([caption], truncation=False, add_special_tokens=False)["input_ids"][0])


def encode(transformer: nn.Module, ids: Tensor, clip_skip: int) -> Tensor:
    """States (b, chunks * 77, c) of ids (b, chunks, 77); the final layer norm comes after the skipped layers."""
    count, chunks, length = ids.shape
    found = transformer(input_ids=ids.reshape(-1, length), output_hidden_states=clip_skip > 1)
    if clip_skip > 1:
        inner = getattr(transformer, "text_model", transformer)  # transformers 5 has no `text_model`
        norm: Any = inner.final_layer_norm
        states: Tensor = norm(found.hidden_states[-clip_skip])
    else:
        states = found.last_hidden_state
    return states.reshape(count, chunks * length, -1)


def encode_two(first: nn.Module, second: nn.Module, ids: Sequence[Tensor]) -> Conditioning:
    """SDXL's text states: the last but one of both encoders side by side, without the final norm, and the pooled ones.

    Args:
        first: transformers' `CLIPTextModel`.
        second: transformers' `CLIPTextModelWithProjection`.
        ids: of each, (b, chunks, 77), on the encoders' device.
    """
    one, two = _run(first, ids[0]), _run(second, ids[1])
    projection: Any = second.text_projection
    pooled = projection(ends(two.last_hidden_state, ids[1]))
    context = torch.cat([flat(one.hidden_states[-2], ids[0]), flat(two.hidden_states[-2], ids[1])], 2)
    return Conditioning(context, pooled)


def ends(states: Tensor, ids: Tensor) -> Tensor:
    """The states (b, c) at the EOS of each caption's first chunk, out of (b * chunks, 77, c) of ids (b, chunks, 77).

    EOS is the highest number of CLIP's vocabulary.
    """
    firsts = states.view(*ids.shape, -1)[:, 0]
    return firsts[torch.arange(len(ids), device=ids.device), ids[:, 0].argmax(1)]


def _run(encoder: nn.Module, ids: Tensor) -> Any:  # noqa: ANN401 - transformers' own output
    return encoder(input_ids=ids.reshape(-1, ids.shape[-1]), output_hidden_states=True)


def flat(states: Tensor, ids: Tensor) -> Tensor:
    """The chunks of a caption one after another: (b, chunks * 77, c)."""
    return states.reshape(ids.shape[0], ids.shape[1] * ids.shape[2], -1)


def size_vector(size_ids: Tensor, width: int = 256) -> Tensor:
    """Sinusoids (b, 6 * width) of SDXL's sizes (b, 6), as its UNet takes them beside the pooled state.

    Cosines first, of frequencies from 1 down to 1/10000 (sgm's `ConcatTimestepEmbedderND`).
    """
    half = width // 2
    steps = torch.arange(half, device=size_ids.device, dtype=torch.float32)
    angles = size_ids.float()[:, :, None] * torch.exp(-math.log(10000) * steps / half)
    return torch.cat([angles.cos(), angles.sin()], 2).flatten(1)
