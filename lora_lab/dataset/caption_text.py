"""What is in a caption file: the line that is trained on, what follows it, and how its letters are stored. Pure.

Only the first line that is not empty is read in training, so only it is edited; what follows stays letter for letter.
What is written is UTF-8 without a byte order mark, which every trainer reads.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from typing import Literal

Encoding = Literal["UTF-8", "UTF-8 with BOM", "UTF-16", "Latin-1"]
FIRST_LINE = re.compile(r"[^\S\r\n]*([^\r\n]*[^\s])[^\S\r\n]*")


@dataclass(frozen=True)
class CaptionText:
    """A caption file's text in its parts."""

    line: str
    """The first line that is not empty, trimmed; empty where there is none."""
    rest: str
    """All that follows, its line break first; of an empty file nothing."""
    encoding: Encoding = "UTF-8"

    def with_line(self, line: str) -> bytes | None:
        """The file with another first line; None where nothing would be left of it.

        Args:
            line: without line breaks.
        """
        text = line + self.rest
        return text.encode("utf-8", "replace") if text.strip() else None


def read_text(data: bytes) -> CaptionText:
    """A file's bytes: UTF-8, else what its first bytes say, else Latin-1, which reads anything."""
    text, encoding = _decoded(data)
    text = text.replace("\0", "")
    start = len(text) - len(text.lstrip())
    found = FIRST_LINE.match(text, start)
    if found is None:
        return CaptionText("", "", encoding)
    return CaptionText(found[1], text[found.end() :], encoding)


def _decoded(data: bytes) -> tuple[str, Encoding]:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace"), "UTF-16"
    if data.startswith(codecs.BOM_UTF8):
        data, encoding = data[len(codecs.BOM_UTF8) :], "UTF-8 with BOM"
    else:
        encoding = "UTF-8"
    try:
        return data.decode("utf-8"), "UTF-8 with BOM" if encoding != "UTF-8" else "UTF-8"
    except UnicodeDecodeError:
        return data.decode("latin-1"), "Latin-1"
