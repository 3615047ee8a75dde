"""``lora-lab tag`` as a person types it."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from lora_lab.cli import main
from lora_lab.demo import assets, drawing, world

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pictures of the demo world, with a caption each."""
    folder = tmp_path_factory.mktemp("drawn") / "1_someone"
    folder.mkdir()
    r = random.Random(1)
    for number in range(8):
        drawing.draw(world.sample(r), number, 128).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text("someone\n", encoding="utf-8")
    return folder


@pytest.fixture
def folder(tmp_path: Path, drawn: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LORA_LAB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "no cache"))
    shutil.copytree(drawn, tmp_path / "set" / drawn.name)
    return tmp_path / "set"


def tag(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, Any]]:
    status = main(["tag", *map(str, words), "--json"])
    return status, json.loads(capsys.readouterr().out.strip().split("\n")[-1])


def captions(folder: Path, ending: str = ".txt") -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.rglob(f"*{ending}"))}


def test_the_result_and_that_nothing_is_written_twice(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = captions(folder)
    status, found = tag(capsys, folder, "--model", "demo")
    assert status == 0
    assert {"images", "tags", "seconds", "written"} <= set(found)
    assert (found["images"], found["written"], found["computed"]) == (8, 0, 8)  # all had captions
    assert captions(folder) == before
    _, found = tag(capsys, folder, "--write", "replace", "--rating", "first")
    assert (found["written"], found["computed"]) == (8, 0)
    assert all(text.startswith("general, ") for text in captions(folder).values())
    assert tag(capsys, folder, "--write", "replace", "--rating", "first")[1]["written"] == 0


def test_options_reach_the_captions(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = captions(folder)
    status, found = tag(
        capsys, folder, "--model", assets.tagger_dir(), "--caption-extension", ".caption", "--exclude", "*hair",
        "--replace", "1girl=one person", "--replace", "1boy=one person", "--order", "alphabet", "--underscores",
        "--general-threshold", 0.5, "--threshold", "smile=1",
    )  # fmt: skip
    assert (status, found["written"]) == (0, 8)
    assert captions(folder) == before
    texts = captions(folder, ".caption")
    assert len(texts) == 8
    for text in texts.values():
        tags = text.strip().split(", ")
        assert "one_person" in tags
        assert tags == sorted(tags, key=str.casefold)
        assert not [t for t in tags if t.endswith("hair") or t == "smile"]


def test_write_no_keeps_the_probabilities_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in folder.rglob("*.txt"):
        path.unlink()
    assert tag(capsys, folder, "--write", "no")[1]["written"] == 0
    assert captions(folder) == {}
    assert tag(capsys, folder)[1]["computed"] == 0
    assert len(captions(folder)) == 8


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "no folder is given"),
        (["nowhere"], "no such folder"),
        ([".", "--model", "no-such"], "no tagger 'no-such'"),
        ([".", "--general-threshold", "2"], "general_threshold is 2"),
        ([".", "--threshold", "smile"], "no TAG=VALUE"),
        ([".", "--threshold", "smile=high"], "needs a number"),
        ([".", "--exclude", "re:("], "no regular expression"),
        ([".", "--write", "overwrite"], "invalid choice"),
        ([".", "--caption-extension", "txt"], "extension is 'txt'"),
    ],
)
def test_mistakes_are_one_object_and_status_2(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    status, error = tag(capsys, *words)
    assert status == 2
    assert says in error["error"]


def test_a_folder_that_is_no_tagger(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    assert "no model.onnx" in tag(capsys, folder, "--model", tmp_path / "bad")[1]["error"]
    (tmp_path / "bad" / "model.onnx").write_bytes((assets.tagger_dir() / "model.onnx").read_bytes()[:10_000])
    (tmp_path / "bad" / "selected_tags.csv").write_text("tag_id,name,category,count\n1,a,0,1\n")
    status, error = tag(capsys, folder, "--model", tmp_path / "bad")
    assert status == 2
    assert "cannot be opened" in error["error"]
    (tmp_path / "bad" / "model.onnx").write_bytes((assets.tagger_dir() / "model.onnx").read_bytes())
    assert "the list 1 tags" in tag(capsys, folder, "--model", tmp_path / "bad")[1]["error"]


def test_the_taggers_are_listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, found = tag(capsys, "--models")
    assert status == 0
    assert [t["name"] for t in found["here"]] == ["demo"]
    assert "SmilingWolf/wd-swinv2-tagger-v3" in [t["repository"] for t in found["hub"]]
