"""``lora-lab advise`` and ``explain``: questions, reasons, a file that can be trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from lora_lab.cli.advise import ask
from lora_lab.guide.answers import from_values
from lora_lab.training.checks import check
from lora_lab.training.settings import TrainSettings, settings_file
from tests.cli.test_cli import call


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "set" / "1_mika"
    folder.mkdir(parents=True)
    for i in range(24):
        Image.new("RGB", (512, 512), (i * 10, 90, 120)).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text("mika, red hair, hat, smile", encoding="utf-8")
    return folder.parent


def test_each_value_has_a_reason_and_a_source(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = call(capsys, "advise", "--making", "style", "--pictures", 300, "--vram", 12, "--json")
    assert status == 0
    values = json.loads(out.splitlines()[-1])
    assert {"method", "settings", "remarks", "findings"} <= values.keys()
    assert all({"name", "value", "why", "source"} <= row.keys() for row in values["settings"])
    assert all(row["why"] and row["source"] for row in values["settings"])
    names = {row["name"]: row for row in values["settings"]}
    assert names["algo"]["value"] == "locon"
    assert "later than the guide" in names["optimizer_args"]["source"]
    TrainSettings.from_mapping({name: row["value"] for name, row in names.items()})


def test_the_file_that_is_written_can_be_trained(
    capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path
) -> None:
    file = tmp_path / "mika.toml"
    words = ["advise", pictures, "--making", "character", "--vram", 8, "--write", file]
    status, out, _ = call(capsys, *words)
    assert status == 0
    assert "written" in out
    settings = settings_file.read(file).settings
    check(settings)
    assert settings.output_name == "mika"
    assert Path(settings.train_data_dir) == pictures.resolve()
    assert settings.max_train_epochs == 50, "24 pictures, 1,200 to be seen"
    status, _, err = call(capsys, *words)
    assert status == 2
    assert "exists already" in err
    status, _, _ = call(capsys, *words, "--force")
    assert status == 0


def test_the_guides_own_settings_are_named_bases(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "easy.json"
    status, _, _ = call(capsys, "advise", "--base", "easy", "--write", file)
    assert status == 0
    assert settings_file.read(file).settings.optimizer_type == "DAdaptAdam"
    status, out, _ = call(capsys, "advise", "--base", "list")
    assert "script-powershell" in out
    status, _, err = call(capsys, "advise", "--base", "magic")
    assert status == 2
    assert "easy-prodigy" in err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--difficulty", "Z"], "difficulty"),
        (["--pictures", "0"], "pictures"),
        (["--vram", "-3"], "card"),
        (["--resolution", "77"], "resolution"),
        (["no/such/folder"], "folder"),
    ],
)
def test_wrong_answers_are_one_line(capsys: pytest.CaptureFixture[str], words: list[str], named: str) -> None:
    status, out, err = call(capsys, "advise", *words)
    assert status == 2
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert named in err


def test_questions_are_asked_one_after_the_other() -> None:
    given = iter(["1", "n", "y", "n", "n", "y", "12", "n", "n", "n", "2", "1"])
    asked: list[str] = []

    def read(text: str) -> str:
        asked.append(text)
        return next(given, "")

    answers = from_values(ask(read, known={}))
    assert answers.making == "character"
    assert answers.difficulty == "E", "not human, but two arms and two legs"
    assert answers.male
    assert answers.pictures == 12
    assert not answers.good
    assert answers.knows == "realistic"
    assert not any("unusual face" in text for text in asked), "only of humans"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("network_alpha", ["0 to 1024", "alpha-above-dim", "slows learning", "recommended"]),
        ("min-snr-gamma", ["min_snr_gamma", "arXiv"]),
        ("clip skip", ["clip_skip", "last but one"]),
        ("trigger", ["calls the subject"]),
        ("alpha-above-dim", ["the rule", "burn"]),
        ("network_rank", ["network_dim"]),
    ],
)
def test_explain(capsys: pytest.CaptureFixture[str], word: str, said: list[str]) -> None:
    status, out, _ = call(capsys, "explain", word)
    assert status == 0
    assert all(text in out for text in said), out


def test_explain_knows_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    for spec in TrainSettings.specs():
        status, out, _ = call(capsys, "explain", spec.name, "--json")
        assert status == 0
        assert json.loads(out.splitlines()[-1])["setting"] == spec.name


def test_explain_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = call(capsys, "explain", "network_dimm")
    assert status == 2
    assert "network_dim" in err


def test_what_the_last_bake_shows_says_what_to_change(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "mika.toml"
    settings_file.write(TrainSettings(unet_lr=2e-4, text_encoder_lr=1e-4, max_train_epochs=10), file)
    status, out, _ = call(capsys, "advise", "--seen", "overfit-always", "--settings", file, "--json")
    assert status == 0
    told = json.loads(out.splitlines()[-1])
    assert told["changes"] == {"unet_lr": 1e-4, "text_encoder_lr": 5e-5}
    status, out, _ = call(capsys, "advise", "--seen", "overfit", "--settings", file)
    assert status == 0
    assert "set max_train_epochs = 7" in out
    assert "by hand: first try the snapshots" in out
    status, out, _ = call(capsys, "advise", "--seen", "list")
    assert status == 0
    assert out.count("\n") >= 16
    status, _, error = call(capsys, "advise", "--seen", "ugly")
    assert status == 2
    assert "'ugly' is no symptom" in error
