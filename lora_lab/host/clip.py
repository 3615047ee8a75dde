"""Captions through a CLIP text encoder of transformers: plain tokens in chunks, states after clip skip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch

from lora_lab.host.base import TokenBatch

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


def tokenize(tokenizer: Tokenizer, captions: Sequence[str], max_token_length: int = 75) -> TokenBatch:
    """BOS + 75 tokens + EOS per chunk, padded with EOS; as many chunks as the longest caption needs and may have."""
    lists = [
        list(found) for found in tokenizer(list(captions), truncation=False, add_special_tokens=False)["input_ids"]
    ]
    lengths = tuple(len(found) for found in lists)
    chunks = min(max_token_length // CHUNK, max(1, -(-max(lengths, default=1) // CHUNK)))
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    rows = []
    for found in lists:
        padded = found[: chunks * CHUNK] + [eos] * (chunks * CHUNK - len(found))
        rows.append([[bos, *padded[i * CHUNK : (i + 1) * CHUNK], eos] for i in range(chunks)])
    return TokenBatch((torch.tensor(rows, dtype=torch.int64),), lengths)


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
