"""Recipes: written and read again; what is wrong names the step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lora_lab.errors import OutputError
from lora_lab.tagging.operations import OPERATIONS, OperationError
from lora_lab.tagging.recipe import Recipe, Step, from_values, read_recipe, write_recipe

STEPS = tuple(Step(kind(**kind.example), "NOT untagged" if kind.name == "add" else "") for kind in OPERATIONS.values())


def test_written_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "cleaning.json"
    write_recipe(path, STEPS)
    assert read_recipe(path) == Recipe(STEPS)
    with pytest.raises(OutputError, match="another name"):
        write_recipe(path, STEPS)
    write_recipe(path, STEPS[:1], replace=True)
    assert read_recipe(path).steps == STEPS[:1]
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("{", "no JSON"),
        ("[]", "no recipe"),
        ('{"lora_lab_recipe": 2}', "no recipe"),
        ('{"lora_lab_recipe": 1}', "no list of steps"),
        ('{"lora_lab_recipe": 1, "steps": [3]}', "step 1"),
        ('{"lora_lab_recipe": 1, "steps": [{"operation": "duplicates"}, {"operation": "ad"}]}', "step 2.*add"),
        ('{"lora_lab_recipe": 1, "steps": [{"operation": "duplicates", "where": "(a"}]}', "step 1.*closed"),
        ('{"lora_lab_recipe": 1, "steps": [{"operation": "duplicates", "where": 1}]}', "filter as text"),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_what_is_wrong_is_told_with_the_file(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(OperationError, match=word) as caught:
        read_recipe(path)
    assert caught.value.file == str(path)


def test_no_file_and_no_folder(tmp_path: Path) -> None:
    with pytest.raises(OperationError, match="cannot be read"):
        read_recipe(tmp_path / "none.json")
    with pytest.raises(OutputError, match="cannot be written"):
        write_recipe(tmp_path / "none" / "r.json", STEPS)


def test_plain_json_is_enough() -> None:
    text = '{"lora_lab_recipe": 1, "steps": [{"operation": "remove", "tags": ["a, b", "c"]}]}'
    step = from_values(json.loads(text)).steps[0]
    assert step.operation.to_json() == {"operation": "remove", "tags": ["a", "b", "c"]}
