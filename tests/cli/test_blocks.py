"""``lora-lab blocks`` on the demo checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("onnxruntime")

from safetensors.torch import load_file, save_file  # noqa: E402

from lora_lab.cli import main  # noqa: E402
from lora_lab.demo import assets  # noqa: E402
from lora_lab.demo.export import export  # noqa: E402

LORA = Path(__file__).resolve().parents[1] / "testing" / "loras" / "concept-out.safetensors"
QUICKLY = ("--steps", "2", "--prompt", "zuli, smile", "--trigger", "zuli")


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, object]]:
    status = main(["blocks", str(LORA), *words, "--json"])
    return status, json.loads(capsys.readouterr().out.strip().splitlines()[-1])


def test_a_grid_with_sheet_page_and_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--presets", "OUTALL", "NONE", "--seed", "1", "2", "--out", str(tmp_path), *QUICKLY)
    status, told = answer(capsys, *words)
    assert status == 0
    cells = told["cells"]
    assert isinstance(cells, list)
    assert [(cell["preset"], cell["seed"]) for cell in cells] == [
        (name, seed) for name in ("whole", "OUTALL", "NONE") for seed in (1, 2)
    ]
    assert all(0 <= cell["score"] <= 1 for cell in cells)
    with Image.open(cells[2]["image"]) as picture:
        assert f"<lora:concept-out:1:lbw=1,{','.join('0' * 13)},{','.join('1' * 12)}>" in picture.info["parameters"]
    with Image.open(str(told["sheet"])) as sheet:
        assert "row 1: OUTALL" in sheet.info["parameters"]
    page = Path(str(told["page"])).read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 6
    assert "http" not in page, "it needs nothing else"


def test_strengths_with_the_held_out_loss_of_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "lab" / "runs" / "1"
    run.mkdir(parents=True)
    (run / "settings.json").write_text("{}", encoding="utf-8")
    saved = {"event": "SnapshotSaved", "step": 2, "path": str(LORA)}
    events = (saved, {"event": "Validated", "step": 2, "loss": 0.0625})
    (run / "events.jsonl").write_text("\n".join(map(json.dumps, events)), encoding="utf-8")
    monkeypatch.setenv("LORA_LAB_DATA", str(tmp_path / "lab"))
    status, told = answer(capsys, "--strengths", "1", "--seed", "1", "--out", str(tmp_path), *QUICKLY)
    assert status == 0
    found = told["strengths"]
    assert isinstance(found, dict)
    assert found["held_out"] == {str(LORA): 0.0625}
    assert [point["unet"] for point in found["points"]] == [1.0]


@pytest.fixture(scope="module")
def worse(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """The demo checkpoint, the same with another meaning for each word, and the tagger."""
    folder = tmp_path_factory.mktemp("checkpoints")
    made = export(folder)
    weights = load_file(made["checkpoint"])
    words = weights["cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"]
    words.copy_(words[torch.randperm(len(words), generator=torch.Generator().manual_seed(0))])
    other = folder / "worse.safetensors"
    save_file(weights, other)
    shutil.copy(made["config"], other.with_suffix(".yaml"))
    return made["checkpoint"], other, made["tagger"]


def test_strengths_on_checkpoints_say_where_it_works_best(
    worse: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, other, tagger = worse
    words = ("--strengths", "1", "--seed", "1", "--out", str(tmp_path), "--tagger", str(tagger), "--size", "64x64")
    words += ("--steps", "8", "--cfg", "5", "--prompt", "zuli", "--concept", ", ".join(assets.character_features()))
    words += ("--others", "smile")
    status, told = answer(capsys, *words, "--checkpoints", str(other), str(own))
    assert status == 0
    found = told["strengths"]
    assert isinstance(found, dict)
    assert [(Path(one["checkpoint"]).name, one["own"]) for one in found["checkpoints"]] == [
        ("worse.safetensors", False), ("demo.safetensors", True),
    ]  # fmt: skip
    assert found["sentence"].startswith("Works best with demo.safetensors (its own)")
    assert "on worse.safetensors: 0% at 1; say so where you share it" in found["sentence"]


def test_a_checkpoint_that_is_missing_is_told_first(
    worse: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, _, tagger = worse
    words = ("--strengths", "1", "--tagger", str(tagger), "--out", str(tmp_path), *QUICKLY)
    status, told = answer(capsys, *words, "--checkpoints", str(own), str(tmp_path / "none.safetensors"))
    assert status != 0
    assert "there is no such checkpoint" in str(told["error"])
    assert not list((tmp_path / "cells").glob("*.png"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--presets", "OUTAL"), "there is no preset 'OUTAL'"),
        (("--x", "much"), "x is 'much', which is no number"),
        (("--without",), "--values and --without speak of blocks"),
        (("--size", "big"), "--size is 'big'"),
        (("--diagnose", "--seed", "1"), "all seeds are equal"),
        (("--checkpoints", "a.safetensors"), "--checkpoints speaks of strengths"),
    ],
)
def test_mistakes_are_one_sentence(
    words: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, told = answer(capsys, *words, "--out", str(tmp_path), *QUICKLY)
    assert status == 2
    assert said in str(told["error"])
    assert told["do"]


def test_a_file_that_is_no_lora(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    assert main(["blocks", str(tmp_path / "x.safetensors"), "--json"]) == 2
    assert "error" in json.loads(capsys.readouterr().out)
