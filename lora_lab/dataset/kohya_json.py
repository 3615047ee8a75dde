"""kohya's metadata files (``in_json``): captions and tags of pictures in one JSON object.

    {"stem or path": {"caption": "a girl on a hill", "tags": "mika, 1girl", "train_resolution": [512, 768]}}

Training joins caption and tags. Tags are a text in kohya's scripts and a list in other programs; both are read. What
else an entry holds (sizes of cached latents) is kept when a file is written again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lora_lab.dataset.problems import told
from lora_lab.errors import DatasetError, OutputError
from lora_lab.whole_file import write_whole

MAX_BYTES = 500_000_000
"""A million pictures still fit."""
Entries = Mapping[str, Mapping[str, Any]]


def read_entries(path: Path) -> Entries:
    """A metadata file.

    Raises:
        DatasetError: it cannot be read, or is no such file.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DatasetError("it is too large for a metadata file", file=path, remedy="choose another file")
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        what = f"the metadata cannot be read ({error.strerror})"
        raise DatasetError(what, file=path, remedy="check its name and rights") from error
    except (ValueError, RecursionError) as error:
        raise DatasetError("the metadata is no JSON", file=path, remedy="make it again") from error
    if not isinstance(values, dict) or not all(isinstance(entry, dict) for entry in values.values()):
        remedy = "it has an object for each picture: {stem or path: {caption, tags}}"
        raise DatasetError("this is no metadata of kohya's scripts", file=path, remedy=remedy)
    return values


def caption_of(entry: Mapping[str, Any], path: Path) -> str:
    """What training reads of an entry: its caption, then its tags.

    Raises:
        DatasetError: one of them is no text.
    """
    caption, tags = entry.get("caption", ""), entry.get("tags", "")
    if isinstance(tags, list) and all(isinstance(tag, str) for tag in tags):
        tags = ", ".join(tags)
    if not isinstance(caption, str) or not isinstance(tags, str):
        raise DatasetError("a caption of the metadata is no text", file=path, remedy="make the file again")
    return ", ".join(part for part in (" ".join(caption.split()), " ".join(tags.split())) if part)


def captions_of(path: Path, pictures: Sequence[Path], root: Path) -> tuple[dict[Path, str], list[str]]:
    """The captions that a metadata file has for pictures, and its keys that are none of theirs.

    A key is a path, whole or from the dataset's folder on, with or without ending, or a stem; a stem that several
    pictures have is not taken, since it does not say which.

    Raises:
        DatasetError: see `read_entries`.
    """
    entries = read_entries(path)
    keys: dict[str, set[Path]] = {}
    for picture in pictures:
        inside = picture.relative_to(root)
        for name in (picture, inside):
            keys.setdefault(_key(name), set()).add(picture)
            keys.setdefault(_key(name.with_suffix("")), set()).add(picture)
        keys.setdefault(picture.stem, set()).add(picture)
        keys.setdefault(picture.name, set()).add(picture)
    found: dict[Path, str] = {}
    unknown = []
    for key, entry in entries.items():
        meant = keys.get(_key(Path(key)), set())
        if len({picture.with_suffix("") for picture in meant}) != 1:
            unknown.append(key)
            continue
        found.update(dict.fromkeys(meant, caption_of(entry, path)))
    return found, unknown


def write_entries(
    path: Path, captions: Mapping[Path, str], *, full_path: bool | None = None, replace: bool = False
) -> int:
    """Write captions as a metadata file, whole or not at all; returns the number of entries with a caption.

    Args:
        path: the file. Entries of a file that is replaced keep what is not a caption, and those of other pictures stay.
        captions: picture -> caption.
        full_path: keys are whole paths; None: only where two pictures have one stem.
        replace: may a file that is there already be replaced?

    Raises:
        OutputError: it is there already, or cannot be written.
        DatasetError: the file to replace is no metadata.
    """
    old: Entries = {}
    if path.exists():
        if not replace:
            raise OutputError("there is a file of this name already", file=path, remedy="choose another name")
        old = read_entries(path)
    if full_path is None:
        full_path = len({picture.stem for picture in captions}) < len(captions)
    entries = dict(old)
    for picture, caption in captions.items():
        key = told(picture) if full_path else told(Path(picture.stem))
        entries[key] = _updated(old.get(key, {}), caption)
    write_whole(path, json.dumps(entries, indent=2, ensure_ascii=False) + "\n", "the metadata", make_folder=False)
    return sum(1 for caption in captions.values() if caption)


def _updated(entry: Mapping[str, Any], caption: str) -> dict[str, Any]:
    """An entry with new words: its own caption stays apart where ours begins with it."""
    rest = {name: value for name, value in entry.items() if name not in ("caption", "tags")}
    prose = entry.get("caption")
    if isinstance(prose, str) and prose and (caption == prose or caption.startswith(f"{prose}, ")):
        return {"caption": prose, "tags": caption[len(prose) :].lstrip(", "), **rest}
    return {"tags": caption, **rest}


def _key(path: Path) -> str:
    """Paths of Windows and Linux alike."""
    return os.path.normcase(str(path)).replace("\\", "/")
