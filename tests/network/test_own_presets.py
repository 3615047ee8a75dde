"""A person's own block presets on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_lab.errors import SettingsError
from lora_lab.families import Family
from lora_lab.network import own_presets
from lora_lab.network.presets import DEFAULTS, Preset, by_name

FACE = Preset("Face", "BASE=1 OUT04-OUT06=1", "eyes and face")


def test_saved_changed_deleted(tmp_path: Path) -> None:
    assert own_presets.load(tmp_path) == ()
    own_presets.save(FACE, tmp_path)
    own_presets.save(Preset("Sdxl style", "OUT01=0.8", "", frozenset({Family.SDXL})), tmp_path)
    assert own_presets.load(tmp_path)[0] == FACE
    own_presets.save(Preset("FACE", "BASE=1 OUT04=1"), tmp_path)
    assert [p.name for p in own_presets.load(tmp_path)] == ["Sdxl style", "FACE"]
    assert len(own_presets.all_presets(tmp_path)) == len(DEFAULTS) + 2
    own_presets.delete("face", tmp_path)
    with pytest.raises(SettingsError, match="no preset of yours"):
        own_presets.delete("face", tmp_path)


def test_a_file_of_lora_block_weight_is_read(tmp_path: Path) -> None:
    (tmp_path / "lbwpresets.txt").write_text("SKIN:" + ",".join(["1"] + ["0"] * 16), encoding="utf-8")
    assert by_name("skin", own_presets.all_presets(tmp_path)) is not None


@pytest.mark.parametrize(
    ("name", "weights"), [("", "OUT=1"), ("a,b", "OUT=1"), ("INX", "OUT=1"), ("mine", "OUT=x1"), ("mine", "1,2")]
)
def test_what_cannot_be_saved(tmp_path: Path, name: str, weights: str) -> None:
    with pytest.raises(SettingsError):
        own_presets.save(Preset(name, weights), tmp_path)
    assert own_presets.load(tmp_path) == ()


@pytest.mark.parametrize("text", ["{", "{}1", "[1]", '[{"name": "a"}]', '[{"name":"a","weights":"","families":["x"]}]'])
def test_a_damaged_file_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / own_presets.FILE).write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match="damaged"):
        own_presets.load(tmp_path)
