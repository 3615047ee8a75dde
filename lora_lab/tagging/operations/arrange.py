"""Operations on the order and the length of a caption."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any, ClassVar, Literal

from lora_lab.tagging import names
from lora_lab.tagging.operations.base import (
    PLAIN,
    Context,
    Need,
    Operation,
    OperationError,
    Tags,
    option,
)
from lora_lab.tagging.operations.cleaning import COUNTS
from lora_lab.tagging.patterns import matcher


@dataclass(frozen=True)
class Order(Operation):
    """Tags in another order."""

    name: ClassVar[str] = "order"
    title: ClassVar[str] = "Order"
    about: ClassVar[str] = (
        "Orders tags: in groups (numbers of people, subject, the rest as it is), by how often the dataset has them, by "
        "the alphabet, or as sure as the tagger is. The first tags count most where captions are cut."
    )
    example: ClassVar[dict[str, Any]] = {"by": "groups", "keep": 1, "subject": ("*hair", "*eyes")}

    by: Literal["groups", "frequency", "alphabet", "score"] = option(
        "choice", "groups, frequency, alphabet, or score (the tagger's probability)", "groups",
        choices=("groups", "frequency", "alphabet", "score"), leading=True,
    )  # fmt: skip
    keep: int = option("number", "so many leading tags stay in front (keep_tokens)", 1)
    subject: Tags = option("tags", "in groups: what belongs to the subject; * stands for any letters", ())

    @property
    def needs(self) -> frozenset[Need]:
        """See `Operation.needs`."""
        found: dict[str, frozenset[Need]] = {"frequency": frozenset({"counts"}), "score": frozenset({"scores"})}
        return found.get(self.by, frozenset())

    def check(self) -> None:
        """See `Operation.check`."""
        if self.keep < 0:
            raise OperationError(f"keep is {self.keep}", remedy="give 0 or more")

    def apply(self, tags: Sequence[str], context: Context = PLAIN) -> list[str]:
        """See `Operation.apply`. Sorting is stable, so that equal tags stay as they are."""
        front, rest = list(tags[: self.keep]), tags[self.keep :]
        if self.by == "alphabet":
            return front + sorted(rest, key=names.key)
        if self.by == "frequency":
            return front + sorted(rest, key=lambda tag: -context.counts.get(names.key(tag), 0))
        if self.by == "score":
            # What a person has written is more certain than any tagger.
            return front + sorted(rest, key=lambda tag: -context.scores.get(names.key(tag), 1.0))
        return front + sorted(rest, key=_group(self.subject))


@lru_cache(maxsize=64)
def _group(subject: Tags) -> Callable[[str], int]:
    """Tag -> 0 for numbers of people, 1 for the subject, 2 for the rest."""
    is_subject = matcher(subject)

    @lru_cache(maxsize=65_536)
    def group(tag: str) -> int:
        return 0 if COUNTS.fullmatch(names.key(tag)) else 2 - is_subject(tag)

    return group


@dataclass(frozen=True)
class Limit(Operation):
    """Captions no longer than this."""

    name: ClassVar[str] = "limit"
    title: ClassVar[str] = "Limit length"
    about: ClassVar[str] = (
        "Drops tags from the end until the caption fits. The text encoder reads 75 tokens, or 150 or 225 with "
        "max_token_length; what is beyond is not trained on. Order first, so that the least important are last."
    )
    example: ClassVar[dict[str, Any]] = {"tokens": 75, "tags": 40, "keep": ("mika",)}

    tokens: int = option("number", "at most so many tokens; 0 for any number", 75, leading=True)
    tags: int = option("number", "at most so many tags; 0 for any number", 0)
    keep: Tags = option("tags", "never dropped; * stands for any letters", ())

    @property
    def needs(self) -> frozenset[Need]:
        """See `Operation.needs`."""
        return frozenset({"tokens"}) if self.tokens else frozenset()

    def check(self) -> None:
        """See `Operation.check`."""
        if self.tokens < 0 or self.tags < 0 or not (self.tokens or self.tags):
            raise OperationError("there is no limit", remedy="give tokens or tags, above 0")

    def apply(self, tags: Sequence[str], context: Context = PLAIN) -> list[str]:
        """See `Operation.apply`.

        Raises:
            OperationError: tokens are to be counted, and nobody can.
        """
        kept = matcher(self.keep)
        left = list(tags)
        if self.tags and len(left) > self.tags:
            left = _first(left, self.tags, kept=list(map(kept, left)))
        if not self.tokens:
            return left
        if context.tokens is None:
            remedy = "load a checkpoint, or limit the number of tags"
            raise OperationError("tokens cannot be counted without the checkpoint's tokenizer", remedy=remedy)
        return _fitting(left, self.tokens, context.tokens, kept=list(map(kept, left)))


def _fitting(tags: list[str], most: int, tokens: Callable[[str], int], kept: Sequence[bool]) -> list[str]:
    """As many tags as fit, beside those that are kept. No token reaches over a blank, so tags count apart."""
    size = _sizes(tokens)
    sizes = list(map(size, tags))
    free = [each for each, stays in zip(sizes, kept, strict=True) if not stays] if True in kept else sizes
    ends = list(accumulate(free, initial=sum(sizes) - sum(free)))  # with so many free tags, and all kept ones
    fit = max(0, bisect_right(ends, most) - 1)
    fixed = len(tags) - len(free)
    if fit < len(free):
        more = _first(tags, fixed + fit + 1, kept)
        if ends[fit + 1] - size(more[-1]) + tokens(more[-1]) <= most:  # the last one has no comma
            return more
    return _first(tags, fixed + fit, kept)


@lru_cache(maxsize=16)
def _sizes(tokens: Callable[[str], int]) -> Callable[[str], int]:
    """Tokens of a tag with its comma, remembered."""
    return lru_cache(maxsize=65_536)(lambda tag: tokens(f"{tag},"))


def _first(tags: Sequence[str], count: int, kept: Sequence[bool]) -> list[str]:
    """As many of the first tags as make `count` with those that are kept, which all stay."""
    if True not in kept:
        return list(tags[:count])
    room = max(0, count - sum(kept))
    chosen = []
    for tag, stays in zip(tags, kept, strict=True):
        if stays or room > 0:
            chosen.append(tag)
            room -= not stays
    return chosen
