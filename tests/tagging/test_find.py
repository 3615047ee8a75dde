"""Taggers where people have them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lora_lab.tagging.find import describe, find_taggers, hub_cache, open_place
from lora_lab.tagging.known import KNOWN, recognise
from lora_lab.tagging.tags import TaggerError


def place(folder: Path, model: str = "model.onnx", tags: str = "selected_tags.csv") -> Path:
    """Files that look like a tagger's; nobody opens them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / model).write_bytes(b"")
    (folder / tags).write_text("name,category\n")
    return folder


def test_every_layout_of_other_programs_is_found(tmp_path: Path) -> None:
    cache = tmp_path / "interrogators" / "models--SmilingWolf--wd-swinv2-tagger-v3" / "snapshots" / "f00d"
    place(cache)
    place(tmp_path / "scripts" / "wd14_tagger_model" / "SmilingWolf_wd-v1-4-convnext-tagger-v2")
    place(tmp_path / "TaggerOnnx" / "Z3D-E621-Convnext", tags="tags-selected.csv")
    flat = tmp_path / "flat"
    place(flat, "wd-v1-4-moat-tagger-v2.onnx", "wd-v1-4-moat-tagger-v2.csv")
    place(flat, "my own.onnx", "my own.csv")
    place(tmp_path / "other" / ".hidden")
    (tmp_path / "other" / "upscaler.onnx").write_bytes(b"")
    found = {tagger.name: tagger for tagger in find_taggers([tmp_path / "nowhere", tmp_path])}
    assert {name: t.card for name, t in found.items()} == {
        "wd-swinv2-tagger-v3": 0.2653, "wd-v1-4-convnext-tagger-v2": 0.3685, "Z3D-E621-Convnext": None,
        "wd-v1-4-moat-tagger-v2": 0.3771, "my own": None,
    }  # fmt: skip
    assert found["wd-swinv2-tagger-v3"].path == cache
    assert found["my own"].path == flat / "my own.onnx"


def test_the_first_place_wins(tmp_path: Path) -> None:
    ours = place(tmp_path / "ours" / "wd-vit-tagger-v3")
    place(tmp_path / "theirs" / "wd-vit-tagger-v3")
    assert [t.path for t in find_taggers([tmp_path / "ours", tmp_path / "theirs"])] == [ours]


def test_a_ring_of_links_ends(tmp_path: Path) -> None:
    place(tmp_path / "a" / "tagger")
    try:
        os.symlink(tmp_path, tmp_path / "a" / "ring", target_is_directory=True)
    except OSError:
        pytest.skip("links need a right here")
    assert [t.name for t in find_taggers([tmp_path])] == ["tagger"]


def test_a_chosen_folder_may_lie_above_the_tagger(tmp_path: Path) -> None:
    inner = place(tmp_path / "models" / "one")
    assert open_place(tmp_path).path == inner
    assert open_place(inner).name == "one"
    place(tmp_path / "models" / "two")
    with pytest.raises(TaggerError, match="2 taggers.*choose one: one, two"):
        open_place(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(TaggerError, match=r"no model\.onnx"):
        open_place(tmp_path / "empty")
    with pytest.raises(TaggerError, match="no such folder"):
        open_place(tmp_path / "nowhere")


def test_names_are_recognised_in_any_spelling_of_a_path() -> None:
    for name, known in KNOWN.items():
        assert recognise(f"/x/SmilingWolf_{name}/") is known
        assert recognise(f"models--SmilingWolf--{name.upper()}") is known
        assert 0 < known.card < 1
    assert recognise("/x/ml-danbooru") is None
    assert describe(Path("/x/wd-vit-tagger-v3/a/b/c/d/mine")).name == "mine"  # a folder far above says nothing


def test_the_hubs_cache_is_where_its_variables_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert hub_cache().parts[-3:] == (".cache", "huggingface", "hub")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert hub_cache() == tmp_path / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "x"))
    assert hub_cache() == tmp_path / "x"
