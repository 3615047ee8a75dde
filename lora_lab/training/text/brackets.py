"""Brackets in a caption weigh its words, as in prompts. Pure, no torch.

``(a:1.3)`` times 1.3, ``(a)`` times 1.1, ``[a]`` divided by 1.1; they nest, and a backslash takes a bracket's meaning
away.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

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


def plain(pieces: Sequence[Piece]) -> str:
    """The words alone. No token reaches over a blank, so that with blanks between them the pieces have the tokens that
    each has alone."""
    return " ".join(word for word, _ in pieces)
