"""weighted_captions: brackets in a caption weigh its words, as in prompts.

``(a:1.3)`` times 1.3, ``(a)`` times 1.1, ``[a]`` divided by 1.1; they nest, and a backslash takes a bracket's meaning
away. A word's states are multiplied by its weight; SD1 and SD2 then get the mean that they had before, SDXL does not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from lora_lab.host.base import LoadedModel, TokenBatch

CHUNK = 75
"""Tokens of a chunk between its begin and its end."""
ROUND, SQUARE = 1.1, 1 / 1.1
PIECES = re.compile(r"\\[()\[\]\\]|\\|[(\[]|:\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*\)|[)\]]|[^\\()\[\]:]+|:")
Piece = tuple[str, float]


def parse(text: str) -> list[Piece]:
    """Pieces of text with their weights, neighbours of one weight joined.

    Any text is read: a bracket that is not closed reaches to the end, one that was not opened is text.
    """
    words: list[str] = []
    weights: list[float] = []
    open_at: dict[str, list[int]] = {"(": [], "[": []}

    def close(kind: str, factor: float) -> None:
        start = open_at[kind].pop()
        weights[start:] = [weight * factor for weight in weights[start:]]

    for found in PIECES.finditer(text):
        piece = found[0]
        if piece in ("(", "["):
            open_at[piece].append(len(words))
        elif found[1] is not None and open_at["("]:
            close("(", float(found[1]))
        elif piece == ")" and open_at["("]:
            close("(", ROUND)
        elif piece == "]" and open_at["["]:
            close("[", SQUARE)
        else:
            words.append(piece[1:] if piece[0] == "\\" else piece)
            weights.append(1.0)
    for kind, factor in (("(", ROUND), ("[", SQUARE)):
        while open_at[kind]:
            close(kind, factor)
    return _joined(words, weights)


def _joined(words: Sequence[str], weights: Sequence[float]) -> list[Piece]:
    found: list[Piece] = []
    for word, weight in zip(words, weights, strict=True):
        if found and found[-1][1] == weight:
            found[-1] = (found[-1][0] + word, weight)
        else:
            found.append((word, weight))
    return found or [("", 1.0)]


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
        # Its padding chunks are not the caption's: they stay as they are.
        factor = torch.where(own > 0, (before / after).to(context), torch.ones_like(own))
        return found * factor


def weigh(model: LoadedModel, captions: Sequence[str], max_token_length: int) -> Weighed:
    """Read captions with brackets.

    No token reaches over a blank, so that the pieces, with blanks between them, have the tokens that each has alone.
    """
    pieces = [parse(caption) for caption in captions]
    tokens = model.tokenize([" ".join(word for word, _ in found) for found in pieces], max_token_length)
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
