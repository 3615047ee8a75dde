"""Folders to subsets: kohya's ``<repeats>_<name>`` folders, their pictures and captions. No torch."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lora_lab.dataset.buckets import Size
from lora_lab.dataset.caption_files import caption_path, left_over, read_caption
from lora_lab.dataset.options import DatasetOptions
from lora_lab.dataset.pictures import EXTENSIONS, OTHER_PICTURES, Header, read_header
from lora_lab.dataset.problems import Problem, told
from lora_lab.errors import DatasetError

THREADS = min(8, 2 * (os.cpu_count() or 1))
HELD_OUT = frozenset({"validation", "val", "test"})
"""Folders that nobody means to train on."""


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
    mask: Path | None = None
    """The picture that says which parts count, where there is one."""


@dataclass(frozen=True)
class Subset:
    """The pictures of one folder, each counted `repeats` times in an epoch."""

    folder: Path
    name: str
    """What follows the repeats in the folder's name: kohya's class tokens, the caption of pictures without one."""
    repeats: int
    pictures: tuple[Picture, ...]
    regularisation: bool = False
    options: DatasetOptions = DatasetOptions()
    """Of these pictures; subsets of one run may differ."""
    dataset: int = 0
    """Batches never mix subsets of two datasets."""
    loss_weight: float = 1.0
    metadata: Path | None = None
    """The file that holds the captions, where they have no files of their own."""

    @property
    def label(self) -> str:
        """How a LoRA file names it."""
        return (self.metadata or self.folder).name


def read_root(root: Path, extension: str, *, regularisation: bool = False) -> tuple[list[Subset], list[Problem]]:
    """All subsets below a dataset's folder, and what is wrong with them.

    A folder that holds pictures itself, and no ``<repeats>_<name>`` folder, is one subset with 1 repeat. Names that
    begin with a dot are passed over, as by kohya's scripts.

    Args:
        root: the parent of the ``<repeats>_<name>`` folders.
        extension: of the caption files, with its dot.

    Raises:
        DatasetError: there is no such folder, or it cannot be read.
    """
    try:
        there = root.is_dir()
    except (OSError, ValueError):  # a name that no file system takes
        there = False
    if not there:
        raise DatasetError("there is no such folder", file=root, remedy="choose the folder that holds your pictures")
    try:
        entries = _entries(root)
    except OSError as error:
        what = f"the folder cannot be read ({error.strerror})"
        raise DatasetError(what, file=root, remedy="check its rights") from error
    folders = [path for path in entries if path.is_dir()]
    named = [(path, *found) for path in folders if (found := parse_name(path.name))]
    problems = [_unnamed(path) for path in folders if not parse_name(path.name) and _holds(path)]
    stray = any(_is_picture(path) for path in entries)
    if not named:
        subsets, more = _leaf(root, extension, regularisation) if stray else ([], [])
        if not stray and not problems:
            more = [_empty(root)]
        return subsets, problems + more
    if stray:
        why = "pictures beside the <repeats>_<name> folders are not trained on"
        problems.append(Problem(told(root), "stray-pictures", why, "move them into one of the folders"))
    subsets = []
    for path, repeats, name in named:
        subset, more = read_subset(path, repeats, name, extension, regularisation=regularisation)
        subsets.append(subset)
        problems += more
    return subsets, problems


def parse_name(folder: str) -> tuple[int, str] | None:
    """``10_mika dress`` to (10, "mika dress"); None where there are no repeats, or fewer than 1."""
    found = re.fullmatch(r"([0-9]{1,6})_(.+)", folder, re.DOTALL)
    return (int(found[1]), found[2].strip()) if found and int(found[1]) >= 1 else None


def read_subset(
    folder: Path, repeats: int, name: str, extension: str, *, regularisation: bool = False
) -> tuple[Subset, list[Problem]]:
    """The pictures of one folder with their captions; broken ones are left out and named."""
    try:
        entries = _entries(folder)
    except OSError as error:
        why = f"the folder cannot be read ({error.strerror})"
        problem = Problem(told(folder), "unreadable-folder", why, "check its rights", "error")
        return Subset(folder, name, repeats, (), regularisation), [problem]
    files = [path for path in entries if path.is_file()]
    paths = [path for path in files if path.suffix.lower() in EXTENSIONS]
    problems = _odd(entries, files) + _shared_stems(paths) + left_over(files, paths, extension)
    with ThreadPoolExecutor(THREADS) as pool:
        headers = list(pool.map(read_header, paths))
    pictures = []
    for path, header in zip(paths, headers, strict=True):
        if isinstance(header, Problem):
            problems.append(header)
            continue
        picture, found = _picture(path, header, name, extension)
        pictures.append(picture)
        problems += found
    if not pictures:
        why = "no picture in it can be used"
        problems.append(Problem(told(folder), "empty-subset", why, "put png, jpg or webp pictures into it", "error"))
    return Subset(folder, name, repeats, tuple(pictures), regularisation), problems


def _picture(path: Path, header: Header, name: str, extension: str) -> tuple[Picture, list[Problem]]:
    text, problems = read_caption(caption_path(path, extension))
    return Picture(path, header.size, name if text is None else text, text is not None, header.has_alpha), problems


def _entries(folder: Path) -> list[Path]:
    """What is in a folder, sorted; names that begin with a dot are not looked at (macOS writes ``._a.png``)."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _leaf(root: Path, extension: str, regularisation: bool) -> tuple[list[Subset], list[Problem]]:
    """A folder that holds pictures itself is one subset."""
    repeats, name = parse_name(root.name) or (1, root.name)
    times = "1 repeat" if repeats == 1 else f"{repeats} repeats"
    why = f"it holds pictures itself: taken as one concept '{name}' with {times}"
    leaf = Problem(told(root), "leaf-folder", why, "choose its parent to train several concepts", "note")
    subset, more = read_subset(root, repeats, name, extension, regularisation=regularisation)
    # Folders beside the pictures were named already, for what they lack.
    return [subset], [leaf, *(p for p in more if p.rule != "nested-folder")]


def _unnamed(path: Path) -> Problem:
    if path.name.lower() in HELD_OUT:
        why = "it looks like held-out pictures, and is not trained on"
        return Problem(told(path), "held-out", why, "set validation_data_dir to it to measure with them", "note")
    why = "its name does not begin with the repeats, so it is not trained on"
    if re.match(r"[-+]?[0-9.]+_", path.name):
        why = "its repeats are no whole number above 0, so it is not trained on"
    words = re.sub(r"^[-+]?[0-9.]+_", "", path.name) or "name"
    return Problem(told(path), "no-repeats", why, f"rename it, for instance to 1_{words}", "error")


def _empty(root: Path) -> Problem:
    remedy = "choose the folder that holds <repeats>_<name> folders"
    return Problem(told(root), "empty", "there is no picture in it", remedy, "error")


def _odd(entries: list[Path], files: list[Path]) -> list[Problem]:
    """Pictures of kinds that are not read, and pictures one folder too deep."""
    problems = [
        Problem(told(path), "unknown-format", f"{path.suffix} pictures are not trained on", "save it as a PNG", "error")
        for path in files
        if path.suffix.lower() in OTHER_PICTURES
    ]
    deeper = [path for path in entries if path.is_dir() and _holds(path)]
    why = "pictures in a folder within a concept's folder are not trained on"
    return problems + [Problem(told(path), "nested-folder", why, "move them one folder up") for path in deeper]


def _holds(folder: Path) -> bool:
    try:
        return any(_is_picture(path) for path in _entries(folder))
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
        Problem(told(other), "shared-caption", f"it shares its caption file with {same[0].name}", "rename one of them")
        for same in stems.values()
        for other in same[1:]
    ]
