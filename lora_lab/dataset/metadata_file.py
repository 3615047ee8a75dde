"""Pictures by a metadata file of kohya's fine-tuning scripts (``in_json``, ``metadata_file``). No torch.

JSON: ``{"path or stem": {"caption": ..., "tags": ...}}``; JSONL: lines ``{"image_path": ..., "caption": ...}``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lora_lab.dataset.folders import THREADS, Picture
from lora_lab.dataset.kohya_json import MAX_BYTES, read_entries
from lora_lab.dataset.options import DatasetOptions
from lora_lab.dataset.pictures import EXTENSIONS, read_header
from lora_lab.dataset.problems import Problem, told
from lora_lab.errors import DatasetError


def read_pictures(file: Path, folder: Path | None, options: DatasetOptions) -> tuple[list[Picture], list[Problem]]:
    """The pictures that a metadata file names, with their captions; those that are missing or broken are named.

    Args:
        file: JSON or JSONL.
        folder: where relative paths begin.
        options: the separator between caption and tags, and whether a caption has several lines.

    Raises:
        DatasetError: the file cannot be read, or a relative path has no folder to begin from.
    """
    entries = _lines(file) if file.suffix.lower() == ".jsonl" else read_entries(file)
    paths = [_picture_path(key, folder, file) for key in entries]
    with ThreadPoolExecutor(THREADS) as pool:
        headers = list(pool.map(_header, paths))
    pictures, problems = [], []
    for path, header, entry in zip(paths, headers, entries.values(), strict=True):
        if isinstance(header, Problem):
            problems.append(header)
            continue
        caption = caption_of(entry, options, file)
        pictures.append(Picture(path, header.size, caption, bool(caption), header.has_alpha))
    if not pictures:
        why = "no picture that it names can be used"
        problems.append(Problem(told(file), "empty-subset", why, "check image_dir and the file", "error"))
    return pictures, problems


def named(file: Path, folder: Path | None) -> list[Path]:
    """The paths of the pictures that a metadata file names; none of them is opened.

    Raises:
        DatasetError: as `read_pictures`.
    """
    entries = _lines(file) if file.suffix.lower() == ".jsonl" else read_entries(file)
    return [_picture_path(key, folder, file) for key in entries]


def caption_of(entry: Mapping[str, Any], options: DatasetOptions, file: Path) -> str:
    """Caption, separator, tags, as kohya joins them; with enable_wildcard the tags follow each line.

    Raises:
        DatasetError: one of them is no text.
    """
    caption, tags = entry.get("caption") or "", entry.get("tags") or ""
    comma = options.caption_separator
    if isinstance(tags, list):
        tags = f"{comma} ".join(map(str, tags))
    if not isinstance(caption, str) or not isinstance(tags, str):
        raise DatasetError("a caption of the metadata is no text", file=file, remedy="make the file again")
    tags = tags.replace("\n", comma)
    if not options.enable_wildcard:
        return comma.join(part for part in (caption, tags) if part)
    lines = [line for line in caption.split("\n") if line.strip()] or [""]
    return "\n".join(comma.join(part for part in (line, tags) if part) for line in lines)


def _lines(file: Path) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    try:
        if file.stat().st_size > MAX_BYTES:
            raise OSError
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError("the metadata cannot be read", file=file, remedy="check its name and rights") from error
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            found[entry["image_path"]] = entry
        except (ValueError, RecursionError, KeyError, TypeError) as error:
            what = f"line {number} of the metadata is no object with an image_path"
            raise DatasetError(what, file=file, remedy="make the file again") from error
    return found


def _picture_path(key: str, folder: Path | None, file: Path) -> Path:
    """The picture that a key means; one without an ending is looked for with each."""
    path = Path(key)
    if not path.is_absolute():
        if folder is None:
            what = f"{key!r} is a relative path"
            raise DatasetError(what, file=file, remedy="set image_dir to the folder that it begins from")
        path = folder / path
    if path.suffix.lower() in EXTENSIONS:
        return path
    beside = (path.with_name(path.name + ending) for ending in sorted(EXTENSIONS))
    return next((other for other in beside if other.is_file()), path)


def _header(path: Path) -> Any:  # noqa: ANN401 - Header or Problem
    if not path.is_file():
        return Problem(told(path), "gone", "the metadata names it, and it is not there", "put it back", "error")
    return read_header(path)
