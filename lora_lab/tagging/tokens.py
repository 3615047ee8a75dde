"""How many tokens a caption has for CLIP's text encoders, without loading any: byte pair encoding, counted.

Sennrich, Haddow, Birch: Neural machine translation of rare words with subword units (arXiv 1508.07909); the words are
parted as CLIP's tokenizer parts them.
"""

from __future__ import annotations

import json
import re
import unicodedata
from functools import lru_cache
from pathlib import Path

from lora_lab.errors import UserError

MERGES = "merges.txt"
VOCABULARY = "vocab.json"
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

    def pieces(self, caption: str) -> list[str]:
        """The tokens themselves, as the tokenizer's vocab.json writes them."""
        text = caption if caption.isascii() else unicodedata.normalize("NFC", caption)
        return [piece for word in WORD.findall(text.lower()) for piece in self._pieces(word)]

    def _word(self, word: str) -> int:
        return len(self._pieces(word))

    def _pieces(self, word: str) -> list[str]:
        """Merge neighbours, the best rank first, until none is left."""
        if word in ("<|startoftext|>", "<|endoftext|>"):
            return [word]
        if word[0].isalnum() and not word.isalpha() and len(word) > 1:
            # Python counts a half sign among the letters; it stands alone, as digits do.
            return [piece for part in re.findall(rf"[^{_numbers(word)}]+|.", word) for piece in self._pieces(part)]
        pieces = [_UNITS[byte] for byte in word.encode("utf-8", "replace")]
        pieces[-1] += "</w>"
        while len(pieces) > 1:
            ranked = [(self._ranks.get(pair), pair) for pair in zip(pieces, pieces[1:], strict=False)]
            best = min(((rank, pair) for rank, pair in ranked if rank is not None), default=None)
            if best is None:
                break
            pieces = _merged(pieces, best[1])
        return pieces


def vocabulary(folder: Path) -> list[str]:
    """Every token of a tokenizer as vocab.json writes it, by its number.

    Raises:
        UserError: it cannot be read.
    """
    try:
        table = json.loads((folder / VOCABULARY).read_text(encoding="utf-8"))
        return sorted(table, key=dict(zip(table, map(int, table.values()), strict=True)).__getitem__)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        what = "the tokenizer's vocab.json cannot be read"
        raise UserError(what, file=folder, remedy="choose a CLIP tokenizer's folder") from error


def readable(token: str) -> str:
    """A token's letters; a blank at its end where a word ends."""
    ends = token.endswith("</w>")
    try:
        text = bytes(_UNITS.index(letter) for letter in token.removesuffix("</w>")).decode("utf-8", "replace")
    except ValueError:
        return token
    return text + " " * ends


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
