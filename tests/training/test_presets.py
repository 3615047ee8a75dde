"""Presets: kept under a name, without dataset and names, put over other settings, deleted, given to others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lora_lab.errors import OutputError, SettingsError
from lora_lab.training.settings import TrainSettings, presets, settings_file

MINE = TrainSettings.from_mapping({
    "train_data_dir": "/secret/place", "reg_data_dir": "/secret/reg", "output_name": "mika", "output_dir": "/secret/o",
    "sample_prompts": "mika", "training_comment": "mika", "network_dim": 8, "clip_skip": 2, "optimizer_type": "Prodigy",
})  # fmt: skip


def test_dataset_and_names_stay_out_of_the_file(tmp_path: Path) -> None:
    path = presets.save(MINE, "small ones", tmp_path)
    text = path.read_text(encoding="utf-8")
    assert "secret" not in text
    assert "mika" not in text
    assert json.loads(text)["lora_lab_preset"] == "small ones"
    assert presets.names(tmp_path) == ["small ones"]
    found = settings_file.read(path)
    assert found.preset
    assert (found.settings.network_dim, found.settings.clip_skip) == (8, 2)


def test_over_other_settings_their_dataset_and_names_stay(tmp_path: Path) -> None:
    presets.save(MINE, "a", tmp_path)
    other = TrainSettings.from_mapping({"train_data_dir": "/rin", "output_name": "rin", "network_dim": 64, "seed": 4})
    made = presets.over(other, presets.load("a", tmp_path), but=["seed"])
    assert (made.train_data_dir, made.output_name, made.sample_prompts) == ("/rin", "rin", "")
    assert (made.network_dim, made.optimizer_type, made.seed) == (8, "Prodigy", 4)


def test_a_preset_of_another_machine_is_loaded_by_its_path(tmp_path: Path) -> None:
    path = presets.save(MINE, "a", tmp_path / "theirs")
    assert presets.load(str(path), tmp_path / "ours").settings.network_dim == 8


def test_saving_twice_and_deleting(tmp_path: Path) -> None:
    presets.save(MINE, "b", tmp_path)
    presets.save(MINE, "A", tmp_path)
    with pytest.raises(OutputError, match="a preset of that name"):
        presets.save(MINE, "b", tmp_path)
    presets.save(MINE.replace(network_dim=9), "b", tmp_path, force=True)
    assert presets.names(tmp_path) == ["A", "b"]
    presets.delete("b", tmp_path)
    assert presets.names(tmp_path) == ["A"]
    with pytest.raises(SettingsError, match="no preset 'b'"):
        presets.delete("b", tmp_path)
    with pytest.raises(SettingsError, match="no preset 'b'.*there are A"):
        presets.load("b", tmp_path)


@pytest.mark.parametrize("name", ["", "  ", "../a", "a/b", "con:", ".", "a\n"])
def test_a_name_that_is_no_file_name_is_refused(tmp_path: Path, name: str) -> None:
    if name.strip() == "a":
        return
    with pytest.raises(SettingsError, match="cannot be called"):
        presets.save(MINE, name, tmp_path)
    assert not (tmp_path / "presets").exists()


def test_no_folder_is_no_preset(tmp_path: Path) -> None:
    assert presets.names(tmp_path / "none") == []
    with pytest.raises(SettingsError, match="save one first"):
        presets.load("a", tmp_path)
