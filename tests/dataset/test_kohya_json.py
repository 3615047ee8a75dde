"""kohya's metadata: keys of all kinds, tags as text and as list, what is not a caption is kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lora_lab.dataset.kohya_json import captions_of, read_entries, write_entries
from lora_lab.errors import DatasetError, OutputError

ROOT = Path("set").resolve()
PICTURES = [ROOT / "10_a" / "x.png", ROOT / "10_a" / "y z.jpg", ROOT / "2_b" / "x.png"]


def file_of(tmp_path: Path, values: object) -> Path:
    path = tmp_path / "meta.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def test_keys_are_paths_or_stems(tmp_path: Path) -> None:
    values = {
        str(PICTURES[0]): {"caption": "a hill", "tags": "mika,  1girl"},
        "y z": {"tags": ["mika", "sky"], "train_resolution": [512, 512]},
        "2_b/x": {"caption": "b"},
        "x": {"tags": "which of the two?"},
        "gone": {},
    }
    found, unknown = captions_of(file_of(tmp_path, values), PICTURES, ROOT)
    assert found == {PICTURES[0]: "a hill, mika, 1girl", PICTURES[1]: "mika, sky", PICTURES[2]: "b"}
    assert unknown == ["x", "gone"]


def test_written_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "meta.json"
    captions = {PICTURES[0]: "a, b", PICTURES[1]: "c", PICTURES[2]: ""}
    assert write_entries(path, captions) == 2
    assert list(read_entries(path)) == [str(p) for p in PICTURES], "two x: whole paths"
    assert captions_of(path, PICTURES, ROOT)[0] == captions
    with pytest.raises(OutputError, match="another name"):
        write_entries(path, captions)


def test_what_is_not_a_caption_is_kept(tmp_path: Path) -> None:
    values = {
        "x": {"caption": "a hill", "tags": "old", "train_resolution": [512, 768]},
        "y z": {"caption": "a hill", "tags": "old"},
        "other": {"tags": "stays"},
    }
    path = file_of(tmp_path, values)
    write_entries(path, {PICTURES[0]: "a hill, new", PICTURES[1]: "new"}, replace=True)
    assert read_entries(path) == {
        "x": {"caption": "a hill", "tags": "new", "train_resolution": [512, 768]},
        "y z": {"tags": "new"},
        "other": {"tags": "stays"},
    }


@pytest.mark.parametrize("text", ["{", "[]", '{"a": "b"}', '{"x": {"tags": 3}}', '{"y z": {"tags": [1]}}'])
def test_what_is_no_metadata_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "meta.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError, match="meta.json"):
        captions_of(path, PICTURES[:2], ROOT)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be read"):
        read_entries(tmp_path / "none.json")
    with pytest.raises(OutputError, match="cannot be written"):
        write_entries(tmp_path / "none" / "meta.json", {})
