"""Settings in files: our TOML and JSON are written here; what else is read is told in `importing`. No torch here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lora_lab.errors import OutputError
from lora_lab.training.importing.files import FORMAT, MARK, from_values, read
from lora_lab.training.importing.found import SettingsFile
from lora_lab.training.settings import TrainSettings

__all__ = ["SettingsFile", "from_values", "read", "to_json", "to_toml", "toml_value", "write", "write_text"]


def write(settings: TrainSettings, path: Path) -> None:
    """Write our TOML or JSON (by the ending), whole or not at all.

    Raises:
        OutputError: the place cannot be written to.
    """
    values = {name: value for name, value in settings.to_mapping().items() if value is not None}
    write_text(to_json(values) if path.suffix.lower() == ".json" else to_toml(values), path)


def write_text(text: str, path: Path) -> None:
    """A text file, whole or not at all; its folder is made.

    Raises:
        OutputError: the place cannot be written to.
    """
    partial = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8", newline="\n")
        partial.replace(path)
    except OSError as error:
        raise OutputError(f"the settings cannot be written, {error.strerror}", file=path) from error
    except UnicodeError as error:
        remedy = "take the broken character out"
        raise OutputError("a setting holds a character that is none", file=path, remedy=remedy) from error


def to_toml(values: Mapping[str, Any]) -> str:
    """Flat TOML with our mark on top."""
    lines = [f"{MARK} = {FORMAT}", *(f"{name} = {toml_value(value)}" for name, value in values.items())]
    return "\n".join(lines) + "\n"


def to_json(values: Mapping[str, Any]) -> str:
    """JSON with our mark on top."""
    return json.dumps({MARK: FORMAT, **values}, ensure_ascii=False, indent=1) + "\n"


def toml_value(value: Any) -> str:  # noqa: ANN401 - a plain value
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are TOML's too, except that TOML wants DEL escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml_value(v) for v in value) + "]"
    return repr(value)

