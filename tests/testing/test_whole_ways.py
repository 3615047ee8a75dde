"""Strengths, diagnosis, prior knowledge and saving, from pictures to answers: a tiny model, the demo's tagger."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.testing.small import LOOK, PROMPT, host_of, plan_of, write_lora

pytest.importorskip("onnxruntime")

from PIL import Image  # noqa: E402

from lora_lab.demo import assets  # noqa: E402
from lora_lab.errors import SettingsError  # noqa: E402
from lora_lab.families import Family  # noqa: E402
from lora_lab.testing import rows  # noqa: E402
from lora_lab.testing.diagnosis import DiagnosisPlan, prior_knowledge, run_diagnosis  # noqa: E402
from lora_lab.testing.export import save_files, save_sheet  # noqa: E402
from lora_lab.testing.grid import run_grid  # noqa: E402
from lora_lab.testing.judge import NO_TAG, Judge  # noqa: E402
from lora_lab.testing.page import save_page  # noqa: E402
from lora_lab.testing.strengths import StrengthPlan, run_strengths  # noqa: E402
from tests.training.tiny import TinyHost, fingerprint  # noqa: E402


@pytest.fixture
def host(tmp_path: Path) -> TinyHost:
    return host_of(tmp_path)


@pytest.fixture
def lora(host: TinyHost, tmp_path: Path) -> Path:
    return write_lora(tmp_path / "mika.safetensors", host.model)


@pytest.fixture
def judge() -> Judge:
    return Judge.of_tagger(assets.tagger_dir(), ("white hair", "horns"))


def test_strengths_of_snapshots(host: TinyHost, lora: Path, judge: Judge, tmp_path: Path) -> None:
    early = write_lora(tmp_path / "mika-000001.safetensors", host.model, seed=2)
    before = fingerprint(host.model)
    plan = StrengthPlan((early, lora), "mika", ("smile, grass",), (1, 2), (0.5, 1.0), look=LOOK, out=tmp_path / "cells")
    report = run_strengths(host, plan, judge)
    assert fingerprint(host.model) == before
    assert report is not None
    tried = [(one.lora, one.unet) for one in report.points]
    assert tried == [(early, 0.5), (early, 1.0), (lora, 0.5), (lora, 1.0)]
    assert report.best in report.points
    assert all(0 <= one.overall <= 1 and 0 <= one.fidelity <= 1 for one in report.points)
    assert run_strengths(host, plan, judge, stop=lambda: True) is not None, "everything is there already"


def test_what_is_wrong_with_a_lora(host: TinyHost, lora: Path, judge: Judge, tmp_path: Path) -> None:
    plan = DiagnosisPlan(lora, PROMPT, "mika", (1, 2), look=LOOK, out=tmp_path / "cells")
    found = run_diagnosis(host, plan, judge)
    assert found is not None
    assert [one.tag for one in found.blame] == ["mika", "smile"]
    assert found.leakage > 0.5, "random numbers act whatever the prompt says"
    assert any("It leaks" in sentence for sentence in found.sentences)
    preview = found.grid.at(None, 0)
    assert preview is not None
    (tmp_path / "data" / "1_mika").mkdir(parents=True)
    shutil.copy(preview.path, tmp_path / "data" / "1_mika" / "own.png")
    again = run_diagnosis(host, DiagnosisPlan(**{**vars(plan), "dataset": tmp_path / "data"}), judge)
    assert again is not None
    assert again.copies[0].picture.name == "own.png"
    assert again.copies[0].likeness == 1
    assert any("copies of dataset pictures" in sentence for sentence in again.sentences)


def test_what_the_tagger_does_not_see_is_not_called_underfit(host: TinyHost, lora: Path, judge: Judge) -> None:
    blind = Judge(judge.tags, lambda images: np.zeros((len(images), len(judge.tags)), np.float32))
    found = run_diagnosis(host, DiagnosisPlan(lora, PROMPT, "mika", (1, 2), look=LOOK), blind)
    assert found is not None
    assert found.concept is None
    assert NO_TAG in found.sentences
    assert not any("nderfit" in sentence for sentence in found.sentences)


def test_variety_needs_seeds_and_a_trigger(host: TinyHost, lora: Path) -> None:
    with pytest.raises(SettingsError, match="all seeds are equal"):
        run_diagnosis(host, DiagnosisPlan(lora, PROMPT, "mika", (1, 1), look=LOOK))
    with pytest.raises(SettingsError, match="the prompt lacks the trigger 'zuli'"):
        run_diagnosis(host, DiagnosisPlan(lora, PROMPT, "zuli", (1, 2), look=LOOK))


def test_what_the_bare_checkpoint_makes_of_words(host: TinyHost, judge: Judge) -> None:
    before = fingerprint(host.model)
    found = prior_knowledge(host, ("mika", "grass"), (1, 2), judge, LOOK, batch=4)
    assert fingerprint(host.model) == before
    assert [one.word for one in found] == ["mika", "grass"]
    assert all(one.change > 0 and one.sentence.startswith(repr(one.word)) for one in found)


def test_a_grid_is_saved_in_three_ways(host: TinyHost, lora: Path, tmp_path: Path) -> None:
    result = run_grid(host, plan_of(lora, rows.of_presets(["OUTALL", "ALL0.5"], Family.SD1), tmp_path, seeds=(1, 2)))
    with Image.open(save_sheet(result, tmp_path / "sheet.png")) as sheet:
        assert "column 2: seed 2, mika, smile" in sheet.info["parameters"]
        assert sheet.width > 2 * 256
    written = save_files(result, tmp_path / "files")
    assert [path.name for path in written][:3] == [
        "00-whole-seed1-1.png",
        "00-whole-seed2-2.png",
        "01-OUTALL-seed1-1.png",
    ]
    with Image.open(written[-1]) as one:
        assert "lbw=0.5" in one.info["parameters"]
    page = save_page(result, tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 6
    assert 'id="slide"' in page
    stopped = run_grid(host, plan_of(lora, result.plan.rows, tmp_path, out=tmp_path / "none"), stop=lambda: True)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="no picture yet"):
        save_page(stopped, tmp_path / "empty.html")
