"""Presets: settings under a name, without the dataset and without names, to be used again and given to others.

A preset is a settings file of ours in ``<data folder>/presets``, marked as one; whoever is given the file puts it
there, or loads it like any other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lora_lab.errors import OutputError, SettingsError
from lora_lab.training.checks.output import check_name
from lora_lab.training.importing.files import FORMAT, MARK, PRESET
from lora_lab.training.importing.found import SettingsFile
from lora_lab.training.settings import TrainSettings, settings_file

FOLDER = "presets"
"""Of our data folder."""
ENDING = ".json"

OWN = frozenset((
    "output_name", "training_comment", "sample_prompts", "dataset_config", "network_weights", "base_weights", "resume",
    "vae", "in_json", "loss_weights",
))  # fmt: skip
"""Settings that belong to one training, besides all folders: a preset has none of them."""


def in_preset(name: str) -> bool:
    """Is this setting part of a preset?"""
    return name not in OWN and TrainSettings.spec(name).kind != "folder"


def names(data_dir: Path) -> list[str]:
    """The presets there are, sorted."""
    try:
        found = [path.stem for path in (data_dir / FOLDER).iterdir() if path.suffix == ENDING and path.is_file()]
    except OSError:
        return []
    return sorted(found, key=str.lower)


def save(settings: TrainSettings, name: str, data_dir: Path, *, force: bool = False) -> Path:
    """Keep settings as a preset.

    Raises:
        SettingsError: `name` is no file name.
        OutputError: there is a preset of that name and `force` is not set, or the folder cannot be written to.
    """
    path = place(name, data_dir)
    if path.exists() and not force:
        raise OutputError("there is a preset of that name", file=path, remedy="choose another name, or delete it first")
    values = {n: v for n, v in settings.to_mapping().items() if in_preset(n) and v is not None}
    text = json.dumps({MARK: FORMAT, PRESET: name.strip(), **values}, ensure_ascii=False, indent=1) + "\n"
    settings_file.write_text(text, path)
    return path


def load(name: str, data_dir: Path) -> SettingsFile:
    """A preset by its name, or by the path of its file.

    Raises:
        SettingsError: there is none, or it cannot be read.
    """
    given = Path(name)
    if given.suffix.lower() == ENDING and given.is_file():
        return settings_file.read(given)
    path = place(name, data_dir)
    if not path.is_file():
        known = names(data_dir)
        remedy = f"there are {', '.join(known[:20])}" if known else "save one first"
        raise SettingsError(f"there is no preset {name!r}", file=path.parent, remedy=remedy)
    return settings_file.read(path)


def delete(name: str, data_dir: Path) -> None:
    """Delete a preset.

    Raises:
        SettingsError: there is none of that name.
        OutputError: it cannot be deleted.
    """
    path = place(name, data_dir)
    try:
        path.unlink()
    except FileNotFoundError as error:
        raise SettingsError(f"there is no preset {name!r}", remedy="choose another one") from error
    except OSError as error:
        raise OutputError(f"the preset cannot be deleted, {error.strerror}", file=path) from error


def over(settings: TrainSettings, preset: SettingsFile, but: Iterable[str] = ()) -> TrainSettings:
    """`settings` with what the preset says, but for dataset, names, and the settings called `but`."""
    keep = frozenset(but)
    changes: dict[str, Any] = {
        spec.name: getattr(preset.settings, spec.name)
        for spec in TrainSettings.specs()
        if in_preset(spec.name) and spec.name not in keep
    }
    return TrainSettings(**{**{s.name: getattr(settings, s.name) for s in TrainSettings.specs()}, **changes})


def place(name: str, data_dir: Path) -> Path:
    """The file of a preset.

    Raises:
        SettingsError: the name is no file name.
    """
    plain = name.strip()
    try:
        check_name(plain or ".")
    except SettingsError as error:
        raise SettingsError(f"a preset cannot be called {plain!r}", remedy=error.remedy) from error
    return data_dir / FOLDER / f"{plain}{ENDING}"
