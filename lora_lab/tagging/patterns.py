"""Patterns of tags: a tag itself, or one with ``*`` for any letters."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from lora_lab.tagging import names


@lru_cache(maxsize=256)
def matcher(patterns: tuple[str, ...]) -> Callable[[str], bool]:
    r"""Does a tag match one of the patterns? ``*`` stands for any letters, ``\*`` for a star; compared by key."""
    exact = frozenset(names.key(p.replace("\\*", "*")) for p in patterns if not is_wild(p))
    wild = [_wild(p) for p in patterns if is_wild(p)]
    any_of = re.compile("|".join(wild), re.DOTALL) if wild else None

    @lru_cache(maxsize=65_536)
    def matches(tag: str) -> bool:
        key = names.key(tag)
        return key in exact or (any_of is not None and any_of.fullmatch(key) is not None)

    return matches


def is_wild(pattern: str) -> bool:
    """Has it a star that stands for letters?"""
    return "*" in pattern.replace("\\*", "")


def _wild(pattern: str) -> str:
    """A pattern as a regular expression on keys."""
    pieces = re.split(r"(?<!\\)\*", pattern)
    marked = names.key("\0".join(piece.replace("\\*", "*") for piece in pieces))
    return f"(?:{'.*'.join(re.escape(piece) for piece in marked.split(chr(0)))})"
