"""The table of operations: one for the tab, the command line, recipes and docs; and how values come in."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from lora_lab.tagging import names
from lora_lab.tagging.operations.arrange import Limit, Order
from lora_lab.tagging.operations.base import Operation, OperationError, Option
from lora_lab.tagging.operations.cleaning import Consolidate, Duplicates, Implications, OnOff, Prune, Spelling
from lora_lab.tagging.operations.lists import Add, Prefix, Regex, Remove, Rename, Replace, TriggerFirst

OPERATIONS: Mapping[str, type[Operation]] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            TriggerFirst, Add, Remove, Replace, Regex, Rename, Consolidate, Prune, OnOff, Implications, Duplicates,
            Order, Limit, Prefix, Spelling,
        )
    }
)  # fmt: skip
"""Name -> operation, as the list is shown."""
YES, NO = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def from_json(values: Any) -> Operation:  # noqa: ANN401 - JSON
    """The way back from `Operation.to_json`.

    Raises:
        OperationError: no such operation or option, a wrong value, or one that cannot be meant.
    """
    if not isinstance(values, Mapping):
        raise OperationError("an operation is not written as an object", remedy='write {"operation": "add", ...}')
    kind = _kind(values.get("operation"))
    given = {name: value for name, value in values.items() if name != "operation"}
    options = _known(kind, given)
    return _made(kind, {name: _checked(options[name], value) for name, value in given.items()})


def from_texts(name: str, given: Mapping[str, Any]) -> Operation:
    """An operation from what a person typed.

    Args:
        name: of the operation.
        given: option -> text. Tags are parted by commas; pairs are ``old=new``, parted by line breaks or semicolons;
            numbers and switches may also come as themselves, tags and pairs as lists of texts.

    Raises:
        OperationError: see `from_json`.
    """
    kind = _kind(name)
    options = _known(kind, given)
    return _made(kind, {name: _typed(options[name], value) for name, value in given.items()})


def _kind(name: object) -> type[Operation]:
    kind = OPERATIONS.get(name) if isinstance(name, str) else None
    if kind is None:
        near = get_close_matches(str(name), OPERATIONS, 1)
        remedy = f"did you mean {near[0]}" if near else f"use one of {', '.join(OPERATIONS)}"
        raise OperationError(f"there is no operation {name!r}", remedy=remedy)
    return kind


def _known(kind: type[Operation], given: Mapping[str, Any]) -> dict[str, Option]:
    options = {o.name: o for o in kind.options()}
    for name in given:
        if name not in options:
            near = get_close_matches(str(name), options, 1) or sorted(options)
            remedy = f"use {' or '.join(near)}" if near else "leave it out"
            raise OperationError(f"{kind.name} has no option {name!r}", remedy=remedy)
    for option in options.values():
        if option.default is None and option.name not in given:
            raise OperationError(f"{kind.name} lacks {option.name}", remedy=f"give {option.help}")
    return options


def _made(kind: type[Operation], values: dict[str, Any]) -> Operation:
    made = kind(**values)
    made.check()
    return made


def _checked(option: Option, value: Any) -> Any:  # noqa: ANN401 - JSON
    """A value of a file: its type must be right."""
    kind = option.kind
    if kind == "tags" and isinstance(value, list) and all(isinstance(tag, str) for tag in value):
        return tuple(tag for text in value for tag in names.split(text))
    if kind == "pairs" and isinstance(value, list) and all(_is_pair(pair) for pair in value):
        return tuple((_one_line(old), _one_line(new)) for old, new in value)
    if kind == "number" and type(value) is int:
        return value
    if kind == "switch" and isinstance(value, bool):
        return value
    if kind == "text" and isinstance(value, str):
        return value if option.name in ("pattern", "replacement") else _one_line(value)
    if kind == "choice" and isinstance(value, str) and value in option.choices:
        return value
    raise _wrong(option, value)


def _typed(option: Option, value: Any) -> Any:  # noqa: ANN401 - a widget's
    """A value that was typed."""
    kind = option.kind
    if kind == "tags":
        return tuple(tag for text in _texts(value, "\n") for tag in names.split(text))
    if kind == "pairs":
        return tuple(_pair(text) for text in _texts(value, "\n", ";") if text.strip())
    if kind == "number":
        try:
            return int(str(value).strip())
        except ValueError:
            raise _wrong(option, value) from None
    if kind == "switch" and not isinstance(value, bool):
        word = str(value).strip().lower()
        if word not in (*YES, *NO):
            raise _wrong(option, value)
        return word in YES
    return _checked(option, value)


def _texts(value: Any, *marks: str) -> list[str]:  # noqa: ANN401 - a widget's
    texts = [value] if isinstance(value, str) else [str(each) for each in value]
    for mark in marks:
        texts = [piece for text in texts for piece in text.split(mark)]
    return texts


def _pair(text: str) -> tuple[str, str]:
    old, mark, new = text.partition("=")
    if not mark or not old.strip():
        raise OperationError(f"{text.strip()!r} is no pair", remedy="write old=new")
    return _one_line(old), _one_line(new)


def _is_pair(value: Any) -> bool:  # noqa: ANN401 - JSON
    return isinstance(value, list) and len(value) == 2 and all(isinstance(each, str) for each in value)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _wrong(option: Option, value: object) -> OperationError:
    wants = {
        "tags": "a list of tags", "pairs": "a list of pairs", "number": "a whole number", "switch": "true or false",
        "text": "a text", "choice": f"one of {', '.join(option.choices)}",
    }  # fmt: skip
    return OperationError(f"{option.name} is {value!r}", remedy=f"give {wants[option.kind]}")
