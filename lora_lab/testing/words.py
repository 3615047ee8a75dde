"""Tags within prompts. Pure strings."""

from __future__ import annotations

import re
from collections.abc import Iterable


def tags_of(prompt: str) -> list[str]:
    """The comma-separated pieces, without blanks around them."""
    return [piece.strip() for piece in prompt.split(",") if piece.strip()]


def without_tag(prompt: str, tag: str) -> str:
    """The prompt without a tag; the trigger within a longer piece (``zuli girl``) is taken out of it too."""
    low = tag.strip().lower()
    kept = []
    for piece in tags_of(prompt):
        words = piece.split()
        rest = [word for word in words if word.lower() != low] if " " not in low else words
        if piece.lower() != low and rest:
            kept.append(" ".join(rest))
    return ", ".join(kept)


def has_tag(prompt: str, tag: str) -> bool:
    """Is the tag there, alone or within a longer piece?"""
    return without_tag(prompt, tag) != ", ".join(" ".join(piece.split()) for piece in tags_of(prompt))


def with_tags(prompt: str, tags: Iterable[str]) -> str:
    """The prompt with tags behind it."""
    return ", ".join([*tags_of(prompt), *tags])


def asked_for(prompts: Iterable[str], trigger: str = "") -> frozenset[str]:
    """The tags that prompts name, in small letters with blanks and without the webui's weights; not the trigger."""
    weighed = r"(?<!\\)[()\[\]]|(?<=[^\s(\[]):[\d.]+(?=[)\]]|$)"  # brackets, and a number behind a tag: `:3` is one
    pieces = (re.sub(weighed, "", tag) for prompt in prompts for tag in tags_of(prompt))
    found = (" ".join(piece.replace("\\", "").replace("_", " ").lower().split()) for piece in pieces)
    return frozenset(found) - {trigger.strip().replace("_", " ").lower()}
