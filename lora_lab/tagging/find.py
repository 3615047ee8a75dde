"""Taggers that are on this machine: in our own folder, where other programs keep theirs, or in any chosen folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lora_lab.tagging.contracts import LISTS, MODEL, find_files
from lora_lab.tagging.known import recognise
from lora_lab.tagging.tags import TaggerError

DEPTH = 5
"""Folders below a place that are looked into: the hub's cache needs four."""
SNAPSHOTS = "snapshots"
"""In the hub's cache the folder of versions; the versions' own names mean nothing to people."""


@dataclass(frozen=True)
class FoundTagger:
    """A tagger on this machine, not opened yet."""

    name: str
    """The repository's name where it is known, else the folder's or the file's."""
    path: Path
    """What `session.Tagger` opens: a folder, or an ``.onnx`` file where several lie in one."""
    card: float | None = None
    """The threshold of its card, where it is known."""


def find_taggers(places: Iterable[Path]) -> list[FoundTagger]:
    """All taggers in and below some places, each name once: the first place wins.

    Args:
        places: folders; one that is not there, or cannot be read, is passed over.
    """
    found: dict[str, FoundTagger] = {}
    for place in places:
        for folder, models in _models(place):
            for path in [folder] if len(models) == 1 or MODEL in models else [folder / name for name in models]:
                tagger = describe(path)
                found.setdefault(tagger.name, tagger)
    return list(found.values())


def open_place(path: Path) -> FoundTagger:
    """The tagger in a folder that a person chose.

    Raises:
        TaggerError: there is none, or there are several: the sentence names them.
    """
    try:
        find_files(path)
    except TaggerError:
        below = find_taggers([path])
        if len(below) == 1:
            return below[0]
        if below:
            names = ", ".join(tagger.name for tagger in below[:5])
            raise TaggerError(f"there are {len(below)} taggers", file=path, remedy=f"choose one: {names}") from None
        raise
    return describe(path)


def describe(path: Path) -> FoundTagger:
    """Name and card of a tagger's folder or file, from the path alone."""
    known = recognise(os.fspath(path.absolute()))
    parts = path.absolute().parts
    if known is not None and any(known.name in part.lower() for part in parts[-4:]):
        return FoundTagger(known.name, path, known.card)
    name = path.stem if path.suffix.lower() == ".onnx" else parts[-1]
    if len(parts) > 2 and parts[-2] == SNAPSHOTS:
        name = parts[-3].rpartition("--")[2]
    return FoundTagger(name, path)


def hub_cache() -> Path:
    """Where huggingface_hub keeps what any program has downloaded."""
    if cache := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(cache)
    home = os.environ.get("HF_HOME")
    return (Path(home) if home else Path.home() / ".cache" / "huggingface") / "hub"


def _models(place: Path, depth: int = DEPTH) -> Iterator[tuple[Path, list[str]]]:
    """Folders with .onnx files that have a list of tags beside them; links are followed, no deeper than others."""
    try:
        entries = sorted(os.scandir(place), key=lambda entry: entry.name)
    except OSError:
        return
    files = {entry.name for entry in entries if not entry.name.startswith(".")}
    models = [name for name in sorted(files) if name.lower().endswith(".onnx") and _has_list(name, files)]
    if models:
        yield place, models
    for entry in entries:
        if depth and not entry.name.startswith(".") and _is_folder(entry):
            yield from _models(Path(entry.path), depth - 1)


def _has_list(model: str, files: set[str]) -> bool:
    return Path(model).stem + ".csv" in files or any(name in files for name in LISTS)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
