"""How a tag is spelled: with blanks or underscores, escaped or plain; the key by which two spellings are one tag."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

KAOMOJI = frozenset(
    {
        "0_0", "(o)_(o)", "+_+", "+_-", "._.", "<o>_<o>", "<|>_<|>", "=_=", ">_<", "3_3", "6_9", ">_o", "@_@", "^_^",
        "o_o", "u_u", "x_x", "|_|", "||_||",
    }
)  # fmt: skip
"""Faces, in which an underscore is a mouth."""


@lru_cache(maxsize=65_536)
def key(tag: str) -> str:
    """What two spellings of one tag have in common: trimmed, single blanks for underscores, unescaped, case-folded."""
    return spaced(unescape(tag)).casefold()


def spaced(name: str) -> str:
    """``long_hair`` to ``long hair``; a face stays as it is."""
    plain = " ".join(name.split())
    return plain if plain.casefold() in KAOMOJI else " ".join(plain.replace("_", " ").split())


def underscored(name: str) -> str:
    """``long hair`` to ``long_hair``."""
    return "_".join(name.split())


def escape(tag: str) -> str:
    r"""Prompt syntax: a backslash before ``\``, ``(`` and ``)``."""
    return re.sub(r"([\\()])", r"\\\1", tag)


def unescape(tag: str) -> str:
    r"""The way back from `escape`; a backslash before anything else stays."""
    return re.sub(r"\\([\\()])", r"\1", tag)


def split(caption: str) -> list[str]:
    """A caption's tags: the pieces between commas, trimmed, without empty ones."""
    if caption.isprintable() and "  " not in caption:  # the usual cases, in a third of the time
        tags = caption.split(", ")
        plain = caption.count(",") == len(tags) - 1 and " ," not in caption and "" not in tags
        if plain and caption == caption.strip():
            return tags
        return [tag for tag in map(str.strip, caption.split(",")) if tag]
    return [tag for tag in (" ".join(piece.split()) for piece in caption.split(",")) if tag]


def join(tags: Iterable[str]) -> str:
    """Tags as one caption."""
    return ", ".join(tags)
