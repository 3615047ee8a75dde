"""A recipe: operations in their order, each with the captions it is meant for; a file that can be run again."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_lab.errors import OutputError
from lora_lab.tagging.filters import FilterError, parse
from lora_lab.tagging.operations import Operation, OperationError, from_json
from lora_lab.whole_file import write_whole

FORMAT = 1
MAX_BYTES = 4_000_000
"""A recipe of thousands of replacements still fits."""


@dataclass(frozen=True)
class Step:
    """An operation on the captions that a filter names."""

    operation: Operation
    where: str = ""
    """See `tagging.filters`; empty for all. It looks at what the steps before have made."""

    def to_json(self) -> dict[str, Any]:
        """As in a recipe file."""
        return {**self.operation.to_json(), **({"where": self.where} if self.where else {})}

    def told(self) -> str:
        """A line for lists."""
        return self.operation.told() + (f" [{self.where}]" if self.where else "")


@dataclass(frozen=True)
class Recipe:
    """Steps in their order."""

    steps: tuple[Step, ...]

    @classmethod
    def of(cls, *operations: Operation, where: str = "") -> Recipe:
        """Operations, all with the same filter."""
        return cls(tuple(Step(operation, where) for operation in operations))

    def to_json(self) -> dict[str, Any]:
        """The whole file."""
        return {"lora_lab_recipe": FORMAT, "steps": [step.to_json() for step in self.steps]}

    def told(self) -> str:
        """One line."""
        return "; ".join(step.told() for step in self.steps)


def from_values(values: Any) -> Recipe:  # noqa: ANN401 - JSON
    """The way back from `Recipe.to_json`.

    Raises:
        OperationError: it is no recipe, or a step of it is wrong; the step's number is told.
    """
    if not isinstance(values, dict) or values.get("lora_lab_recipe") != FORMAT:
        remedy = f'a recipe begins with {{"lora_lab_recipe": {FORMAT}, "steps": ['
        raise OperationError("this is no recipe", remedy=remedy)
    steps = values.get("steps")
    if not isinstance(steps, list):
        raise OperationError("the recipe has no list of steps", remedy='write "steps": [...]')
    return Recipe(tuple(_step(number, step) for number, step in enumerate(steps, 1)))


def _step(number: int, values: Any) -> Step:  # noqa: ANN401 - JSON
    try:
        if not isinstance(values, dict):
            raise OperationError("it is not written as an object", remedy='write {"operation": "add", ...}')
        where = values.get("where", "")
        if not isinstance(where, str):
            raise OperationError(f"where is {where!r}", remedy="give a filter as text")
        parse(where)
        return Step(from_json({name: value for name, value in values.items() if name != "where"}), where)
    except (OperationError, FilterError) as error:
        raise OperationError(f"step {number} of the recipe: {error.what}", remedy=error.remedy) from error


def read_recipe(path: Path) -> Recipe:
    """Read a recipe file.

    Raises:
        OperationError: it cannot be read, or is no recipe.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise OperationError("it is too large for a recipe", file=path, remedy="choose another file")
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        what = f"the recipe cannot be read ({error.strerror})"
        raise OperationError(what, file=path, remedy="check its name and rights") from error
    except (ValueError, RecursionError) as error:
        raise OperationError("the recipe is no JSON", file=path, remedy="save it again, or mend it") from error
    try:
        return from_values(values)
    except OperationError as error:
        raise OperationError(error.what, file=path, remedy=error.remedy) from error


def write_recipe(path: Path, steps: Iterable[Step], *, replace: bool = False) -> None:
    """Write a recipe file, whole or not at all.

    Args:
        path: the file.
        steps: in their order.
        replace: may a file that is there already be replaced?

    Raises:
        OutputError: it is there already, or cannot be written.
    """
    if path.exists() and not replace:
        raise OutputError("there is a file of this name already", file=path, remedy="choose another name")
    text = json.dumps(Recipe(tuple(steps)).to_json(), indent=1, ensure_ascii=False) + "\n"
    write_whole(path, text, "the recipe", make_folder=False)
