"""weighted_captions: a word's states are multiplied by the weight that its brackets give it.

SD1 and SD2 then get the mean that they had before, SDXL does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lora_lab.training.text.brackets import parse, plain

if TYPE_CHECKING:
    from lora_lab.host.base import LoadedModel, TokenBatch

CHUNK = 75
"""Tokens of a chunk between its begin and its end."""
NO_MEAN = 1e-4
"""Of the deviation: a mean below it is rounding, and nothing to keep."""


@dataclass(frozen=True)
class Weighed:
    """Captions as the text encoder reads them, and how their states are weighed."""

    tokens: TokenBatch
    weights: Tensor
    """(b, chunks * 77): of each state; begin, end and padding have 1."""
    own: Tensor
    """(b, chunks * 77): 1 for the states of the chunks that a caption needs, over which its mean is taken."""

    def apply(self, context: Tensor, *, rescale: bool) -> Tensor:
        """Weigh states (b, chunks * 77, c); with `rescale` each caption keeps its mean."""
        weights, own = self.weights.to(context)[..., None], self.own.to(context)[..., None]
        found = context * weights
        if not rescale:
            return found
        size = own.sum(dim=(1, 2), keepdim=True) * context.shape[-1]
        before = (context.float() * own).sum(dim=(1, 2), keepdim=True) / size
        after = (found.float() * own).sum(dim=(1, 2), keepdim=True) / size
        there_is_one = (before.abs() > NO_MEAN * context.float().std()) & (after != 0)
        # Its padding chunks are not the caption's: they stay as they are.
        factor = torch.where((own > 0) & there_is_one, (before / after).to(context), torch.ones_like(own))
        return found * factor


def weigh(model: LoadedModel, captions: Sequence[str], max_token_length: int) -> Weighed:
    """Read captions with brackets."""
    pieces = [parse(caption) for caption in captions]
    tokens = model.tokenize([plain(found) for found in pieces], max_token_length)
    counts = iter(model.tokenize([word for found in pieces for word, _ in found], max_token_length).lengths)
    chunks = tokens.ids[0].shape[1]
    rows, own = [], []
    for found in pieces:
        row = [weight for _, weight in found for _ in range(next(counts))][: chunks * CHUNK]
        needed = max(1, -(-len(row) // CHUNK))
        row += [1.0] * (chunks * CHUNK - len(row))
        rows.append([w for i in range(chunks) for w in (1.0, *row[i * CHUNK : (i + 1) * CHUNK], 1.0)])
        own.append([float(i < needed) for i in range(chunks) for _ in range(CHUNK + 2)])
    return Weighed(tokens, torch.tensor(rows), torch.tensor(own))
