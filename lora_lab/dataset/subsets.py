"""Concept folders made and renamed: ``<repeats>_<name>``, as kohya's scripts read them."""

from __future__ import annotations

import os
from pathlib import Path

from lora_lab.dataset.folders import parse_name
from lora_lab.dataset.problems import told
from lora_lab.errors import DatasetError, OutputError

MOST_REPEATS = 10_000
FORBIDDEN = frozenset('/\\:*?"<>|\0')
"""What some system does not allow in a name."""


def folder_name(repeats: int, name: str) -> str:
    """``10_mika``.

    Raises:
        DatasetError: repeats out of 1..10,000, or a name that is empty or cannot be one.
    """
    if not 1 <= repeats <= MOST_REPEATS:
        raise DatasetError(f"repeats are {repeats}", remedy=f"give 1 to {MOST_REPEATS:,}")
    plain = " ".join(name.split())
    if not plain or FORBIDDEN & set(plain) or plain.endswith("."):
        remedy = 'give a name without any of / \\ : * ? " < > |'
        raise DatasetError(f"the concept is named {name!r}", remedy=remedy)
    return f"{repeats}_{plain}"


def create(root: Path, repeats: int, name: str) -> Path:
    """A new, empty concept; a root that is not there yet is made too.

    Raises:
        DatasetError: see `folder_name`.
        OutputError: a concept of that name is there, or the folder cannot be written to.
    """
    target = root / folder_name(repeats, name)
    if root.is_dir():
        _check_free(root, name, None)
    try:
        target.mkdir(parents=not root.exists() and root.parent.is_dir())
    except OSError as error:
        raise _failed(target, error) from error
    return target


def rename(folder: Path, repeats: int, name: str) -> Path:
    """Other repeats, or another name, for a concept. Its pictures and captions are not touched.

    Raises:
        DatasetError: see `folder_name`; or the folder is gone.
        OutputError: a concept of that name is there, or the folder cannot be renamed.
    """
    target = folder.with_name(folder_name(repeats, name))
    if not folder.is_dir():
        raise DatasetError("the concept's folder is gone", file=told(folder), remedy="check the dataset again")
    if target == folder:
        return folder
    _check_free(folder.parent, name, folder)
    try:
        os.rename(folder, target)
    except OSError as error:
        raise _failed(target, error) from error
    return target


def _check_free(root: Path, name: str, own: Path | None) -> None:
    """Two folders of one name are one concept to nobody but the trainer."""
    plain = " ".join(name.split()).casefold()
    try:
        entries = [p for p in root.iterdir() if p.is_dir() and p != own]
    except OSError as error:
        raise _failed(root, error) from error
    for other in entries:
        found = parse_name(other.name)
        if found and found[1].casefold() == plain:
            raise OutputError("there is a concept of that name", file=told(other), remedy="choose another name")


def _failed(path: Path, error: OSError) -> OutputError:
    return OutputError(f"it cannot be done ({error.strerror})", file=told(path), remedy="check the folder's rights")
