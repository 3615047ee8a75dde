"""How many tokens a caption has for CLIP's text encoders, without loading any: byte pair encoding, counted.

Sennrich, Haddow, Birch: Neural machine translation of rare words with subword units (arXiv 1508.07909); the words are
parted as CLIP's tokenizer parts them.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from pathlib import Path

from lora_lab.errors import UserError

MERGES = "merges.txt"
WORD = re.compile(r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|(?:[^\s\w]|_)+")
"""Letters together, digits alone, other marks together."""


class TokenCounter:
    """Counts tokens with a tokenizer's files. One object may serve many threads."""

    def __init__(self, folder: Path) -> None:
        """Read the merges.

        Args:
            folder: a tokenizer in transformers' form, with ``merges.txt``.

        Raises:
            UserError: it cannot be read.
        """
        try:
            lines = (folder / MERGES).read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            what = "the tokenizer's merges.txt cannot be read"
            raise UserError(what, file=folder, remedy="choose a CLIP tokenizer's folder") from error
        pairs = [tuple(line.split()) for line in lines if not line.startswith("#version")]
        self._ranks = {pair: rank for rank, pair in enumerate(p for p in pairs if len(p) == 2)}
        self._count_chunk = lru_cache(maxsize=200_000)(self._chunk)

    def __call__(self, caption: str) -> int:
        """Tokens of a caption, without begin and end."""
        # No token reaches over a blank, so what stands between blanks is counted once and remembered.
        text = caption if caption.isascii() else unicodedata.normalize("NFC", caption)
        return sum(map(self._count_chunk, text.lower().split()))

    def _chunk(self, chunk: str) -> int:
        return sum(map(self._word, WORD.findall(chunk)))

    def _word(self, word: str) -> int:
        """Merge neighbours, the best rank first, until none is left."""
        if word in ("<|startoftext|>", "<|endoftext|>"):
            return 1
        if word[0].isalnum() and not word.isalpha() and len(word) > 1:
            # Python counts a half sign among the letters; it stands alone, as digits do.
            return sum(map(self._word, re.findall(rf"[^{_numbers(word)}]+|.", word)))
        pieces = [_UNITS[byte] for byte in word.encode("utf-8", "replace")]
        pieces[-1] += "</w>"
        while len(pieces) > 1:
            ranked = [(self._ranks.get(pair), pair) for pair in zip(pieces, pieces[1:], strict=False)]
            best = min(((rank, pair) for rank, pair in ranked if rank is not None), default=None)
            if best is None:
                break
            pieces = _merged(pieces, best[1])
        return len(pieces)


def _numbers(word: str) -> str:
    return "".join(letter for letter in word if not letter.isalpha())


def _merged(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    merged, place = [], 0
    while place < len(pieces):
        if tuple(pieces[place : place + 2]) == pair:
            merged.append(pair[0] + pair[1])
            place += 2
        else:
            merged.append(pieces[place])
            place += 1
    return merged


def _units() -> tuple[str, ...]:
    """The letter that stands for each byte: itself where it can be printed, else one from 256 on."""
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    rest = iter(range(256, 512))
    return tuple(chr(byte) if byte in plain else chr(next(rest)) for byte in range(256))


_UNITS = _units()
