"""Operations that put tags in, take them out, or exchange them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal

from lora_lab.tagging import names
from lora_lab.tagging.operations.base import (
    PLAIN,
    Context,
    Operation,
    OperationError,
    Pairs,
    Tags,
    option,
    require,
    unique,
)
from lora_lab.tagging.patterns import matcher


@dataclass(frozen=True)
class TriggerFirst(Operation):
    """The trigger, or triggers, at the front of every caption."""

    name: ClassVar[str] = "trigger-first"
    title: ClassVar[str] = "Trigger first"
    about: ClassVar[str] = (
        "Puts the trigger at the front of each caption, once, also where it was missing or stood elsewhere. A caption "
        "without it weakens it, so run it again whenever pictures are added; then set keep_tokens to their number."
    )
    example: ClassVar[dict[str, Any]] = {"trigger": ("mika",)}

    trigger: Tags = option("tags", "the trigger; several stay in this order (an outfit's second)", leading=True)

    def check(self) -> None:
        """See `Operation.check`."""
        require(self.trigger, "the trigger")

    def apply(self, tags: Sequence[str], context: Context = PLAIN) -> list[str]:
        """See `Operation.apply`."""
        is_trigger = matcher(_literal(self.trigger))
        return [*unique(self.trigger), *(tag for tag in tags if not is_trigger(tag))]


@dataclass(frozen=True)
class Add(Operation):
    """Tags into every caption that lacks them."""

    name: ClassVar[str] = "add"
    title: ClassVar[str] = "Add"
    about: ClassVar[str] = "Adds tags to each caption that lacks them. Those that are there stay where they are."
    example: ClassVar[dict[str, Any]] = {"tags": ("blue sky", "day"), "position": "front", "keep": 1}

    tags: Tags = option("tags", "what to add", leading=True)
    position: Literal["end", "front"] = option("choice", "where new tags go", "end", choices=("end", "front"))
    keep: int = option("number", "at the front: behind so many leading tags (the triggers)", 0)

    def check(self) -> None:
        """See `Operation.check`."""
        require(self.tags, "what to add")
        if self.keep < 0:
            raise OperationError(f"keep is {self.keep}", remedy="give 0 or more")

    def apply(self, tags: Sequence[str], context: Context = PLAIN) -> list[str]:
        """See `Operation.apply`."""
        there = {names.key(tag) for tag in tags}
        new = [tag for tag in unique(self.tags) if names.key(tag) not in there]
        place = min(self.keep, len(tags)) if self.position == "front" else len(tags)
        return [*tags[:place], *new, *tags[place:]]


@dataclass(frozen=True)
class Remove(Operation):
    """Tags out of every caption."""

    name: ClassVar[str] = "remove"
    title: ClassVar[str] = "Remove"
    about: ClassVar[str] = "Takes tags out wherever they are: mistakes of the tagger, ratings, remarks on quality."
    example: ClassVar[dict[str, Any]] = {"tags": ("simple background", "*watermark*")}

    tags: Tags = option("tags", "what to take out; * stands for any letters", leading=True)

    def check(self) -> None:
        """See `Operation.check`."""
        require(self.tags, "what to remove")

    def apply(self, tags: Sequence[str], context: Context = PLAIN) -> list[str]:
        """See `Operation.apply`."""
        gone = matcher(self.tags)
        return [tag for tag in tags if not gone(tag)]


@dataclass(frozen=True)
class Replace(Operation):
    """One tag for another, many at once."""

    name: ClassVar[str] = "replace"
    title: ClassVar[str] = "Replace"
    about: ClassVar[str] = (
        "Exchanges whole tags, all pairs at the same time. The new side may be several tags, or nothing."
    )
    example: ClassVar[dict[str, Any]] = {"pairs": (("blond hair", "blonde hair"), ("meta", ""))}

    pairs: Pairs = option("pairs", "old=new; new may be empty or several tags with commas", leading=True)

    def check(self) -> None:
        """See `Operation.check`."""
        require(tuple(old for old, _ in self.pairs), "what to replace")
        old = {names.key(a) for a, _ in self.pairs}
        again = [tag for a, b in self.pairs for tag in names.split(b) if names.key(tag) in old - {names.key(a)}]
        if again:
            what = f"{again[0]!r} is both replaced and put in"
            raise OperationError(what, remedy="do it in two steps, so that it is clear which comes first")

    def apply(self, tags: Sequence[str], context: Context = PLAIN) -> list[str]:
        """See `Operation.apply`."""
        table = _table(self.pairs)
        if not any(names.key(tag) in table for tag in tags):
            return list(tags)
        new = {names.key(tag) for tag in tags if names.key(tag) in table}
        made = {names.key(tag) for old in new for tag in table[old]}
        return unique((tag for old in tags for tag in table.get(names.key(old), (old,))), made)


@dataclass(frozen=True)
class Regex(Operation):
    """Replacement by a regular expression."""

    name: ClassVar[str] = "regex"
    title: ClassVar[str] = "Regular expression"
    about: ClassVar[str] = (
        "Replaces what a regular expression finds in each tag; commas in the result make several tags, an empty result "
        "takes the tag out."
    )
    example: ClassVar[dict[str, Any]] = {"pattern": r"(\w+) colou?red", "replacement": r"\1"}

    pattern: str = option("text", "Python's regular expression, looked for in each tag", leading=True)
    replacement: str = option("text", r"what goes in its place; \1 is the first group", leading=True)
    ignore_case: bool = option("switch", "do not tell capitals from small letters", False)

    def check(self) -> None:
        """See `Operation.check`."""
        try:
            found = self._compiled()
            if not self.pattern or found.fullmatch(""):
                remedy = "write what the text must have"
                raise OperationError("the regular expression matches nothing at all, so everywhere", remedy=remedy)
            # A group that does not exist is told before the first caption is looked at.
            re.compile(f"{self.pattern}|", found.flags).sub(self.replacement, "")
        except (re.error, IndexError, OverflowError, RecursionError) as error:
            remedy = "put a backslash before brackets and dots that are meant as they are"
            raise OperationError(f"the regular expression is not right ({error})", remedy=remedy) from error

    def apply(self, tags: Sequence[str], context: Context = PLAIN) -> list[str]:
        """See `Operation.apply`."""
        table = [(tag, _substituted(self, tag)) for tag in tags]
        if all(new == (tag,) for tag, new in table):
            return list(tags)
        made = {names.key(t) for tag, new in table if new != (tag,) for t in new}
        return unique((t for _, new in table for t in new), made)

    def _compiled(self) -> re.Pattern[str]:
        return re.compile(self.pattern, re.IGNORECASE if self.ignore_case else 0)


@lru_cache(maxsize=65_536)
def _substituted(operation: Regex, tag: str) -> Tags:
    flags = re.IGNORECASE if operation.ignore_case else 0
    found, count = re.subn(operation.pattern, operation.replacement, tag, flags=flags)
    return tuple(names.split(found)) if count else (tag,)


@dataclass(frozen=True)
class Rename(Operation):
    """A word renamed, as a tag and inside tags."""

    name: ClassVar[str] = "rename"
    title: ClassVar[str] = "Rename"
    about: ClassVar[str] = (
        "Renames a tag everywhere, the trigger for instance: to the name the model knows already, or to a new word "
        "that it does not know. With `inside` also where it is a word of longer tags."
    )
    example: ClassVar[dict[str, Any]] = {"old": "mika", "new": "mika v2", "inside": False}

    old: str = option("text", "its name so far", leading=True)
    new: str = option("text", "its new name", leading=True)
    inside: bool = option("switch", "also as whole words inside other tags", False)

    def check(self) -> None:
        """See `Operation.check`."""
        require((self.old,), "the old name")
        require((self.new,), "the new name")
        if "," in self.new or "," in self.old:
            raise OperationError("a name has no comma", remedy="use replace to make several tags of one")
        if self.inside and _word(self.old).search(self.new):
            what = f"the new name has the old one in it: {self.old!r} in {self.new!r}"
            raise OperationError(what, remedy="turn inside off, or it would grow each time")

    def apply(self, tags: Sequence[str], context: Context = PLAIN) -> list[str]:
        """See `Operation.apply`."""
        changed = [_renamed(self, tag) for tag in tags]
        made = {names.key(new) for new, tag in zip(changed, tags, strict=True) if new != tag}
        return unique(changed, made) if made else changed


@lru_cache(maxsize=65_536)
def _renamed(operation: Rename, tag: str) -> str:
    if names.key(tag) == names.key(operation.old):
        return operation.new
    return _word(operation.old).sub(lambda _: operation.new, tag) if operation.inside else tag


@lru_cache(maxsize=64)
def _word(text: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(text)}(?!\w)", re.IGNORECASE)


@dataclass(frozen=True)
class Prefix(Operation):
    """Words at the very front or end, as they are."""

    name: ClassVar[str] = "prefix"
    title: ClassVar[str] = "Prefix or suffix"
    about: ClassVar[str] = (
        "Lets captions begin, or end, with these tags in this order. Choose a subset as its scope, to mark the "
        "pictures of one folder. Tags that stand elsewhere move there."
    )
    example: ClassVar[dict[str, Any]] = {"tags": ("sketch", "monochrome"), "keep": 1}

    tags: Tags = option("tags", "what captions are to begin or end with", leading=True)
    at: Literal["front", "end"] = option("choice", "which side", "front", choices=("front", "end"))
    keep: int = option("number", "at the front: behind so many leading tags (the triggers)", 0)

    def check(self) -> None:
        """See `Operation.check`."""
        require(self.tags, "the prefix")
        if self.keep < 0:
            raise OperationError(f"keep is {self.keep}", remedy="give 0 or more")

    def apply(self, tags: Sequence[str], context: Context = PLAIN) -> list[str]:
        """See `Operation.apply`."""
        named = matcher(_literal(self.tags))
        # Leading tags that are kept stay in front even where the prefix names them.
        fixed = list(tags[: self.keep]) if self.at == "front" else []
        held = {names.key(tag) for tag in fixed}
        new = [tag for tag in unique(self.tags) if names.key(tag) not in held]
        rest = [tag for tag in tags[len(fixed) :] if not named(tag)]
        return [*fixed, *new, *rest] if self.at == "front" else [*rest, *new]


@lru_cache(maxsize=64)
def _table(pairs: Pairs) -> dict[str, Tags]:
    return {names.key(old): tuple(names.split(new)) for old, new in pairs if old.strip()}


@lru_cache(maxsize=64)
def _literal(tags: Tags) -> Tags:
    """Tags whose stars are stars."""
    return tuple(tag.replace("*", "\\*") for tag in tags)
