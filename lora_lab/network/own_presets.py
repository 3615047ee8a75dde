"""A person's own named block weights, in one file of ours: a list of name, weights and note. No torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lora_lab.errors import SettingsError
from lora_lab.families import Family
from lora_lab.network.presets import DEFAULTS, Preset, by_name, read_file
from lora_lab.whole_file import write_whole

FILE = "block_presets.json"
"""In our data folder."""
FOREIGN = "lbwpresets.txt"
"""sd-webui-lora-block-weight's file; a copy of it in our data folder is read as well."""
LARGEST = 1 << 20
"""Bytes: a larger file is none of ours."""


def all_presets(data_dir: Path) -> tuple[Preset, ...]:
    """Those that everybody has, those of a `FOREIGN` file, and a person's own; of one name the last counts.

    Raises:
        SettingsError: a file is damaged.
    """
    foreign = data_dir / FOREIGN
    return (*DEFAULTS, *(read_file(foreign) if foreign.is_file() else ()), *load(data_dir))


def load(data_dir: Path) -> tuple[Preset, ...]:
    """A person's own; none where nothing was saved.

    Raises:
        SettingsError: the file is damaged.
    """
    path = data_dir / FILE
    if not path.is_file():
        return ()
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError("too large")
        return tuple(_preset(row) for row in json.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        what = "the list of your block presets is damaged"
        raise SettingsError(what, file=path, remedy="mend it, or move it away to begin anew") from error


def save(preset: Preset, data_dir: Path) -> None:
    """Add a preset, or change the one of its name.

    Raises:
        SettingsError: no name, one that means something else, or weights that no family of the preset can read.
        OutputError: it cannot be written.
    """
    name = preset.name.strip()
    if not name or any(letter in name for letter in ",:<>=#|\n\r"):
        raise SettingsError(f"a preset cannot be named {name!r}", remedy="use letters, digits, blanks and -")
    if by_name(name) is not None:
        raise SettingsError(f"{name} is a preset that everybody has", remedy="choose another name")
    for family in preset.families:
        preset.blocks(family)
    others = [one for one in load(data_dir) if one.name.upper() != name.upper()]
    _write([*others, preset], data_dir)


def delete(name: str, data_dir: Path) -> None:
    """Forget one of the person's own.

    Raises:
        SettingsError: there is none of that name.
        OutputError: it cannot be written.
    """
    there = load(data_dir)
    left = [one for one in there if one.name.upper() != name.strip().upper()]
    if len(left) == len(there):
        raise SettingsError(f"there is no preset of yours named {name.strip()!r}", remedy="choose one of the list")
    _write(left, data_dir)


def _preset(row: dict[str, Any]) -> Preset:
    families = frozenset(Family(name) for name in row["families"])
    return Preset(str(row["name"]), str(row["weights"]), str(row.get("note", "")), families)


def _write(presets: list[Preset], data_dir: Path) -> None:
    rows = [
        {"name": p.name, "weights": p.weights, "note": p.note, "families": sorted(f.value for f in p.families)}
        for p in presets
    ]
    write_whole(data_dir / FILE, json.dumps(rows, ensure_ascii=False, indent=1), "your block presets")
