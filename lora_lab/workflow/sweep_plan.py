"""A sweep's runs: which settings take which values, and what each run is called. No torch here."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lora_lab.errors import LoraLabError, SettingsError
from lora_lab.training.settings import TrainSettings

Mode = Literal["grid", "zip"]
LIMIT = 50
"""So many runs are made unless more are asked for: a slip makes thousands."""
LONGEST = 100
"""Letters of a run's name, before they are cut."""
RANGE = re.compile(r"(?P<low>[^.].*?)\.\.(?P<high>.+?)/(?P<count>\d+)\s*(?P<log>log)?")


@dataclass(frozen=True)
class Axis:
    """A setting and the values that it takes."""

    name: str
    values: tuple[Any, ...]
    """As `TrainSettings.replace` takes them."""


@dataclass(frozen=True)
class Combination:
    """One run of a sweep."""

    name: str
    """Of the run and its LoRA: the base's name and what differs."""
    changes: dict[str, Any]
    """Setting -> value, in the order of the axes."""
    settings: TrainSettings

    @property
    def words(self) -> str:
        """What differs, for people."""
        return ", ".join(f"{name} {_short(value)}" for name, value in self.changes.items())

    @property
    def mark(self) -> str:
        """Changes with any setting: a result of other settings does not count as this run's."""
        text = json.dumps(self.settings.to_mapping(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def parse_axis(text: str) -> Axis:
    """``network_dim=8,16,32``, ``unet_lr=1e-4..5e-4/3`` (three values, evenly), ``unet_lr=1e-5..1e-3/3log``.

    Values that hold commas are parted by semicolons.

    Raises:
        SettingsError: no such setting, no value, or a range that is none.
    """
    name, sign, rest = text.partition("=")
    if not sign or not rest.strip():
        remedy = "write it as network_dim=8,16,32 or unet_lr=1e-4..5e-4/3"
        raise SettingsError(f"{text!r} says no values", remedy=remedy)
    spec = TrainSettings.spec(name.strip())
    values: list[Any] = []
    for piece in rest.split(";" if ";" in rest else ","):
        piece = piece.strip()
        found = RANGE.fullmatch(piece) if spec.kind in ("int", "float") else None
        values += _range(spec.name, found, whole=spec.kind == "int") if found else [piece]
    unique = list(dict.fromkeys(values))
    if "" in unique:
        raise SettingsError(f"{text!r} has an empty value", remedy="take out the comma that is too much")
    return Axis(spec.name, tuple(unique))


def _range(name: str, found: re.Match[str], *, whole: bool) -> Iterator[Any]:
    try:
        low, high, count = float(found["low"]), float(found["high"]), int(found["count"])
    except ValueError:
        what = f"the range {found[0]!r} of {name} has an end that is no number"
        raise SettingsError(what, remedy="write it as 1e-4..5e-4/3") from None
    if not (math.isfinite(low) and math.isfinite(high)) or not 2 <= count <= 1000:
        raise SettingsError(f"the range {found[0]!r} of {name} cannot be made", remedy="give 2 to 1000 values")
    if found["log"] and (low <= 0 or high <= 0):
        raise SettingsError(f"the range {found[0]!r} of {name} ends at 0 or below", remedy="take out log")
    for i in range(count):
        share = i / (count - 1)
        value = low * (high / low) ** share if found["log"] else low + (high - low) * share
        # Twelve digits: 1e-4..5e-4 in three is 0.0003, not 0.00030000000000000003.
        yield round(value) if whole else float(f"{value:.12g}")


def combine(base: TrainSettings, axes: Sequence[Axis], mode: Mode = "grid", limit: int = LIMIT) -> list[Combination]:
    """All runs: every value with every other (grid), or the first with the first and so on (zip).

    Raises:
        SettingsError: nothing varies, lists of different lengths to zip, too many runs, or a combination that cannot
            be run (which one it is).
    """
    if not axes:
        raise SettingsError("nothing is to vary", remedy="give --over NAME=VALUES")
    names = [axis.name for axis in axes]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice or "output_name" in names:
        what = f"{twice} varies twice" if twice else "output_name is made from what differs"
        raise SettingsError(what, remedy="leave one out" if twice else "leave it out")
    lengths = {len(axis.values) for axis in axes}
    if mode == "zip" and len(lengths) > 1:
        listed = ", ".join(f"{axis.name} {len(axis.values)}" for axis in axes)
        raise SettingsError(f"lists of different lengths cannot be zipped ({listed})", remedy="make them equally long")
    count = lengths.pop() if mode == "zip" else math.prod(len(axis.values) for axis in axes)
    if count > limit:
        what = f"these are {count:,} runs, more than {limit}"
        raise SettingsError(what, remedy=f"give fewer values, or a limit of {count}")
    rows = (zip if mode == "zip" else itertools.product)(*(axis.values for axis in axes))
    return [_combination(base, dict(zip(names, row, strict=True))) for row in rows]


def _combination(base: TrainSettings, changes: dict[str, Any]) -> Combination:
    name = _name(base.output_name, changes)
    with_words = ", ".join(f"{key} {_short(value)}" for key, value in changes.items())

    def make() -> TrainSettings:
        return base.replace(**{key: _unparted(value) for key, value in changes.items()}, output_name=name)

    settings = named(with_words, make)
    return Combination(name, {key: settings.to_mapping()[key] for key in changes}, settings)


def named(words: str, act: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever it answers
    """What `act` answers; its error says at which combination.

    Raises:
        LoraLabError: of the kind that `act` raised.
    """
    try:
        return act()
    except LoraLabError as error:
        raise type(error)(f"with {words}, {error.what}", file=error.file, remedy=error.remedy) from error


def _unparted(value: Any) -> Any:  # noqa: ANN401 - a value of a setting
    return value.strip() if isinstance(value, str) else value


def _name(base: str, changes: dict[str, Any]) -> str:
    """``mika-network_dim8-unet_lr0.0001``: good for a file and for a prompt."""
    parts = [f"{key}{re.sub(r'[^A-Za-z0-9.+_-]+', '_', _short(value))}" for key, value in changes.items()]
    name = "-".join([base, *parts]) if base else "-".join(parts)
    if len(name) <= LONGEST:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[:LONGEST]}-{digest}"


def _short(value: Any) -> str:  # noqa: ANN401 - a value of a setting
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return " ".join(map(_short, value))
    return str(value)
