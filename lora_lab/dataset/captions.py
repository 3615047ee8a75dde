"""From a caption file's text to the caption of one training item: kohya's options, in kohya's order. Pure functions.

Every draw comes from a `random.Random` that the caller seeds by run, epoch and item, so that a resumed run draws the
same.
"""

from __future__ import annotations

import math
import random
import re
from dataclasses import dataclass

from lora_lab.dataset.options import DatasetOptions

MOST_VARIANTS = 64
"""Of one caption: more are not listed."""


@dataclass(frozen=True)
class Moment:
    """When in a run a caption is drawn."""

    epoch: int = 1
    """1-based."""
    step: int = 0
    """Optimizer steps done before."""
    steps: int = 0
    """Of the whole run."""


def split_tags(caption: str, separator: str = ",") -> list[str]:
    """The comma-separated pieces, trimmed, without empty ones."""
    return [piece for piece in (part.strip() for part in caption.split(separator)) if piece]


def lines_of(text: str) -> list[str]:
    """The lines that are not empty, trimmed. Only CR and LF end a line: other marks are text."""
    return [line for line in (part.strip() for part in re.split(r"[\r\n]+", text)) if line]


def first_line(text: str) -> str:
    """What is trained on without enable_wildcard: the first line that is not empty."""
    return next(iter(lines_of(text)), "")


def process(text: str, options: DatasetOptions, when: Moment, r: random.Random) -> str:
    """The caption of an item at a moment of the run.

    Order: prefix and suffix, dropout of the whole caption, wildcards, kept front and end, token warmup, shuffle,
    dropout of single tags, secondary separator. Only the first line is used, or with enable_wildcard a random one;
    prefix and suffix go to the line that is used (kohya's go to the first and the last of all).
    """
    every = options.caption_dropout_every_n_epochs
    rate = options.caption_dropout_rate
    if (rate and r.random() < rate) or (every and when.epoch % every == 0):
        return ""
    caption = first_line(text)
    if options.enable_wildcard:
        caption = r.choice(lines_of(text) or [""])
    caption = framed(caption, options)
    if options.enable_wildcard:
        caption = wildcards(caption, r)
    if options.moves_tags:
        caption = _mix(caption, options, when, r)
    return grouped(caption, options)


def framed(line: str, options: DatasetOptions) -> str:
    """A line between prefix and suffix."""
    return " ".join(part for part in (options.caption_prefix, line, options.caption_suffix) if part)


def grouped(caption: str, options: DatasetOptions) -> str:
    """The secondary separator becomes the separator."""
    if not options.secondary_separator:
        return caption
    return caption.replace(options.secondary_separator, options.caption_separator)


def wildcards(line: str, r: random.Random) -> str:
    """One choice of each ``{a|b}``, inner ones first; ``{{`` and ``}}`` stand for single braces."""
    line, found = _marked(line), 1
    while found:  # ends: each round takes braces away
        line, found = CHOICE.subn(lambda match: r.choice(match[1].split("|")), line)
    return _unmarked(line)


CHOICE = re.compile(r"\{([^{}]+)\}")
"""Innermost braces."""


def _marked(line: str) -> str:
    """Doubled braces as marks that are no braces."""
    return line.replace("\0", "").replace("\1", "").replace("{{", "\0").replace("}}", "\1")


def _unmarked(line: str) -> str:
    return line.replace("\0", "{").replace("\1", "}")


def variants(text: str, options: DatasetOptions) -> set[str] | None:
    """Every caption that `process` can make of a text; None where tags move, or where there are too many."""
    if options.moves_tags:
        return None
    found: set[str] = set()
    for line in (lines_of(text) or [""]) if options.enable_wildcard else [first_line(text)]:
        whole = framed(line, options)
        every = expanded(whole, MOST_VARIANTS) if options.enable_wildcard else [whole]
        if every is None:
            return None
        found.update(grouped(caption, options) for caption in every)
    if options.caption_dropout_rate or options.caption_dropout_every_n_epochs:
        found.add("")
    return found if len(found) <= MOST_VARIANTS else None


def expanded(line: str, most: int) -> list[str] | None:
    """All that `wildcards` can make of a line, each once; None where there are more than `most`."""
    waiting = [_marked(line)]
    found: dict[str, None] = {}
    while waiting:
        first = waiting.pop()
        match = CHOICE.search(first)
        if match is None:
            found[_unmarked(first)] = None
        else:
            start, end = match.span()
            waiting += [first[:start] + choice + first[end:] for choice in dict.fromkeys(match[1].split("|"))]
        if len(found) + len(waiting) > most:
            return None
    return list(found)


def _mix(caption: str, options: DatasetOptions, when: Moment, r: random.Random) -> str:
    """Shuffle and drop the tags between the kept front and the kept end."""
    front, middle, back = _parts(caption, options)
    middle = middle[: warmed_up(len(middle), options, when)]
    if options.shuffle_caption:
        r.shuffle(middle)
    rate = options.caption_tag_dropout_rate
    if rate:
        middle = [tag for tag in middle if r.random() >= rate]
    return ", ".join([*front, *middle, *back])


def warmed_up(count: int, options: DatasetOptions, when: Moment) -> int:
    """How many of `count` tags that move are used: token_warmup_min at first, one by one more until the warmup ends."""
    length = options.token_warmup_step
    length = math.floor(length * when.steps) if length < 1 else length
    least = options.token_warmup_min
    if not length or when.step >= length or count <= least:
        return count
    return math.floor(when.step * (count - least) / length) + least


def _parts(caption: str, options: DatasetOptions) -> tuple[list[str], list[str], list[str]]:
    """Tags that stay in front, tags that move, tags that stay at the end (keep_tokens_separator beats keep_tokens)."""
    mark, comma = options.keep_tokens_separator, options.caption_separator
    if mark and mark in caption:
        front, rest = caption.split(mark, 1)
        middle, _, back = rest.partition(mark)
        return split_tags(front, comma), split_tags(middle, comma), split_tags(back, comma)
    tags = split_tags(caption, comma)
    return tags[: options.keep_tokens], tags[options.keep_tokens :], []
