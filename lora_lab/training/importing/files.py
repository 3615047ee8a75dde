"""Any file with settings in it: told apart by its content, read by the reader it needs."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lora_lab.errors import SettingsError
from lora_lab.training.importing import gui, kohya, lora_file, script
from lora_lab.training.importing.found import MayLook, Reading, SettingsFile, always
from lora_lab.training.importing.options import OPTIONS
from lora_lab.training.settings import TrainSettings
from lora_lab.training.settings.stages import to_lines

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

parse_toml = tomllib.loads

MARK = "lora_lab"
"""Key that says a file is ours, with the version of its format as value."""
FORMAT = 1
PRESET = "lora_lab_preset"
"""Key that says a file of ours is a preset: without dataset and names."""

SCRIPTS = (".sh", ".bash", ".ps1", ".bat", ".cmd")
ENDINGS = (".json", ".toml", ".safetensors", ".txt", *SCRIPTS)
"""What the tab offers to choose."""

LARGEST = 4_000_000
"""Bytes; no settings file comes near, and a checkpoint with a wrong ending is not read whole."""

SIGNS = frozenset({"pretrained_model_name_or_path", "network_module", "network_args"})
"""Options that say a file is kohya's, whatever settings there are here."""


def read(path: Path, may_look: MayLook = always) -> SettingsFile:
    """Read a file of settings: ours, kohya's TOML, kohya_ss' JSON, a launch script, or a LoRA's metadata.

    Args:
        path: of the file.
        may_look: may a path that the file names be opened (prompts, the folder of pictures)?

    Raises:
        SettingsError: no such file, nothing that can be read, an unknown key in a file of ours.
    """
    try:
        if path.suffix.lower() == ".safetensors":
            return kohya.take(lora_file.read(path))
        text = _text(path)
        if _is_script(path, text):
            folder = path.parent if may_look(path.parent) else None
            reading = script.read(text, path.suffix, folder=folder, load=load_toml)
            reading.may_look = may_look
            return kohya.take(reading)
        return from_values(_parse(text, path), may_look, path)
    except SettingsError as error:
        raise SettingsError(error.what, file=error.file or path, remedy=error.remedy) from error


def from_values(values: Mapping[str, Any], may_look: MayLook = always, path: Path | None = None) -> SettingsFile:
    """As `read`, from the parsed content of a TOML or JSON.

    A file of ours is strict: an unknown key is refused. One that has an option only kohya's scripts have, or
    sections, is theirs: sections are flattened, and keys without a setting are listed.
    """
    if MARK in values and values[MARK] != FORMAT:
        what = f"the file's format is {values[MARK]!r}, this version reads {FORMAT}"
        raise SettingsError(what, remedy="update LoRA Lab")
    if isinstance(values.get("stages"), list):
        values = {**values, "stages": to_lines(values["stages"])}
    if MARK in values:
        flat = {name: value for name, value in values.items() if name not in (MARK, PRESET)}
        return SettingsFile(TrainSettings.from_mapping(flat), tuple(flat), preset=PRESET in values)
    if gui.is_gui(values):
        return kohya.take(gui.read(values, Reading(may_look=may_look)))
    if isinstance(values.get("datasets"), list):
        return _dataset_config(path)
    flat = flatten(values)
    if not _is_kohyas(values, flat):
        return SettingsFile(TrainSettings.from_mapping(flat), tuple(flat))
    return kohya.take(Reading(flat, origin="kohya's options (TOML)", may_look=may_look))


def _is_kohyas(values: Mapping[str, Any], flat: Mapping[str, Any]) -> bool:
    sections = any(isinstance(value, Mapping) for value in values.values())
    theirs = (OPTIONS.keys() - kohya.names().keys()) | SIGNS
    return bool(theirs & flat.keys()) or (sections and bool(OPTIONS.keys() & flat.keys()))


def _dataset_config(path: Path | None) -> SettingsFile:
    """kohya's description of datasets by itself: it becomes the setting that names such a file."""
    if "dataset_config" not in kohya.names() or path is None:
        what = "this is a dataset_config, which describes pictures only"
        raise SettingsError(what, remedy="load the file with the training's settings, which names this one")
    settings = TrainSettings.from_mapping({"dataset_config": str(path)})
    return SettingsFile(settings, ("dataset_config",), origin="a dataset_config of kohya's")


def _text(path: Path) -> str:
    """The file's text: UTF-8, UTF-16 (PowerShell writes that), or Windows' old one."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise SettingsError("the settings file cannot be read", file=path, remedy="check the path") from error
    if len(data) > LARGEST:
        raise SettingsError("the file is too large for settings", file=path, remedy="choose the settings themselves")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if path.suffix.lower() in (".json", ".toml"):
            raise _broken(path, error) from error
        return data.decode("cp1252", errors="replace")


def _is_script(path: Path, text: str) -> bool:
    """By the ending; another file is a script when an option of the trainer stands in it as one does there."""
    suffix = path.suffix.lower()
    if suffix in SCRIPTS or suffix in (".json", ".toml"):
        return suffix in SCRIPTS
    return re.search(r"(?:^|\s)--[a-z]\w+", text) is not None and not text.lstrip().startswith("{")


def _parse(text: str, path: Path) -> dict[str, Any]:
    is_json = path.suffix.lower() == ".json" or text.lstrip().startswith("{")
    try:
        values = json.loads(text) if is_json else parse_toml(text)
    except (ValueError, RecursionError) as error:
        raise _broken(path, error) from error
    if not isinstance(values, dict) or not values:
        raise SettingsError("the settings file holds no names and values", file=path)
    return values


def _broken(path: Path, error: Exception) -> SettingsError:
    reason = re.sub(r"\s+", " ", str(error))[:200]
    return SettingsError(f"the settings file is no valid TOML or JSON, {reason}", file=path)


def load_toml(path: Path) -> dict[str, Any]:
    """The flattened content of a TOML that a script names."""
    return flatten(_parse(_text(path), path.with_suffix(".toml")))


def flatten(values: Mapping[str, Any]) -> dict[str, Any]:
    """kohya's way: a section's name means nothing, its keys count."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        inner = flatten(value) if isinstance(value, Mapping) else {str(name): value}
        for key, item in inner.items():
            if key in flat:
                raise SettingsError(f"{key} is given twice", remedy="leave one of them out")
            flat[key] = item
    return flat
