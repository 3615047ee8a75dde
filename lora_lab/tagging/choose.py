"""From probabilities to tags: thresholds, exclusions, replacements, spelling, order. Nothing is run again for it.

MCut (Largeron, Moulin, Géry: MCut, a thresholding strategy for multi-label classification, 2012) puts the threshold of
each picture in the middle of the largest gap between neighbouring probabilities.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from fnmatch import translate
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar, get_args

import numpy as np

from lora_lab.errors import SettingsError
from lora_lab.tagging import names
from lora_lab.tagging.tags import CHARACTER, RATING, Tag

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lora_lab.tagging.scores import Scores

T = TypeVar("T")
Order = Literal["score", "model", "frequency", "alphabet"]
Ratings = Literal["no", "first", "last"]

CHARACTER_FLOOR = 0.15
"""MCut never goes below this for characters (the taggers' author's own demo): among noise any gap is the largest."""
REGEX = "re:"
"""A word of `exclude` or `replace` that begins so is a regular expression."""


@dataclass(frozen=True)
class Choice:
    """How tags are chosen from probabilities."""

    general_threshold: float = 0.35
    """From which probability on a tag is taken, 0..1. Lower finds more, and more that is not there."""
    character_threshold: float = 0.85
    """The same for names of characters, where a wrong one does more harm."""
    use_card: bool = False
    """Take the general threshold from the model's card, where it finds as much wrong as it misses; if known."""
    mcut: bool = False
    """A threshold for each picture, in the middle of the largest gap; the thresholds above do not count then."""
    per_tag: tuple[tuple[str, float], ...] = ()
    """Tags with a threshold of their own."""
    ratings: Ratings = "no"
    """Where the rating (the most probable one) goes: nowhere, first, last."""
    exclude: tuple[str, ...] = ()
    """Tags never taken; ``*`` and ``?`` stand for letters, ``re:`` begins a regular expression."""
    replace: tuple[tuple[str, str], ...] = ()
    """What is written instead of a tag; an empty word takes it away. Patterns as in `exclude`."""
    underscores: bool = False
    """``long_hair`` instead of ``long hair``."""
    escape: bool = False
    """A backslash before brackets: for prompts, never for training."""
    max_tags: int = 0
    """At most so many, the most probable ones; 0 for all. A rating comes on top."""
    min_share: float = 0.0
    """Leave out tags found in less than this share of the pictures, 0..1: likely mistakes in a set of one subject."""
    order: Order = "score"
    """By probability, as in the model's list, by how many pictures have them, or by the alphabet."""
    characters_first: bool = False
    """Names of characters before all others."""

    def check(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            SettingsError: the field and its range.
        """
        shares = {"general_threshold": self.general_threshold, "character_threshold": self.character_threshold}
        shares |= {"min_share": self.min_share, **{f"the threshold of {tag!r}": value for tag, value in self.per_tag}}
        for name, value in shares.items():
            if not 0 <= value <= 1:
                raise SettingsError(f"{name} is {value}", remedy="use a number from 0 to 1")
        if self.max_tags < 0:
            raise SettingsError(f"max_tags is {self.max_tags}", remedy="use 0 for all, or a number above it")
        _one_of("order", self.order, get_args(Order))
        _one_of("ratings", self.ratings, get_args(Ratings))
        for word in (*self.exclude, *(old for old, _ in self.replace)):
            _pattern(word)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Choice:
        """The way back.

        Raises:
            SettingsError: an unknown field, or a value out of range.
        """
        unknown = sorted(set(values) - {field.name for field in fields(Choice)})
        if unknown:
            raise SettingsError(f"a choice of tags has no {unknown[0]!r}", remedy="take it out")
        plain = dict(values)
        try:
            plain["exclude"] = tuple(str(word) for word in values.get("exclude", ()))
            plain["replace"] = tuple((str(old), str(new)) for old, new in values.get("replace", ()))
            plain["per_tag"] = tuple((str(tag), float(value)) for tag, value in values.get("per_tag", ()))
            choice = Choice(**plain)
            choice.check()
        except (TypeError, ValueError) as error:
            raise SettingsError(f"a choice of tags is damaged: {error}", remedy="choose again") from error
        return choice


PLAIN = Choice()
SPELLING = ("exclude", "replace", "underscores", "escape")
"""What the texts of tags depend on."""


def _one_of(name: str, value: str, words: Sequence[str]) -> None:
    if value not in words:
        raise SettingsError(f"{name} is {value!r}", remedy=f"use one of {', '.join(words)}")


class Scored(NamedTuple):
    """A chosen tag."""

    tag: str
    """As it is written into a caption."""
    probability: float
    category: int


def choose(scores: Scores, choice: Choice, card: float | None = None) -> list[list[Scored]]:
    """The tags of each picture, in the order they are written.

    Args:
        scores: of any number of pictures.
        choice: what is taken.
        card: the threshold of the model's card, for `use_card`.

    Returns:
        A list for each picture.

    Raises:
        SettingsError: from `Choice.check`.
    """
    entries, texts = _chosen(scores, choice, card)
    columns = scores.columns[entries].tolist()
    categories = [scores.tags[column].category for column in columns]
    values = scores.values[entries].tolist()
    return _by_picture(scores, entries, list(map(Scored, (texts[c] for c in columns), values, categories)))


def choose_tags(scores: Scores, choice: Choice, card: float | None = None) -> list[list[str]]:
    """As `choose`, the words alone: captions as lists of tags."""
    entries, texts = _chosen(scores, choice, card)
    return _by_picture(scores, entries, [texts[column] for column in scores.columns[entries].tolist()])


def _by_picture(scores: Scores, entries: NDArray[np.int64], items: list[T]) -> list[list[T]]:
    ends = np.searchsorted(scores.rows[entries], np.arange(len(scores) + 1)).tolist()
    return [items[begin:end] for begin, end in pairwise(ends)]


def _chosen(scores: Scores, choice: Choice, card: float | None) -> tuple[NDArray[np.int64], list[str]]:
    """The entries that are taken, picture by picture in their order, and the text of each column."""
    choice.check()
    texts = _written(scores.tags, replace(PLAIN, **{name: getattr(choice, name) for name in SPELLING}))
    category = np.array([tag.category for tag in scores.tags], np.int64)
    taken = np.array([bool(text) for text in texts], bool)[scores.columns]
    kept = _kept(scores, choice, category, card) & taken
    if choice.min_share:
        counts = np.bincount(scores.columns[kept], minlength=len(texts))
        kept &= (counts >= choice.min_share * len(scores))[scores.columns]
    best = _once(scores, _falling(scores, kept), texts)
    if choice.max_tags:
        rows = scores.rows[best]
        best = best[np.arange(len(rows)) - np.searchsorted(rows, rows) < choice.max_tags]
    ratings = np.zeros(0, np.int64)
    if choice.ratings != "no":
        all_ratings = _falling(scores, (category[scores.columns] == RATING) & taken)
        ratings = all_ratings[np.unique(scores.rows[all_ratings], return_index=True)[1]]
    first = choice.ratings == "first"
    group = (category[scores.columns[best]] != CHARACTER) if choice.characters_first else np.ones(len(best), bool)
    wanted = np.concatenate([_positions(scores, best, choice.order, texts), np.zeros(len(ratings), np.int64)])
    groups = np.concatenate([group.astype(np.int64), np.full(len(ratings), -1 if first else 2)])
    entries = np.concatenate([best, ratings])
    return np.take(entries, np.lexsort((wanted, groups, scores.rows[entries]))), texts


def _falling(scores: Scores, kept: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The kept entries picture by picture, the most probable first."""
    entries = np.flatnonzero(kept)
    order: NDArray[np.int64] = np.take(entries, np.lexsort((-scores.values[entries], scores.rows[entries])))
    return order


def _once(scores: Scores, entries: NDArray[np.int64], texts: list[str]) -> NDArray[np.int64]:
    """Without the later ones of two tags of a picture that are written alike (two may be replaced by one)."""
    codes: dict[str, int] = {}
    code = np.array([codes.setdefault(text, len(codes)) for text in texts], np.int64)
    if len(codes) == len(texts) or not len(entries):
        return entries
    _, first = np.unique(scores.rows[entries] * len(texts) + code[scores.columns[entries]], return_index=True)
    return np.take(entries, np.sort(first))


def _positions(scores: Scores, entries: NDArray[np.int64], order: Order, texts: list[str]) -> NDArray[np.int64]:
    """(entries,): numbers that sort a picture's entries as wanted. `entries` fall by probability."""
    columns = scores.columns[entries]
    if order == "score":
        return np.arange(len(entries))
    place = np.arange(len(texts))
    if order == "frequency":
        place = -np.bincount(columns, minlength=len(texts))
    elif order == "alphabet":
        place[sorted(range(len(texts)), key=lambda column: texts[column].casefold())] = np.arange(len(texts))
    return np.take(place, columns)


def spelled(name: str, choice: Choice) -> str:
    """A tag as a caption has it: blanks or underscores, brackets escaped or plain."""
    text = names.underscored(name) if choice.underscores else names.spaced(name)
    return names.escape(text) if choice.escape else text


def _kept(scores: Scores, choice: Choice, category: NDArray[np.int64], card: float | None) -> NDArray[np.bool_]:
    """(entries,): is the probability high enough?"""
    general = card if choice.use_card and card is not None else choice.general_threshold
    limits = np.where(category == CHARACTER, choice.character_threshold, general)
    wanted = limits[scores.columns]
    if choice.mcut:
        characters = category[scores.columns] == CHARACTER
        others = ~characters & (category[scores.columns] != RATING)
        wanted = np.where(others, _gap_threshold(scores, others)[scores.rows], wanted)
        lowest = np.maximum(_gap_threshold(scores, characters), CHARACTER_FLOOR)
        wanted = np.where(characters, lowest[scores.rows], wanted)
    for tag, threshold in choice.per_tag:
        column = scores.column_of.get(names.key(tag))
        if column is not None:
            wanted = np.where(scores.columns == column, threshold, wanted)
    # As float32: 0.35 kept as the nearest float32 must reach a threshold of 0.35.
    kept: NDArray[np.bool_] = (scores.values >= wanted.astype(np.float32)) & (category[scores.columns] != RATING)
    return kept


def _gap_threshold(scores: Scores, among: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(pictures,): MCut's threshold among some of the entries; 1 where a picture has none of them."""
    entries = np.flatnonzero(among)
    rows, values = scores.rows[entries], scores.values[entries].astype(np.float64)
    order = np.lexsort((-values, rows))
    rows, values = rows[order], values[order]
    below = np.append(values[1:], 0.0)
    below[np.append(rows[1:] != rows[:-1], True)[: len(below)]] = 0.0  # what is not kept is nearly 0
    thresholds = np.ones(len(scores))
    if len(rows):
        widest = np.lexsort((-(values - below), rows))  # stable: of equal gaps the upper one
        present, first = np.unique(rows[widest], return_index=True)
        at = widest[first]
        thresholds[present] = (values[at] + below[at]) / 2
    return thresholds


@lru_cache(maxsize=8)
def _written(tags: tuple[Tag, ...], choice: Choice) -> list[str]:
    """The text of each column; empty for one that is excluded or taken away. Kept while only thresholds move."""
    excluded = [_pattern(word) for word in choice.exclude]
    replaced = [(_pattern(old), new) for old, new in choice.replace]
    texts = []
    for tag in tags:
        key = names.key(tag.name)
        if any(pattern.fullmatch(key) for pattern in excluded):
            texts.append("")
            continue
        text = spelled(tag.name, choice)
        for pattern, new in replaced:
            if pattern.fullmatch(key):
                text = spelled(new.strip(), choice) if new.strip() else ""
                break
        texts.append(text)
    return texts


def _pattern(word: str) -> re.Pattern[str]:
    """Matches keys of tags."""
    if not word.startswith(REGEX):
        return re.compile(translate(names.key(word)))
    try:
        return re.compile(word[len(REGEX) :], re.IGNORECASE)
    except re.error as error:
        what = f"{word!r} is no regular expression: {error}"
        raise SettingsError(what, remedy="correct it, or take 're:' away") from error
