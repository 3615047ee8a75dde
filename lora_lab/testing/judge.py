"""What is in a picture, by a tagger: how much of a concept, and how everything else has changed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
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
"""A tag is plainly added to a picture if it becomes this much more likely."""
MOST, RARE = 0.5, 0.25
"""Shares of the pictures: a tag is added to more than this, and is in at most so many without the LoRA."""
SHOWN = 0.5
"""From this probability on a tagger shows a tag."""
ONE_SEED = (
    "One seed cannot tell what the LoRA always draws from what it drew this once: give two seeds or more, or name the "
    "concept's tags."
)
NO_TAG = (
    "The tagger sees no tag that the LoRA adds to most pictures: it learnt too little, or its concept is none of the "
    "tagger's tags; name the concept's tags to measure it."
)


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

    def found_concept(self, with_it: Seen, without: Seen, asked: Collection[str] = ()) -> tuple[str, ...]:
        """The concept's tags: as given, or those that the whole LoRA adds to most pictures.

        What a sampler draws by chance (a smile, a blue background) comes and goes with the seed. So a tag counts if it
        is plainly likelier in more than half of the pairs, if the checkpoint by itself draws it in a quarter of them at
        most, and if no prompt asks for it. On the demo's LoRA, which has 6 features: 4.1 of them and 0.3 others at two
        seeds, 5.0 and 0.2 at four; the mean likelihood alone finds 5.8 and 2.5, and 6.0 and 1.5.

        Args:
            with_it: of pictures with the trigger and the whole LoRA.
            without: of the same prompts and seeds without the LoRA, in the same order.
            asked: tags of the prompts, see `words.asked_for`.
        """
        if self.concept:
            return self.concept
        gain = with_it - without
        added = ((gain >= PLAIN).mean(0) > MOST) & ((without >= SHOWN).mean(0) <= RARE)
        named = ((i, self.tags[i].name.replace("_", " ")) for i in np.argsort(-gain.mean(0)) if added[i])
        return tuple(name for i, name in named if self.tags[i].category != RATING and name.lower() not in asked)

    def doubt(self, seeds: Iterable[int]) -> str:
        """What to know of a concept that is found on so few seeds; empty where there is nothing."""
        return "" if self.concept or len(set(seeds)) > 1 else ONE_SEED

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
