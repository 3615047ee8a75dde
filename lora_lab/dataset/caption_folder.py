"""The captions of a folder as files: which pictures each belongs to, what is in it, and whether it may be written."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from lora_lab.dataset.caption_text import CaptionText, read_text
from lora_lab.dataset.folders import parse_name
from lora_lab.dataset.history import read_file
from lora_lab.dataset.journal import digest
from lora_lab.dataset.options import PICTURE_ENDINGS
from lora_lab.dataset.problems import Problem, told
from lora_lab.errors import DatasetError

LONGEST_NAME = 255
"""Bytes (on Windows: letters) of a file's name."""
EMPTY = CaptionText("", "")


@dataclass(frozen=True)
class CaptionFile:
    """A caption file, or the place where one can be written."""

    file: str
    """Relative to the dataset's folder, with slashes."""
    pictures: tuple[Path, ...]
    """Whose caption it is; several where they have one stem."""
    data: bytes | None = field(repr=False, default=None)
    """None for no file, and for one that cannot be read."""
    text: CaptionText = EMPTY
    locked: str = ""
    """Why it may not be written; empty if it may."""
    stamp: tuple[int, int] | None = field(repr=False, compare=False, default=None)
    """Time and size, by which a later look knows that it is the same."""

    @cached_property
    def digest(self) -> bytes | None:
        """Of its bytes; see `journal.digest`."""
        return digest(self.data)


def read_captions(
    root: Path,
    extension: str,
    *,
    recursive: bool = False,
    known: Mapping[str, CaptionFile] | None = None,
    again: Collection[str] = (),
) -> list[CaptionFile]:
    """The captions of the pictures in a folder and its ``<repeats>_<name>`` folders, sorted.

    Names that begin with a dot are passed over; links to folders are not followed.

    Args:
        root: the dataset's folder.
        extension: of the captions, with its dot.
        recursive: in all folders below it, whatever their names.
        known: what was read before; files of the same time and size are not read again.
        again: captions that are read again all the same.

    Raises:
        DatasetError: there is no such folder, or it cannot be read.
    """
    seen = {file: replace(found, stamp=None) if file in again else found for file, found in (known or {}).items()}
    return [found for folder in _folders(root, recursive) for found in _read(root, folder, extension, seen)]


def _folders(root: Path, recursive: bool) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(root), key=lambda entry: entry.name)
    except (OSError, ValueError) as error:
        what = "the folder cannot be read" if os.path.isdir(root) else "there is no such folder"
        raise DatasetError(what, file=told(root), remedy="choose the folder that holds your pictures") from error
    yield root
    for entry in entries:
        inside = entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
        if inside and recursive:
            yield from _folders(Path(entry.path), recursive)
        elif inside and parse_name(entry.name):
            yield Path(entry.path)


def _read(root: Path, folder: Path, extension: str, known: Mapping[str, CaptionFile]) -> Iterator[CaptionFile]:
    try:
        entries = {entry.name: entry for entry in os.scandir(folder) if not entry.name.startswith(".")}
    except OSError as error:
        what = f"the folder cannot be read ({error.strerror})"
        raise DatasetError(what, file=told(folder), remedy="check its rights") from error
    stems: dict[str, list[str]] = {}
    for name, entry in sorted(entries.items()):
        stem, ending = os.path.splitext(name)
        if ending.lower() in PICTURE_ENDINGS and entry.is_file():
            stems.setdefault(stem, []).append(name)
    inside = folder.relative_to(root).as_posix()
    prefix = "" if inside == "." else f"{inside}/"
    for stem, found in stems.items():
        name = stem + extension
        before = known.get(prefix + name)
        same = before is not None and [picture.name for picture in before.pictures] == found
        pictures = before.pictures if before and same else tuple(folder / picture for picture in found)
        yield _file(prefix + name, pictures, entries.get(name), before if same else None)


def _file(
    file: str, pictures: tuple[Path, ...], entry: os.DirEntry[str] | None, before: CaptionFile | None
) -> CaptionFile:
    if entry is None:
        name = file.rpartition("/")[2]
        long = len(os.fsencode(name)) > LONGEST_NAME
        return CaptionFile(
            file, pictures, locked="the picture's name is too long for a caption beside it" if long else ""
        )
    try:
        about = entry.stat()
        stamp = (about.st_mtime_ns, about.st_size)
        if before is not None and before.stamp == stamp:
            return before
        data = read_file(entry.path)
    except OSError as error:
        return CaptionFile(file, pictures, locked=f"it cannot be read ({error.strerror})")
    locked = ""
    if entry.is_symlink():
        locked = "it is a link, which is not followed when writing"
    elif not os.access(entry.path, os.W_OK):
        locked = "it is write-protected"
    return CaptionFile(file, pictures, data, EMPTY if data is None else read_text(data), locked, stamp)


def problems_of(root: Path, caption: CaptionFile) -> list[Problem]:
    """What is odd about one caption file."""
    name, found = told(root / caption.file), []
    if caption.locked:
        remedy = "it is left as it is; put a file that may be written in its place"
        found.append(Problem(name, "caption-locked", caption.locked, remedy))
    if len(caption.pictures) > 1:
        others = ", ".join(told(Path(p.name)) for p in caption.pictures)
        found.append(Problem(name, "shared-caption", f"it belongs to several pictures: {others}", "rename one of them"))
    encoding = caption.text.encoding
    if encoding == "UTF-8 with BOM":
        why = "it begins with a byte order mark, which kohya's scripts take for a part of the first tag"
        found.append(Problem(name, "caption-bom", why, "convert it to plain UTF-8", "note"))
    elif encoding != "UTF-8":
        why = f"it is not UTF-8; it was read as {encoding}"
        found.append(Problem(name, "caption-encoding", why, "convert it to UTF-8"))
    return found
