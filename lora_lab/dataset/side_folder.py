"""Pictures put aside and brought back: nothing of a dataset is ever deleted.

They go to ``.aside`` in the dataset's folder, in a folder named as theirs, together with their captions. Names that
begin with a dot are passed over by the check and by every trainer.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from lora_lab.dataset.caption_files import ENDINGS
from lora_lab.dataset.options import PICTURE_ENDINGS
from lora_lab.dataset.problems import told
from lora_lab.errors import DatasetError, OutputError

ASIDE = ".aside"


def put_aside(root: Path, pictures: Iterable[Path]) -> list[Path]:
    """Move pictures and their captions out of the way; all of them, or none.

    Args:
        root: the dataset's folder.
        pictures: below it.

    Returns:
        Where the pictures are now.

    Raises:
        DatasetError: a picture is not in the dataset, or gone.
        OutputError: a file of that name is aside already, or a folder cannot be written to.
    """
    return _move(root, [(p, root / ASIDE / _inside(root, p)) for p in pictures])


def bring_back(root: Path, pictures: Iterable[Path]) -> list[Path]:
    """The way back, to where they were.

    Raises:
        DatasetError: a picture is not aside, or gone.
        OutputError: a file of that name is there by now, or a folder cannot be written to.
    """
    return _move(root, [(p, root / _inside(root / ASIDE, p)) for p in pictures])


def aside(root: Path) -> list[Path]:
    """The pictures that were put aside, sorted."""
    found = (p for p in (root / ASIDE).rglob("*") if p.suffix.lower() in PICTURE_ENDINGS and p.is_file())
    return sorted(found)


def _inside(root: Path, picture: Path) -> Path:
    try:
        inside = picture.relative_to(root)
    except ValueError:
        remedy = "choose a picture of this dataset"
        raise DatasetError("the picture is not in this folder", file=told(picture), remedy=remedy) from None
    if not picture.is_file() or ".." in inside.parts:
        raise DatasetError("the picture is gone", file=told(picture), remedy="check the dataset again")
    return inside


def _move(root: Path, pairs: Sequence[tuple[Path, Path]]) -> list[Path]:
    """Pictures with their captions, by renaming; a failure takes all back."""
    every = [pair for old, new in pairs for pair in _with_captions(old, new)]
    taken = next((new for _, new in every if new.exists()), None)
    if taken is not None:
        raise OutputError("a file of that name is there already", file=told(taken), remedy="rename one of the two")
    done: list[tuple[Path, Path]] = []
    try:
        for old, new in every:
            new.parent.mkdir(parents=True, exist_ok=True)
            os.rename(old, new)
            done.append((old, new))
    except OSError as error:
        for old, new in reversed(done):
            with suppress(OSError):
                os.rename(new, old)
        what = f"the picture cannot be moved ({error.strerror})"
        raise OutputError(what, file=told(root), remedy="check the rights of the folder") from error
    for folder in sorted({old.parent for old, _ in every}, reverse=True):
        if ASIDE in folder.parts:
            with suppress(OSError):
                folder.rmdir()  # only when it is empty
    return [new for _, new in pairs]


def _with_captions(old: Path, new: Path) -> list[tuple[Path, Path]]:
    """A caption goes along, unless another picture of the same stem stays with it."""
    mates = [p for p in old.parent.glob(f"{_plain(old.stem)}.*") if p != old and p.suffix.lower() in PICTURE_ENDINGS]
    captions = [] if mates else [old.with_name(old.stem + ending) for ending in ENDINGS]
    return [(old, new), *((c, new.with_name(c.name)) for c in captions if c.is_file())]


def _plain(stem: str) -> str:
    """A name as a pattern that means just it."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in stem)
