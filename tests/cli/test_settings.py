"""``lora-lab settings`` and ``train`` with files of others: told, exported, kept as presets, refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lora_lab.cli import main
from lora_lab.training.settings import settings_file

DATA = Path(__file__).parent.parent / "training" / "data"


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    status = main([str(word) for word in words])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_a_file_is_told_key_by_key(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = call(capsys, "settings", DATA / "guide.sh")
    assert status == 0
    assert "network_dim = 160" in out
    assert "not taken: face_crop_aug_range: it does not go together with enable_bucket" in out
    assert "Not taken over from the file: face_crop_aug_range" in err


def test_json_has_everything(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = call(capsys, "settings", DATA / "kohya.toml", "--json", "--set", "network_dim=5")
    told = json.loads(out)
    assert status == 0
    assert told["settings"]["network_dim"] == 5
    assert [item["name"] for item in told["left_out"]] == ["wandb_api_key"]
    assert told["checkpoint"] == "/data/models/base.safetensors"


@pytest.mark.parametrize("form", ["toml", "bash", "ps1", "ours"])
def test_export_is_read_back(capsys: pytest.CaptureFixture[str], tmp_path: Path, form: str) -> None:
    path = tmp_path / ("run" + {"toml": ".toml", "bash": ".sh", "ps1": ".ps1", "ours": ".json"}[form])
    status, out, _ = call(capsys, "settings", DATA / "kohya.toml", "--export", form, path)
    assert (status, out) == (0, f"written: {path}\n")
    assert settings_file.read(path).settings == settings_file.read(DATA / "kohya.toml").settings
    status, _, err = call(capsys, "settings", DATA / "kohya.toml", "--export", form, path)
    assert status == 2
    assert "exists already" in err


def test_presets_on_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('lora_lab = 1\nnetwork_dim = 7\nseed = 3\noutput_name = "mika"\n', encoding="utf-8")
    assert call(capsys, "settings", mine, "--save-preset", "small", "--out", tmp_path)[0] == 0
    assert json.loads(call(capsys, "settings", "--json", "--out", tmp_path)[1]) == {"presets": ["small"]}
    other = tmp_path / "other.toml"
    other.write_text('lora_lab = 1\nseed = 4\noutput_name = "rin"\n', encoding="utf-8")
    told = json.loads(call(capsys, "settings", other, "--preset", "small", "--out", tmp_path, "--json")[1])
    assert told["settings"] == {"network_dim": 7, "seed": 4, "output_name": "rin"}
    assert call(capsys, "settings", "--delete-preset", "small", "--out", tmp_path)[0] == 0
    status, _, err = call(capsys, "settings", other, "--preset", "small", "--out", tmp_path)
    assert status == 2
    assert "there is no preset 'small'" in err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('pretrained_model_name_or_path = "nowhere.safetensors"\ntrain_data_dir = "a"', "the file names is not here"),
        ('network_dim = 100000\nxformers = true', "cannot be had: network_dim"),
    ],
)
def test_a_run_that_would_be_another_one_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, says: str
) -> None:
    path = tmp_path / "kohya.toml"
    path.write_text(text, encoding="utf-8")
    status, _, err = call(capsys, "train", path, "--out", tmp_path)
    assert status == 2
    assert says in err
    assert "Traceback" not in err


def test_no_file_and_no_such_format_are_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert call(capsys, "settings", "--save-preset", "a")[0] == 2
    status, _, err = call(capsys, "settings", DATA / "kohya.toml", "--export", "xml", tmp_path / "a")
    assert status == 2
    assert "use one of toml, bash, ps1, ours" in err
