"""``lora-lab caption``: shows first, writes when told to, and takes back; one line for each mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lora_lab.cli import main
from lora_lab.tagging.operations import OPERATIONS

ROOT = Path(__file__).resolve().parents[2]
Call = Callable[..., Any]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LORA_LAB_DATA", str(tmp_path / "data"))
    root = tmp_path / "set" / "10_mika"
    root.mkdir(parents=True)
    for name, text in {"a": "1girl, boots, red boots", "b": "1girl, long_hair", "c": ""}.items():
        (root / f"{name}.png").touch()
        if text:
            (root / f"{name}.txt").write_text(text, encoding="utf-8")
    return tmp_path / "set"


@pytest.fixture
def call(folder: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    def run(*words: object) -> Any:
        status = main(["caption", str(folder), *(str(word) for word in words), "--json"])
        return {"status": status, **json.loads(capsys.readouterr().out.splitlines()[-1])}

    return run


def read(folder: Path) -> dict[str, str]:
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.txt"))}


def test_an_operation_is_shown_applied_undone_and_redone(folder: Path, call: Call) -> None:
    before = read(folder)
    words = ["trigger-first", "mika", "--filter", "NOT untagged"]
    found = call(*words)
    assert (found["status"], found["captions"], found["changed"], found["written"]) == (0, 3, 2, 0)
    assert found["changes"][0] == {
        "file": "10_mika/a.txt", "before": "1girl, boots, red boots", "after": "mika, 1girl, boots, red boots",
    }  # fmt: skip
    assert read(folder) == before
    assert call(*words, "--apply")["written"] == 2
    assert read(folder)["b"] == "mika, 1girl, long_hair"
    assert call("--history")["history"][0]["label"] == "trigger-first: mika [NOT untagged]"
    assert call("--undo")["files"] == ["10_mika/a.txt", "10_mika/b.txt"]
    assert read(folder) == before
    assert call("--redo")["written"] == 2
    assert [c["after"] for c in call("--restore", 0)["changes"]] == list(before.values())
    call("--restore", 0, "--apply")
    assert read(folder) == before


def test_for_people_each_change_is_two_lines(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["caption", str(folder), "implications"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "10_mika/a.txt", "  - 1girl, boots, red boots", "  + 1girl, red boots",
        "1 of 3 captions would change: --apply writes them",
    ]  # fmt: skip
    assert main(["caption", str(folder), "--table", "--filter", "boots"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "     1  100%  1girl"


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_has_its_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["caption", "x", name, "--help"])
    assert caught.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for option in OPERATIONS[name].options():
        assert (option.name.upper() if option.leading else option.name.replace("_", "-")) in shown


def test_every_operation_runs_from_words(call: Call) -> None:
    words = {
        "trigger-first": ["mika"], "add": ["sky", "--position", "front", "--keep", 1], "remove": ["*boots"],
        "replace": ["boots=shoes;sky="], "regex": ["^red (.*)", r"\1 of red", "--ignore-case"],
        "rename": ["1girl", "mika", "--inside"], "consolidate": ["boots, red boots", "red boots", "--where", "all"],
        "prune": ["boots", "--trigger", "1girl"], "on-off": ["winter", "boots"],
        "implications": ["a=b", "--no-endings"], "duplicates": [],
        "order": ["groups", "--keep", 0, "--subject", "red boots"],
        "limit": [3, "--tokenizer", "demo"],
        "prefix": ["sketch", "--at", "end"], "spelling": ["spaces", "--keep", "x"],
    }  # fmt: skip
    assert set(words) == set(OPERATIONS)
    nothing = {"duplicates", "implications"}
    for name, more in words.items():
        found = call(name, *more)
        assert found["status"] == 0, found
        assert bool(found["changed"]) == (name not in nothing), name


def test_a_recipe_is_kept_and_run_again(folder: Path, call: Call, tmp_path: Path) -> None:
    recipe = tmp_path / "clean.json"
    assert call("add", "sky", "--filter", "1girl", "--save-recipe", recipe)["changed"] == 2
    assert call("--recipe", recipe)["changed"] == 2
    assert call("--recipe", recipe, "--apply")["written"] == 2
    assert call("--recipe", recipe)["changed"] == 0
    assert call("add", "sky", "--save-recipe", recipe)["status"] == 2
    assert read(folder)["a"].endswith(", sky")


def test_kohyas_json_and_letters(folder: Path, call: Call, tmp_path: Path) -> None:
    path = tmp_path / "meta_cap.json"
    assert call("--out-json", path)["written"] == 2
    assert json.loads(path.read_text(encoding="utf-8"))["b"] == {"tags": "1girl, long_hair"}
    (folder / "10_mika" / "a.txt").write_bytes(b"b\xe9ret")
    assert call("--to-utf8")["changes"][0]["converts"] == "Latin-1"
    assert call("--in-json", path, "--apply")["written"] == 1
    assert read(folder)["a"] == "1girl, boots, red boots"


@pytest.mark.parametrize(
    ("words", "about"),
    [
        ([], "nothing to do"),
        (["--undo"], "nothing to undo"),
        (["--undo", "--redo"], "at once"),
        (["add"], "TAGS"),
        (["ad", "x"], "invalid choice"),
        (["add", "x", "--filter", "(a"], "not closed"),
        (["add", "x", "--apply", "--dry-run"], "opposite"),
        (["--undo", "--dry-run"], "--history"),
        (["--restore", "9"], "no point 9"),
        (["--recipe", "none.json"], "none.json"),
        (["--in-json", "none.json"], "none.json"),
        (["limit", "--tokenizer", "none"], "tokenizer"),
        (["order", "score"], "no tagger"),
        (["add", "x", "--caption-extension", "txt"], "dot"),
    ],
)
def test_mistakes_are_one_line_and_change_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], about: str
) -> None:
    before = read(folder)
    assert main(["caption", str(folder), *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.strip().splitlines()) == 1
    assert about in captured.err
    assert read(folder) == before


def test_trouble_of_many_files_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "ab":
        (folder / "10_mika" / f"{name}.txt").write_bytes(b"b\xe9ret")
    assert main(["caption", str(folder), "--table"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert "a.txt and 1 more" in line
    assert "Latin-1" in line


def test_no_torch_is_needed(folder: Path) -> None:
    code = (
        "import sys\nfrom lora_lab.cli import main\n"
        f"status = main(['caption', {str(folder)!r}, 'limit', '5', '--tokenizer', 'demo', '--apply', '--json'])\n"
        "sys.exit(9 if 'torch' in sys.modules else status)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False).returncode == 0
