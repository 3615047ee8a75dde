r"""A small language that says which captions are meant.

    long hair                     has the tag; compared by key, * stands for any letters
    1girl AND (hat OR cap)        AND, OR, NOT in capitals; a comma is an AND
    NOT "ganyu (genshin impact)"  quotes, or backslashes, around what has brackets, commas or the words above
    untagged                      has no tag
    edited                        differs from how it was found
    over_limit, over_limit:150    more tokens than 75, or 150
    tags>30  tokens<=75           numbers of tags and tokens; = < > <= >=
    name:*closeup*                the caption file's name without its ending
    folder:10_mika                in this folder
    text:sitting on               the words stand somewhere in the caption

An empty filter holds for every caption.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Literal

from lora_lab.errors import UserError
from lora_lab.tagging import names
from lora_lab.tagging.patterns import is_wild, matcher

Asks = Literal["tags", "edited", "tokens", "file"]
LIMIT = 75
"""Tokens that the text encoder reads at once."""
MAX_DEPTH = 50
"""Brackets in brackets; more is no filter that a person has written."""
COMPARE: MappingProxyType[str, Callable[[int, int], bool]] = MappingProxyType(
    {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "=": operator.eq}
)
TOKEN = re.compile(r'\s*(?:(?P<quoted>"(?:\\.|[^"\\])*")|(?P<mark>[(),])|(?P<word>(?:\\.|[^\s(),"\\])+))', re.DOTALL)
NUMBER = re.compile(r"(tags|tokens)\s*(<=|>=|<|>|=)\s*(\d{1,7})")


class FilterError(UserError):
    """A filter that cannot be read."""


@dataclass(frozen=True)
class Look:
    """A caption, as far as filters look."""

    tags: tuple[str, ...]
    file: str = ""
    """Relative to the dataset's folder, with slashes."""
    edited: bool = False
    tokens: Callable[[str], int] | None = None
    """Counts the tokens of a caption."""

    @cached_property
    def keys(self) -> frozenset[str]:
        """Of its tags."""
        return frozenset(map(names.key, self.tags))

    def count_tokens(self) -> int:
        """Tokens of the caption.

        Raises:
            FilterError: nobody can count them.
        """
        if self.tokens is None:
            what = "tokens cannot be counted without the checkpoint's tokenizer"
            raise FilterError(what, remedy="load a checkpoint, or filter by tags>40")
        return self.tokens(names.join(self.tags))


Test = Callable[[Look], bool]


@dataclass(frozen=True)
class Filter:
    """A filter that was read."""

    text: str
    test: Test = field(repr=False, compare=False)
    asks: frozenset[str]
    """What it looks at: ``tags``, ``edited``, ``tokens``, ``file``."""

    def matches(self, look: Look) -> bool:
        """Is this caption meant?

        Raises:
            FilterError: it asks for tokens that nobody can count.
        """
        return self.test(look)


@lru_cache(maxsize=256)
def parse(text: str) -> Filter:
    """Read a filter.

    Raises:
        FilterError: what is wrong with it.
    """
    parts = list(_parts(text))
    if not parts:
        return Filter(text, lambda _: True, frozenset())
    reader = _Reader(parts)
    test = reader.alternatives(0)
    if reader.here is not None:
        raise FilterError(f"the filter has {reader.here.text!r} too much", remedy="check its brackets")
    return Filter(text, test, frozenset(reader.asks))


def quote(tag: str) -> str:
    """A tag as a filter that means just it."""
    return '"' + re.sub(r'(["\\*])', r"\\\1", tag) + '"'


@dataclass(frozen=True)
class _Part:
    kind: Literal["quoted", "mark", "word"]
    text: str


def _parts(text: str) -> Iterator[_Part]:
    place = 0
    text = text.rstrip()
    while place < len(text):
        found = TOKEN.match(text, place)
        if found is None:
            raise FilterError(
                f"the filter is not right at {text[place:].strip()[:20]!r}",
                remedy='close the quotes, or put a backslash before "',
            )
        if found["quoted"] is not None:
            yield _Part("quoted", found["quoted"][1:-1])
        elif found["mark"] is not None:
            yield _Part("mark", found["mark"])
        else:
            yield _Part("word", found["word"])
        place = found.end()


class _Reader:
    """Reads by descent: alternatives of series of terms."""

    def __init__(self, parts: Sequence[_Part]) -> None:
        self._parts = parts
        self._place = 0
        self.asks: set[Asks] = set()

    @property
    def here(self) -> _Part | None:
        return self._parts[self._place] if self._place < len(self._parts) else None

    def _takes(self, *texts: str) -> bool:
        here = self.here
        if here is not None and here.kind != "quoted" and here.text in texts:
            self._place += 1
            return True
        return False

    def alternatives(self, depth: int) -> Test:
        """``a OR b``"""
        tests = [self._series(depth)]
        while self._takes("OR"):
            tests.append(self._series(depth))
        return tests[0] if len(tests) == 1 else lambda look: any(test(look) for test in tests)

    def _series(self, depth: int) -> Test:
        """``a AND b``, ``a, b``"""
        tests = [self._term(depth)]
        while self._takes("AND", ","):
            tests.append(self._term(depth))
        return tests[0] if len(tests) == 1 else lambda look: all(test(look) for test in tests)

    def _term(self, depth: int) -> Test:
        if depth > MAX_DEPTH:
            raise FilterError("the filter has too many brackets in brackets", remedy="write it in fewer steps")
        if self._takes("NOT"):
            test = self._term(depth + 1)
            return lambda look: not test(look)
        if self._takes("("):
            test = self.alternatives(depth + 1)
            if not self._takes(")"):
                raise FilterError("a bracket of the filter is not closed", remedy="add )")
            return test
        return self._tag()

    def _tag(self) -> Test:
        """Words up to the next operator are one tag."""
        here = self.here
        if here is None or here.kind == "mark" or here.text in ("AND", "OR"):
            told = "its end" if here is None else repr(here.text)
            raise FilterError(f"a tag is missing in the filter before {told}", remedy="write what is meant there")
        if here.kind == "quoted":
            self._place += 1
            self.asks.add("tags")
            return _has_tag(here.text)
        words = []
        while (part := self.here) is not None and part.kind == "word" and part.text not in ("AND", "OR", "NOT"):
            words.append(part.text)
            self._place += 1
        text = " ".join(words)
        # A quoted piece behind a prefix belongs to it: name:"a b".
        if text.endswith(":") and self.here is not None and self.here.kind == "quoted":
            text += self.here.text
            self._place += 1
        asks, test = _word(text)
        self.asks.add(asks)
        return test


def _word(text: str) -> tuple[Asks, Test]:
    """A bare word, or words: one of ours, or a tag."""
    if text == "untagged":
        return "tags", lambda look: not look.tags
    if text == "edited":
        return "edited", lambda look: look.edited
    limit = re.fullmatch(r"over_limit(?::(\d{1,6}))?", text)
    if limit:
        most = int(limit[1] or LIMIT)
        return "tokens", lambda look: look.count_tokens() > most
    number = NUMBER.fullmatch(text)
    if number:
        compare, value = COMPARE[number[2]], int(number[3])
        if number[1] == "tags":
            return "tags", lambda look: compare(len(look.tags), value)
        return "tokens", lambda look: compare(look.count_tokens(), value)
    prefix, _, rest = text.partition(":")
    if prefix in PREFIXES and rest:
        return PREFIXES[prefix](rest)
    return "tags", _has_tag(text)


def _name(pattern: str) -> tuple[Asks, Test]:
    found = _glob(pattern.casefold())
    return "file", lambda look: found.fullmatch(_stem(look.file).casefold()) is not None


def _folder(pattern: str) -> tuple[Asks, Test]:
    found = _glob(pattern.casefold().strip("/") or ".")
    return "file", lambda look: found.fullmatch(look.file.rpartition("/")[0].casefold() or ".") is not None


def _text(words: str) -> tuple[Asks, Test]:
    wanted = re.sub(r"\\(.)", r"\1", words).casefold()
    return "tags", lambda look: wanted in names.join(look.tags).casefold()


PREFIXES: MappingProxyType[str, Callable[[str], tuple[Asks, Test]]] = MappingProxyType(
    {"name": _name, "folder": _folder, "text": _text}
)


def _stem(file: str) -> str:
    name = file.rpartition("/")[2]
    return name.rpartition(".")[0] or name


def _has_tag(pattern: str) -> Test:
    """Patterns are compared by key, as in operations."""
    pattern = _plain(pattern)
    if is_wild(pattern):
        found = matcher((pattern,))
        return lambda look: any(map(found, look.tags))
    key = names.key(pattern.replace("\\*", "*"))
    return lambda look: key in look.keys


def _plain(text: str) -> str:
    r"""Backslashes before marks of this language away, but not before a star: ``\(`` becomes ``(``."""
    return re.sub(r'\\(["\\(),])', r"\1", text)


def _glob(pattern: str) -> re.Pattern[str]:
    pieces = [_plain(piece).replace("\\*", "*") for piece in re.split(r"(?<!\\)\*", pattern)]
    return re.compile(".*".join(re.escape(piece) for piece in pieces), re.DOTALL)
