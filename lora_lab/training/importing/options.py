"""Every option of kohya's `train_network.py` and `sdxl_train_network.py`: its name, how it takes values, its default.

The names are the interface that people's files use. Taken from the parsers of sd-scripts 48d368f (February 2026).
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from lora_lab.training.importing.option_names import TABLE

Takes = Literal["flag", "value", "list"]


@dataclass(frozen=True)
class Option:
    """One option."""

    name: str
    takes: Takes
    default: Any = None
    """A number, a text, False for a flag, None for nothing."""
    sdxl: bool = False
    """Only `sdxl_train_network.py` has it."""


def _option(line: str) -> Option:
    """``name``, ``name flag``, ``name value default`` or ``name list``; a star behind the name marks SDXL's own."""
    name, takes, default = [*line.split(), "", "", ""][:3]
    sdxl, name = name.endswith("*"), name.rstrip("*")
    if takes == "flag":
        return Option(name, "flag", default=False, sdxl=sdxl)
    if takes == "list":
        return Option(name, "list", sdxl=sdxl)
    return Option(name, "value", _plain(default), sdxl)


def _plain(text: str) -> Any:  # noqa: ANN401 - a number, a text or None
    if not text:
        return None
    try:
        return float(text) if "." in text or "e-" in text else int(text)
    except ValueError:
        return text


OPTIONS = MappingProxyType({option.name: option for option in map(_option, TABLE.strip().splitlines())})
"""Name -> option, in the order of kohya's ``--help``."""


def matching(name: str) -> str:
    """The option that argparse would take `name` for: itself, or the only one that begins with it."""
    if name in OPTIONS:
        return name
    longer = [option for option in OPTIONS if option.startswith(name)] if len(name) > 3 else []
    return longer[0] if len(longer) == 1 else name


def is_default(name: str, value: object) -> bool:
    """Does the value say no more than leaving the option out?"""
    option = OPTIONS.get(name)
    if value is None or value in ("", [], ()):
        return True
    if option is None:
        return value is False
    if option.default in (None, False) and (value is False or str(value).strip().lower() in ("false", "none")):
        return True
    try:
        return option.default is not None and float(value) == float(option.default)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return str(value).strip() == str(option.default)
