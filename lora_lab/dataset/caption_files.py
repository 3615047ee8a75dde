"""Caption files: read whatever encoding, and say what is odd about them. No torch, nothing is ever written here."""

from __future__ import annotations

import codecs
import errno
from pathlib import Path

from lora_lab.dataset.problems import Problem, told

MAX_CAPTION_BYTES = 64_000
"""A caption file above this is no caption: 225 tokens are about a thousand letters."""
ENDINGS = (".txt", ".caption", ".cap")
"""The ones that people have."""


def caption_path(picture: Path, extension: str) -> Path:
    """The caption file of a picture: its name with another ending.

    Args:
        picture: ``a.b.png``
        extension: with its dot, ``.txt`` gives ``a.b.txt``.
    """
    return picture.with_name(picture.stem + extension)


def read_caption(path: Path) -> tuple[str | None, list[Problem]]:
    """A caption file's text, None where there is none (or nothing in it), and what is odd about it."""
    try:
        size = path.stat().st_size
        data = path.read_bytes() if size <= MAX_CAPTION_BYTES else None
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENAMETOOLONG, errno.ENOTDIR):
            return None, []  # a picture's name of 250 letters leaves no room for the ending: there is no such file
        why = f"it cannot be read ({error.strerror}); the folder's name is used"
        return None, [Problem(told(path), "caption-unreadable", why, "check its rights")]
    if data is None:
        why = f"it has {size:,} bytes, which is no caption; the folder's name is used"
        return None, [Problem(told(path), "caption-too-long", why, "shorten it to the tags of this picture")]
    text, problems = _decode(path, data)
    text = text.replace("\0", "").strip()
    if not text:
        why = "the caption file is empty; the folder's name is used"
        return None, [*problems, Problem(told(path), "caption-empty", why, "write its tags, or delete the file")]
    return text, problems


def _decode(path: Path, data: bytes) -> tuple[str, list[Problem]]:
    """UTF-8, else what its first bytes say, else Latin-1, which reads anything."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        why = "it is not UTF-8; it was read as UTF-16"
        return data.decode("utf-16", "replace"), [Problem(told(path), "caption-encoding", why, "save it as UTF-8")]
    problems = []
    if data.startswith(codecs.BOM_UTF8):
        data = data[len(codecs.BOM_UTF8) :]
        why = "it begins with a byte order mark, which kohya's scripts take for a part of the first tag"
        problems.append(Problem(told(path), "caption-bom", why, "save it as UTF-8 without BOM", "note"))
    try:
        return data.decode("utf-8"), problems
    except UnicodeDecodeError:
        why = "it is not UTF-8; it was read as Latin-1"
        return data.decode("latin-1"), [*problems, Problem(told(path), "caption-encoding", why, "save it as UTF-8")]


def left_over(files: list[Path], pictures: list[Path], extension: str) -> list[Problem]:
    """Caption files that no picture has, and captions with another ending than the one that is read.

    Args:
        files: all files of a folder.
        pictures: the pictures among them.
        extension: of the captions that are read.
    """
    stems = {path.stem for path in pictures}
    problems = [
        Problem(told(path), "caption-without-picture", "no picture has its name", "rename it like its picture", "note")
        for path in files
        if path.suffix.lower() == extension.lower() and path.stem not in stems
    ]
    there = {path.suffix for path in files if path.stem in stems and path.suffix in ENDINGS}
    if pictures and there and extension not in there:
        other = sorted(there)[0]
        why = f"its captions end in {other}, and {extension} files are read"
        problems.append(
            Problem(told(pictures[0].parent), "caption-extension", why, f"set caption_extension to {other}")
        )
    return problems
