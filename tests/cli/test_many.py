"""``tag``, ``scan`` and ``caption`` with ``--json`` on a folder of 2,000 pictures."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from lora_lab.cli import main
from lora_lab.demo import assets, drawing, world

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

PICTURES, DRAWN = 2000, 100


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two concepts; a hundred drawings, copied: what a tagger said is kept by content, so each is looked at once."""
    r = random.Random(5)
    root = tmp_path_factory.mktemp("many") / "set"
    files = []
    for number in range(DRAWN):
        path = root.parent / f"{number}.png"
        drawing.draw(world.sample(r), number, 64).save(path)
        files.append(path.read_bytes())
    for name, few in (("1_one", 1500), ("3_two", PICTURES - 1500)):
        (root / name).mkdir(parents=True)
        for number in range(few):
            (root / name / f"{number:04}.png").write_bytes(files[number % DRAWN])
    return root


def test_scan_tag_and_caption(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LORA_LAB_DATA", str(tmp_path))

    def call(*words: str) -> dict[str, Any]:
        assert main([words[0], str(folder), *words[1:], "--json"]) == 0
        line: dict[str, Any] = json.loads(capsys.readouterr().out.strip().split("\n")[-1])
        return line

    scanned = call("scan", "--quick", "--resolution", "64", "--min-bucket", "64", "--batch", "2")
    assert scanned["images"] == PICTURES
    assert [subset["repeats"] for subset in scanned["subsets"]] == [1, 3]
    assert scanned["steps_per_epoch"] == (1500 + 3 * 500) // 2

    tagged = call("tag", "--model", "demo")
    assert (tagged["images"], tagged["written"], tagged["computed"]) == (PICTURES, PICTURES, DRAWN)
    assert len(list(folder.rglob("*.txt"))) == PICTURES

    shown = call("caption", "trigger-first", "mika", "--dry-run")
    assert len(shown["changes"]) == PICTURES
    written = call("caption", "trigger-first", "mika", "--tokenizer", str(assets.tokenizer_dir()), "--apply")
    assert written["written"] == PICTURES
    assert all(path.read_text(encoding="utf-8").startswith("mika, ") for path in folder.rglob("*.txt"))
    assert call("caption", "--undo")["written"] == PICTURES
    assert not any(path.read_text(encoding="utf-8").startswith("mika") for path in folder.rglob("*.txt"))
