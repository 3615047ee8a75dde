"""What suggestions are made from, and what one is: a finding with its reason, and edits that a click carries out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from lora_lab.tagging import names
from lora_lab.tagging.operations import Operation
from lora_lab.tagging.scores import Scores

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Triggers = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, eq=False)
class Captions:
    """The captions of a dataset, as far as suggestions look."""

    files: tuple[str, ...]
    """Names that edits speak of, one for each caption."""
    tags: tuple[tuple[str, ...], ...]
    """Of each caption, in its order."""
    concepts: tuple[str, ...]
    """Which concept (subset) each caption belongs to."""
    triggers: Triggers = field(default_factory=dict)
    """Concept -> its leading tags; a concept that is not in it has none yet."""
    scores: Scores | None = None
    """A row for each caption's picture, if a tagger has seen them."""
    threshold: float = 0.35
    """From this probability on the tagger's tags were taken."""
    tokens: Callable[[str], int] | None = None
    """Counts a caption's tokens, where a tokenizer is at hand."""
    token_limit: int = 75

    @cached_property
    def keys(self) -> tuple[tuple[str, ...], ...]:
        """`names.key` of each caption's tags."""
        return tuple(tuple(map(names.key, tags)) for tags in self.tags)

    @cached_property
    def key_sets(self) -> tuple[frozenset[str], ...]:
        """The same, without order."""
        return tuple(map(frozenset, self.keys))

    @cached_property
    def spelling(self) -> dict[str, str]:
        """Key -> the tag as most captions spell it."""
        found: dict[str, Counter[str]] = defaultdict(Counter)
        for keys, tags in zip(self.keys, self.tags, strict=True):
            for key, tag in zip(keys, tags, strict=True):
                found[key][tag] += 1
        return {key: counts.most_common(1)[0][0] for key, counts in found.items()}

    @cached_property
    def counts(self) -> Counter[str]:
        """Key -> captions that have it."""
        return Counter(key for keys in self.key_sets for key in keys)

    @cached_property
    def members(self) -> dict[str, list[int]]:
        """Concept -> its captions' indices, in the order of the files."""
        found: dict[str, list[int]] = defaultdict(list)
        for index, concept in enumerate(self.concepts):
            found[concept].append(index)
        return dict(found)

    @cached_property
    def trigger_keys(self) -> frozenset[str]:
        """Of all concepts."""
        return frozenset(names.key(tag) for tags in self.triggers.values() for tag in tags)

    def counts_in(self, indices: Iterable[int]) -> Counter[str]:
        """Key -> captions among these that have it."""
        return Counter(key for index in indices for key in self.key_sets[index])

    def named(self, indices: Iterable[int]) -> tuple[str, ...]:
        """The files of these captions."""
        return tuple(self.files[index] for index in indices)

    def told(self, keys: Iterable[str]) -> tuple[str, ...]:
        """Keys as the dataset spells them."""
        return tuple(self.spelling.get(key, key) for key in keys)

    def probability(self, index: int, key: str) -> float | None:
        """The tagger's probability of a tag in a picture; None where no tagger that knows the tag has seen it."""
        if self.scores is None or key not in self.scores.column_of:
            return None
        return float(self._columns(key)[index])

    def _columns(self, key: str) -> NDArray[np.float32]:
        if key not in self._seen and self.scores is not None:
            self._seen[key] = self.scores.tag(key)
        return self._seen[key]

    @cached_property
    def _seen(self) -> dict[str, NDArray[np.float32]]:
        return {}


@dataclass(frozen=True)
class Edit:
    """An operation on some captions."""

    operation: Operation
    files: tuple[str, ...]


@dataclass(frozen=True)
class Choice:
    """One way to take a suggestion."""

    label: str
    """On its button."""
    why: str
    """When one wants it so."""
    edits: tuple[Edit, ...]


@dataclass(frozen=True)
class Suggestion:
    """A finding."""

    rule: str
    """Short name of what found it."""
    title: str
    why: str
    files: tuple[str, ...]
    """What it is about."""
    tags: tuple[str, ...] = ()
    choices: tuple[Choice, ...] = ()
    """The first one is recommended; none where only a person can help."""

    @property
    def id(self) -> str:
        """The same for the same finding, so that a dismissed one stays away."""
        return f"{self.rule}: {', '.join(sorted(map(names.key, self.tags))) or self.title}"


def listed(tags: Sequence[str], most: int = 6) -> str:
    """Some tags for a sentence."""
    shown = ", ".join(tags[:most])
    return f"{shown} and {len(tags) - most} more" if len(tags) > most else shown


def pictures(count: int) -> str:
    """``1 picture``, ``7 pictures``."""
    return "1 picture" if count == 1 else f"{count:,} pictures"
