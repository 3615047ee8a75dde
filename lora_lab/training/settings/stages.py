"""Stages, several runs that each go on with the LoRA of the one before: how they are written. `chain` starts them.

In a settings file of ours they are tables, in the form they are lines; both say only what differs:

    [[stages]]                              max_train_epochs=4 unet_lr=1e-4
    max_train_epochs = 4                    max_train_epochs=2 unet_lr=2e-5 train_data_dir="my best pictures"
    unet_lr = 1e-4

A value with blanks stands in quotation marks as JSON has them, a list in brackets; a line of - alone changes nothing.
No torch here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from lora_lab.errors import SettingsError
from lora_lab.training.settings import TrainSettings

FIXED = re.compile(r"stages|network_weights|dim_from_weights|network_module|algo|.*(dim|alpha)s?")
"""Settings that all stages share: the adapter's kind and size, and what leads from one to the next."""
NOTHING = "-"
"""The line of a stage that changes nothing."""
_NAME = re.compile(r"\s*(\w+)\s*=\s*")


def parse_line(line: str) -> dict[str, Any]:
    """The settings of one line.

    Raises:
        SettingsError: something that is no name=value.
    """
    values: dict[str, Any] = {}
    place = 0
    while line[place:].strip():
        found = _NAME.match(line, place)
        if found is None:
            what = f"stages holds {line[place:].strip()[:40]!r}"
            raise SettingsError(what, remedy="write name=value, such as max_train_epochs=4 unet_lr=5e-5")
        if found[1] in values:
            raise SettingsError(f"stages gives {found[1]} twice in a line", remedy="leave one of them out")
        values[found[1]], place = _value(line, found.end())
    return values


def _value(line: str, place: int) -> tuple[Any, int]:
    """The value that begins at `place`, and where it ends."""
    if line[place : place + 1] in ('"', "["):
        try:
            return json.JSONDecoder().raw_decode(line, place)
        except (ValueError, RecursionError):
            what = f"stages holds {line[place:][:40]!r}, which does not end"
            raise SettingsError(what, remedy='close the quotation mark or the bracket, as in "my pictures"') from None
    end = next((i for i in range(place, len(line)) if line[i].isspace()), len(line))
    return line[place:end], end


def to_lines(tables: Iterable[Any]) -> str:
    """Tables of a settings file as lines.

    Raises:
        SettingsError: one that is no table, or holds more than names and values.
    """
    lines = []
    for table in tables:
        if not isinstance(table, Mapping) or any(isinstance(value, Mapping) for value in table.values()):
            raise SettingsError("stages is no list of tables", remedy="write each as [[stages]] with names and values")
        lines.append(" ".join(f"{name}={_written(value)}" for name, value in table.items()) or NOTHING)
    return "\n".join(lines)


def _written(value: Any) -> str:  # noqa: ANN401 - a plain value
    if isinstance(value, bool):
        return "true" if value else "false"
    plain = not isinstance(value, (str, list)) or (isinstance(value, str) and re.fullmatch(r'[^\s"\[][^\s]*', value))
    return str(value) if plain else json.dumps(value, ensure_ascii=False)


def expand(settings: TrainSettings) -> tuple[TrainSettings, ...]:
    """The settings of each stage; from the second on `network_weights` is still that of the first.

    Raises:
        SettingsError: a line that cannot be read, an unknown or shared setting, a name given to two stages.
    """
    lines = [line.strip() for line in settings.stages.splitlines() if line.strip()]
    changes = [{} if line == NOTHING else parse_line(line) for line in lines]
    found = tuple(_stage(settings, number, values) for number, values in enumerate(changes, 1))
    names = [stage.output_name for stage in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise SettingsError(f"two stages have the output_name {twice}", remedy="give each its own, or none")
    return found


def _stage(settings: TrainSettings, number: int, changes: Mapping[str, Any]) -> TrainSettings:
    """All settings of stage `number` (1-based)."""
    named = {TrainSettings.spec(name).name: value for name, value in changes.items()}
    fixed = next((name for name in named if FIXED.fullmatch(name)), None)
    if fixed is not None:
        what = f"a stage changes {fixed}, which all stages share"
        raise SettingsError(what, remedy=f"set {fixed} above the stages")
    if "max_train_steps" in named:
        named.setdefault("max_train_epochs", None)
    named.setdefault("output_name", f"{settings.output_name}-stage{number}" if settings.output_name else "")
    return settings.replace(**named, stages="")
