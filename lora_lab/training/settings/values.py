"""Reading one value of a setting from a file, a widget or the command line. No torch here."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from lora_lab.errors import SettingsError
from lora_lab.training.settings.fields import FieldSpec

TRUE = frozenset({"true", "yes", "on", "1"})
NUMBERS = re.compile(r"[A-Za-z0-9_+.,\- ]*", re.ASCII)
"""Letters of a list of numbers, or of the name of a curve."""
FALSE = frozenset({"false", "no", "off", "0"})


def parse(spec: FieldSpec, value: Any) -> Any:  # noqa: ANN401 - whatever a file or a widget holds
    """Turn `value` into the type that `spec` wants, without rounding or guessing.

    Strings are read as numbers and switches, whole floats as ints; None and an empty string mean None for an optional
    setting and no text for a text.

    Raises:
        SettingsError: the value is not of that kind, not among the choices, or out of range.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return _empty(spec)
    if spec.kind == "bool":
        return _switch(spec, value)
    if spec.kind == "int":
        return _in_range(spec, _whole(spec, value))
    if spec.kind == "float":
        return _in_range(spec, _number(spec, value))
    if spec.kind == "size":
        return _size(spec, value)
    if spec.kind == "list":
        return _words(spec, value)
    if spec.kind == "numbers":
        return _numbers(spec, value)
    if spec.kind == "paths":
        return _paths(spec, value)
    if not isinstance(value, str):
        raise _wrong(spec, value, "text")
    if spec.kind == "choice":
        return _choice(spec, value)
    return value.strip() if spec.kind != "lines" else value


def _wrong(spec: FieldSpec, value: object, wanted: str) -> SettingsError:
    return SettingsError(f"{spec.name} is {value!r}", remedy=f"give {wanted}")


def _empty(spec: FieldSpec) -> Any:  # noqa: ANN401 - None, "" or ()
    if spec.optional:
        return None
    if spec.kind in ("text", "folder", "lines", "numbers"):
        return ""
    if spec.kind in ("list", "paths"):
        return ()
    raise SettingsError(f"{spec.name} is empty", remedy=f"give a value, the usual one is {spec.default}")


def _switch(spec: FieldSpec, value: object) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in TRUE:
        return True
    if word in FALSE:
        return False
    raise _wrong(spec, value, "true or false")


def _number(spec: FieldSpec, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise _wrong(spec, value, "a number")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise _wrong(spec, value, "a number") from None
    if not math.isfinite(number):
        raise _wrong(spec, value, "a finite number")
    return number


def _whole(spec: FieldSpec, value: object) -> int:
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d{1,30}\s*", value):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    else:
        as_float = _number(spec, value)
        if not as_float.is_integer():
            raise _wrong(spec, value, "a whole number")
        number = int(as_float)
    if spec.choices and str(number) not in spec.choices:
        raise _wrong(spec, value, "one of " + ", ".join(spec.choices))
    return number


def _in_range(spec: FieldSpec, number: Any) -> Any:  # noqa: ANN401 - int stays int
    if spec.minimum is not None and number < spec.minimum:
        raise SettingsError(f"{spec.name} is {number:g}", remedy=f"give {spec.minimum:g} or more")
    if spec.maximum is not None and number > spec.maximum:
        raise SettingsError(f"{spec.name} is {number:g}", remedy=f"give {spec.maximum:g} or less")
    return number


def _size(spec: FieldSpec, value: object) -> tuple[int, int]:
    """A number or a pair, as number, list, or the text ``512`` or ``512,768`` (width first)."""
    wanted = "a number such as 512, or width,height such as 512,768"
    pieces: list[object]
    if isinstance(value, str):
        pieces = list(value.replace("x", ",").split(","))
    elif isinstance(value, Iterable):
        pieces = list(value)
    else:
        pieces = [value]
    try:
        numbers = [_in_range(spec, _whole(spec, piece)) for piece in pieces]
    except SettingsError as error:
        remedy = error.remedy.removeprefix("give ")
        raise _wrong(spec, value, remedy if remedy.endswith((" or more", " or less")) else wanted) from None
    if len(numbers) == 1:
        return numbers[0], numbers[0]
    if len(numbers) != 2:
        raise _wrong(spec, value, wanted)
    return numbers[0], numbers[1]


def _words(spec: FieldSpec, value: object) -> tuple[str, ...]:
    """``["a=1", "b=2"]``, or one text with blanks between."""
    if isinstance(value, str):
        return tuple(value.split())
    if isinstance(value, (list, tuple)) and all(isinstance(v, str) for v in value):
        return tuple(v.strip() for v in value if v.strip())
    raise _wrong(spec, value, "a list of texts such as weight_decay=0.01")


def _paths(spec: FieldSpec, value: object) -> tuple[str, ...]:
    """A list of paths, or one text with a path on each line; blanks belong to a path, quotation marks do not."""
    pieces = value.splitlines() if isinstance(value, str) else value
    if isinstance(pieces, (list, tuple)) and all(isinstance(v, str) for v in pieces):
        return tuple(path for v in pieces if (path := re.sub(r'^[\s"]+|[\s"]+$', "", v)))
    raise _wrong(spec, value, "a list of paths")


def _choice(spec: FieldSpec, value: str) -> str:
    """Choices are found whatever their capitals: kohya's names are not case-sensitive either."""
    for choice in spec.choices:
        if choice.lower() == value.strip().lower():
            return choice
    if spec.open:
        return value.strip()
    raise _wrong(spec, value, "one of " + ", ".join(spec.choices))


def _numbers(spec: FieldSpec, value: object) -> str:
    """``1,0.5`` or the name of a curve as it is written, or a number or a list of them put into that form."""
    wanted = "numbers with commas between"
    if isinstance(value, str):
        if not NUMBERS.fullmatch(value):
            raise _wrong(spec, value, wanted)
        return ",".join(piece.strip() for piece in value.split(","))
    pieces = list(value) if isinstance(value, (list, tuple)) else [value]
    if any(isinstance(piece, bool) or not isinstance(piece, (int, float, str)) for piece in pieces):
        raise _wrong(spec, value, wanted)
    return _numbers(spec, ",".join(piece if isinstance(piece, str) else f"{piece:g}" for piece in pieces))
