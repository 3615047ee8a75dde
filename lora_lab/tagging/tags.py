"""The list of tags a tagger knows, row i for output i: ``selected_tags.csv``, or ``tag_mapping.json`` of other taggers.

A csv's columns are found by their names.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lora_lab.errors import UserError

GENERAL, CHARACTER, RATING = 0, 4, 9
"""Categories of WD taggers."""
CATEGORIES: Mapping[str, int] = MappingProxyType(
    {"general": 0, "artist": 1, "copyright": 3, "character": 4, "meta": 5, "model": 6, "quality": 7, "rating": 9}
)
"""Words of a `tag_mapping.json` -> numbers as in a csv."""
LARGEST = 50_000_000
"""Bytes of a list of tags; the largest known has two millions."""


class TaggerError(UserError):
    """A folder that holds no tagger, or one that is damaged."""


@dataclass(frozen=True)
class Tag:
    """One output of a tagger."""

    name: str
    """As in the file, with underscores."""
    category: int
    """0 general, 4 character, 9 rating; other taggers have more."""
    count: int = 0
    """Pictures that had it in the tagger's training data."""


def read_tags(path: Path) -> tuple[Tag, ...]:
    """Read the list.

    Args:
        path: ``.csv``, or ``.json`` for a tag mapping.

    Raises:
        TaggerError: no such file, not UTF-8, no column `name` or `category`, or a row that is cut off.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise OSError
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise TaggerError("the tagger's list of tags cannot be read", file=path, remedy="download it again") from error
    return _mapping(text, path) if path.suffix.lower() == ".json" else _table(text, path)


def _table(text: str, path: Path) -> tuple[Tag, ...]:
    rows = csv.DictReader(io.StringIO(text))
    try:
        missing = sorted({"name", "category"} - set(rows.fieldnames or ()))
        if missing:
            remedy = "take the selected_tags.csv that belongs to the model"
            raise TaggerError(f"the list of tags has no column {missing[0]!r}", file=path, remedy=remedy)
        return tuple(Tag(_name(row["name"]), int(row["category"]), int(row.get("count") or 0)) for row in rows)
    except (TypeError, ValueError, csv.Error) as error:
        remedy = "download it again"
        raise TaggerError(f"the list of tags is damaged at line {rows.line_num}", file=path, remedy=remedy) from error


def _mapping(text: str, path: Path) -> tuple[Tag, ...]:
    """Both forms: output -> tag and category, or two tables."""
    try:
        values = json.loads(text)
        pairs = dict(_pairs(values))
        if sorted(pairs) != list(range(len(pairs))):
            raise ValueError("outputs are missing")
        return tuple(Tag(_name(name), CATEGORIES[str(word).lower()]) for _, (name, word) in sorted(pairs.items()))
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        what = "the list of tags is no tag mapping, or a damaged one"
        raise TaggerError(what, file=path, remedy="take the tag_mapping.json that belongs to the model") from error


def _pairs(values: Any) -> Iterator[tuple[int, tuple[str, str]]]:  # noqa: ANN401 - JSON
    if "idx_to_tag" in values:
        for index, name in values["idx_to_tag"].items():
            yield int(index), (name, values["tag_to_category"][name])
    else:
        for index, entry in values.items():
            yield int(index), (entry["tag"], entry["category"])


def _name(name: str) -> str:
    """A comma or a line break in a name would make two tags of it in a caption.

    Raises:
        ValueError: there is no name.
    """
    plain = " ".join(name.replace(",", " ").split())
    if not plain:
        raise ValueError("a tag without a name")
    return plain
