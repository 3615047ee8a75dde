"""What is in a picture, by a tagger: how much of a concept, and how everything else has changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lora_lab.tagging.score import column
from lora_lab.tagging.tags import RATING, Tag

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from PIL import Image

Seen = NDArray[np.float32]
"""Probabilities (pictures, tags)."""
PLAIN = 0.25
"""A tag that the LoRA makes this much more likely belongs to its concept."""


@dataclass(frozen=True)
class Judge:
    """A tagger, and the tags that make the concept."""

    tags: Sequence[Tag]
    look: Callable[[Sequence[Image.Image]], Seen]
    """Pictures to probabilities, with a column for each tag."""
    concept: tuple[str, ...] = ()
    """Empty: those that the whole LoRA adds, see `found_concept`."""

    @classmethod
    def of_tagger(cls, path: Path, concept: Iterable[str] = ()) -> Judge:
        """From a tagger's folder or file.

        Raises:
            TaggerError: it holds none.
            SettingsError: it does not know a tag of the concept.
        """
        from lora_lab.tagging.session import Tagger

        tagger = Tagger(path)
        names = tuple(concept)
        for name in names:
            column(tagger.tags, name)
        return cls(tagger.tags, tagger.probabilities, names)

    def columns(self, names: Iterable[str]) -> list[int]:
        """Of some tags."""
        return [column(self.tags, name) for name in names]

    def found_concept(self, with_it: Seen, without: Seen) -> tuple[str, ...]:
        """The concept's tags: as given, or those that are plainly likelier with the whole LoRA than without.

        Args:
            with_it: of pictures with the trigger and the whole LoRA.
            without: of the same without the LoRA.
        """
        if self.concept:
            return self.concept
        gain = with_it.mean(0) - without.mean(0)
        order = np.argsort(-gain)
        return tuple(
            self.tags[i].name.replace("_", " ") for i in order if gain[i] >= PLAIN and self.tags[i].category != RATING
        )

    def share(self, seen: Seen, concept: Iterable[str]) -> float:
        """How much of the concept is there: mean probability of its tags, 0..1; 0 without a concept."""
        wanted = self.columns(concept)
        return float(seen[:, wanted].mean()) if wanted and len(seen) else 0.0

    def elsewhere(self, one: Seen, other: Seen, concept: Iterable[str]) -> float:
        """How many tags beside the concept's came or went, in a picture: the sum of changes of probability."""
        rest = np.ones(len(self.tags), bool)
        rest[self.columns(concept)] = False
        rest[[i for i, tag in enumerate(self.tags) if tag.category == RATING]] = False
        return float(np.abs(one[:, rest] - other[:, rest]).sum(1).mean()) if len(one) else 0.0

    def obeyed(self, seen: Seen, wanted: Sequence[Sequence[str]]) -> float:
        """Of the tags that each picture's prompt asked for and the tagger knows, the share that it finds, 0..1."""
        known = {tag.name.replace("_", " "): i for i, tag in enumerate(self.tags)}
        pairs = [
            float(row[known[name]] >= 0.5)
            for row, names in zip(seen, wanted, strict=True)
            for name in (word.replace("_", " ") for word in names)
            if name in known
        ]
        return sum(pairs) / len(pairs) if pairs else 0.0
