"""Folders to subsets: kohya's ``<repeats>_<name>`` folders, their pictures and captions. No torch."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lora_lab.dataset.buckets import Size
from lora_lab.dataset.pictures import EXTENSIONS, OTHER_PICTURES, read_header
from lora_lab.dataset.problems import Problem
from lora_lab.errors import DatasetError

MAX_CAPTION_BYTES = 64_000
"""A caption file above this is no caption: 225 tokens are about a thousand letters."""
THREADS = min(8, 2 * (os.cpu_count() or 1))


@dataclass(frozen=True)
class Picture:
    """One usable picture."""

    path: Path
    size: Size
    """Width, height in pixels, turned as EXIF says."""
    caption: str
    """The caption file's text (line breaks kept), or the folder's name where there is none."""
    has_caption: bool
    has_alpha: bool = False


@dataclass(frozen=True)
class Subset:
    """The pictures of one folder, each counted `repeats` times in an epoch."""

    folder: Path
    name: str
    """What follows the repeats in the folder's name: kohya's class tokens, the caption of pictures without one."""
    repeats: int
    pictures: tuple[Picture, ...]
    regularisation: bool = False


def read_root(root: Path, extension: str, *, regularisation: bool = False) -> tuple[list[Subset], list[Problem]]:
    """All subsets below a dataset's folder, and what is wrong with them.

    A folder that holds pictures itself, and no ``<repeats>_<name>`` folder, is one subset with 1 repeat.

    Args:
        root: the parent of the ``<repeats>_<name>`` folders.
        extension: of the caption files, with its dot.

    Raises:
        DatasetError: there is no such folder, or it cannot be read.
    """
    if not root.is_dir():
        raise DatasetError("there is no such folder", file=root, remedy="choose the folder that holds your pictures")
    try:
        entries = sorted(root.iterdir())
    except OSError as error:
        what = f"the folder cannot be read ({error.strerror})"
        raise DatasetError(what, file=root, remedy="check its rights") from error
    problems: list[Problem] = []
    named = [(path, *found) for path in entries if path.is_dir() and (found := parse_name(path.name))]
    if not named:
        return _leaf(root, entries, extension, regularisation)
    problems += [_no_repeats(path) for path in entries if path.is_dir() and not parse_name(path.name) and _holds(path)]
    if any(_is_picture(path) for path in entries):
        why = "pictures beside the <repeats>_<name> folders are not trained on"
        problems.append(Problem(str(root), "stray-pictures", why, "move them into one of the folders"))
    subsets = []
    for path, repeats, name in named:
        subset, found_problems = read_subset(path, repeats, name, extension, regularisation=regularisation)
        subsets.append(subset)
        problems += found_problems
    return subsets, problems


def parse_name(folder: str) -> tuple[int, str] | None:
    """``10_mika dress`` to (10, "mika dress"); None where there are no repeats, or fewer than 1."""
    found = re.fullmatch(r"(\d{1,6})_(.+)", folder)
    return (int(found[1]), found[2].strip()) if found and int(found[1]) >= 1 else None


def read_subset(
    folder: Path, repeats: int, name: str, extension: str, *, regularisation: bool = False
) -> tuple[Subset, list[Problem]]:
    """The pictures of one folder with their captions; broken ones are left out and named."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    paths = [path for path in files if path.suffix.lower() in EXTENSIONS]
    problems = [
        Problem(str(path), "unknown-format", f"{path.suffix} pictures are not trained on", "save it as a PNG")
        for path in files
        if path.suffix.lower() in OTHER_PICTURES
    ]
    problems += _shared_stems(paths)
    with ThreadPoolExecutor(THREADS) as pool:
        headers = list(pool.map(read_header, paths))
    pictures = []
    for path, header in zip(paths, headers, strict=True):
        if isinstance(header, Problem):
            problems.append(header)
            continue
        text, found = read_caption(path.with_suffix(extension))
        problems += found
        pictures.append(Picture(path, header.size, name if text is None else text, text is not None, header.has_alpha))
    if not pictures:
        why = "no picture in it can be used"
        problems.append(Problem(str(folder), "empty-subset", why, "put png, jpg or webp pictures into it", "error"))
    return Subset(folder, name, repeats, tuple(pictures), regularisation), problems


def read_caption(path: Path) -> tuple[str | None, list[Problem]]:
    """A caption file's text, None where there is none (or nothing in it), and what is odd about it."""
    try:
        data = path.read_bytes() if path.stat().st_size <= MAX_CAPTION_BYTES else None
    except FileNotFoundError:
        return None, []
    except OSError as error:
        return None, [Problem(str(path), "caption-unreadable", f"{error.strerror}", "check its rights")]
    if data is None:
        why = f"it has {path.stat().st_size:,} bytes, which is no caption; the folder's name is used"
        return None, [Problem(str(path), "caption-too-long", why, "shorten it to the tags of this picture")]
    problems = []
    if data.startswith(b"\xef\xbb\xbf"):
        data = data[3:]
        why = "it begins with a byte order mark, which kohya's scripts take for a part of the first tag"
        problems.append(Problem(str(path), "caption-bom", why, "save it as UTF-8 without BOM", "note"))
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
        why = "it is not UTF-8; it was read as Latin-1"
        problems.append(Problem(str(path), "caption-encoding", why, "save it as UTF-8"))
    text = text.replace("\0", "").strip()
    if not text:
        why = "the caption file is empty; the folder's name is used"
        return None, [*problems, Problem(str(path), "caption-empty", why, "write its tags, or delete the file")]
    return text, problems


def _leaf(
    root: Path, entries: list[Path], extension: str, regularisation: bool
) -> tuple[list[Subset], list[Problem]]:
    """A folder without ``<repeats>_<name>`` folders: one subset if it holds pictures itself."""
    problems = [_no_repeats(path) for path in entries if path.is_dir() and _holds(path)]
    found = parse_name(root.name)
    if not any(_is_picture(path) for path in entries):
        if not problems:
            why = "there is no picture in it"
            remedy = "choose the folder that holds <repeats>_<name> folders"
            problems = [Problem(str(root), "empty", why, remedy, "error")]
        return [], problems
    repeats, name = found or (1, root.name)
    why = f"it holds pictures itself: taken as one concept '{name}' with {repeats} repeats"
    problems.append(Problem(str(root), "leaf-folder", why, "choose its parent to train several concepts", "note"))
    subset, more = read_subset(root, repeats, name, extension, regularisation=regularisation)
    return [subset], problems + more


def _no_repeats(path: Path) -> Problem:
    why = "its name does not begin with the repeats, so it is not trained on"
    return Problem(str(path), "no-repeats", why, f"rename it, for instance to 1_{path.name}")


def _holds(folder: Path) -> bool:
    try:
        return any(_is_picture(path) for path in folder.iterdir())
    except OSError:
        return False


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS and path.is_file()


def _shared_stems(paths: list[Path]) -> list[Problem]:
    """``a.png`` and ``a.jpg`` share ``a.txt``."""
    stems: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        stems[path.stem].append(path)
    return [
        Problem(str(same[1]), "shared-caption", f"it shares its caption file with {same[0].name}", "rename one of them")
        for same in stems.values()
        if len(same) > 1
    ]
