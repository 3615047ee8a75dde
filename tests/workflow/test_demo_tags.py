"""The demo dataset, tagged by the demo tagger from the command line, against the true tags of its pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

from lora_lab.cli import main  # noqa: E402
from lora_lab.demo import assets, world  # noqa: E402
from lora_lab.tagging import names  # noqa: E402


def test_f1_against_the_true_tags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assets.write_dataset(tmp_path)
    hits = wrong = missed = 0
    for kind, untold in (("character", world.CHARACTER_FEATURES), ("style", ())):
        truth = {}
        for caption in (tmp_path / kind).rglob("*.txt"):
            truth[caption] = {*names.split(caption.read_text(encoding="utf-8")), *untold}
            caption.unlink()
        words = ["tag", str(tmp_path / kind), "--model", "demo", "--data-dir", str(tmp_path / "data"), "--json"]
        assert main([*words, "--general-threshold", "0.5", "--character-threshold", "0.5"]) == 0
        result = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert result["images"] == result["written"] == len(truth)
        for caption, true in truth.items():
            found = set(names.split(caption.read_text(encoding="utf-8")))
            hits, wrong, missed = hits + len(found & true), wrong + len(found - true), missed + len(true - found)
    f1 = 2 * hits / (2 * hits + wrong + missed)
    assert f1 >= 0.97, f1
