"""The WD taggers that we know by name, with the threshold of their cards. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from lora_lab.tagging.contracts import MODEL, TAGS

OWNER = "SmilingWolf"
FILES = (MODEL, TAGS)
"""What is needed of a repository."""


@dataclass(frozen=True)
class KnownTagger:
    """A tagger on the hub."""

    name: str
    """Of the repository, without its owner."""
    card: float
    """The threshold at which precision equals recall, from its card (v1: the one its author recommends)."""
    about: str
    """What a person chooses by."""

    @property
    def repository(self) -> str:
        """``owner/name``."""
        return f"{OWNER}/{self.name}"


_V3 = "tags up to February 2024"
_V2 = "v1.4, tags of 2022"
_TABLE = (
    KnownTagger("wd-eva02-large-tagger-v3", 0.5296, f"the most exact, slow without a graphics card; {_V3}"),
    KnownTagger("wd-vit-large-tagger-v3", 0.2606, f"nearly as exact, quicker; {_V3}"),
    KnownTagger("wd-swinv2-tagger-v3", 0.2653, f"a good start; {_V3}"),
    KnownTagger("wd-convnext-tagger-v3", 0.2682, f"quick; {_V3}"),
    KnownTagger("wd-vit-tagger-v3", 0.2614, f"the quickest; {_V3}"),
    KnownTagger("wd-v1-4-moat-tagger-v2", 0.3771, f"the most exact of its time; {_V2}"),
    KnownTagger("wd-v1-4-swinv2-tagger-v2", 0.3771, f"the one that most guides name; {_V2}"),
    KnownTagger("wd-v1-4-convnextv2-tagger-v2", 0.3710, _V2),
    KnownTagger("wd-v1-4-convnext-tagger-v2", 0.3685, _V2),
    KnownTagger("wd-v1-4-vit-tagger-v2", 0.3537, f"the quickest of its time; {_V2}"),
    KnownTagger("wd-v1-4-convnext-tagger", 0.35, "v1.4, first version"),
    KnownTagger("wd-v1-4-vit-tagger", 0.35, "v1.4, first version"),
)
KNOWN: Mapping[str, KnownTagger] = MappingProxyType({tagger.name: tagger for tagger in _TABLE})
"""Name -> tagger, in the order that a person should look at them."""


def recognise(place: str) -> KnownTagger | None:
    """The tagger whose name is in a path, in whatever form a program writes it (``models--SmilingWolf--NAME``).

    The longest name wins: one is the beginning of another.
    """
    hits = [name for name in KNOWN if name in place.lower()]
    return KNOWN[max(hits, key=len)] if hits else None
