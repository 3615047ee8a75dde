"""The list of tags a tagger knows: ``selected_tags.csv``, row i for output i. Columns are found by their names."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from lora_lab.errors import UserError

GENERAL, CHARACTER, RATING = 0, 4, 9
"""Categories of WD taggers."""


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
    """Read the csv.

    Raises:
        TaggerError: no such file, not UTF-8, no column `name` or `category`, or a row that is cut off.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise TaggerError("the tagger's list of tags cannot be read", file=path, remedy="download it again") from error
    rows = csv.DictReader(io.StringIO(text))
    missing = sorted({"name", "category"} - set(rows.fieldnames or ()))
    if missing:
        remedy = "take the selected_tags.csv that belongs to the model"
        raise TaggerError(f"the list of tags has no column {missing[0]!r}", file=path, remedy=remedy)
    try:
        return tuple(Tag(row["name"], int(row["category"]), int(row.get("count") or 0)) for row in rows)
    except (TypeError, ValueError) as error:
        remedy = "download it again"
        raise TaggerError(f"the list of tags is damaged at line {rows.line_num}", file=path, remedy=remedy) from error
