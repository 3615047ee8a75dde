"""The tagger session on a tiny real ONNX model whose outputs can be worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lora_lab.errors import SettingsError
from lora_lab.tagging.score import found
from lora_lab.tagging.session import Tagger, prepare
from lora_lab.tagging.tags import Tag, TaggerError, read_tags
from tests.tagging.nets import CSV, SIDE, write_model, write_tagger

pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tagger(tmp_path)


def picture(colour: Any, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> Image.Image:
    return Image.new(mode, size, colour)


def test_columns_are_blue_green_red_between_0_and_1(folder: Path) -> None:
    tagger = Tagger(folder)
    out = tagger.probabilities([picture((255, 0, 0)), picture((0, 0, 255)), picture((0, 128, 0))])
    np.testing.assert_allclose(out, [[0, 0, 1], [1, 0, 0], [0, 128 / 255, 0]], atol=1e-6)
    assert out.dtype == np.float32
    assert tagger.size == SIDE


def test_tags_carry_names_categories_counts(folder: Path) -> None:
    assert Tagger(folder).tags == (Tag("general", 9, 5), Tag("blue", 0, 7), Tag("green_hair", 0, 0))


def test_narrow_pictures_get_white_on_both_sides() -> None:
    array = prepare(picture((0, 0, 0), (4, 8)), 8)
    np.testing.assert_array_equal(array[:, 2:6], 0)
    np.testing.assert_array_equal(array[:, :2], 255)
    np.testing.assert_array_equal(array[:, 6:], 255)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_places_are_white(mode: str) -> None:
    np.testing.assert_array_equal(prepare(Image.new(mode, (8, 8), 0), 8), 255)


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "1"])
def test_every_mode_is_read(mode: str) -> None:
    assert prepare(picture((255, 255, 255)).convert(mode), 16).shape == (16, 16, 3)


def test_a_fixed_batch_of_one_gives_the_same(folder: Path, tmp_path: Path) -> None:
    pictures = [picture((i * 40, 90, 200 - i * 30)) for i in range(4)]
    free = Tagger(folder).probabilities(pictures)
    write_model(folder, batch=1)
    np.testing.assert_allclose(Tagger(folder).probabilities(pictures), free, atol=1e-6)
    write_model(folder, batch=3)
    np.testing.assert_allclose(Tagger(folder).probabilities(pictures), free, atol=1e-6)


def test_no_pictures_no_rows(folder: Path) -> None:
    assert Tagger(folder).probabilities([]).shape == (0, 3)


def test_a_list_that_does_not_fit_is_refused(folder: Path) -> None:
    (folder / "selected_tags.csv").write_text(CSV + "4,red,0,1\n", encoding="utf-8")
    with pytest.raises(TaggerError, match="3 outputs and the list 4 tags"):
        Tagger(folder)


def test_a_list_that_does_not_fit_unnamed_outputs_is_refused(folder: Path) -> None:
    write_model(folder, outputs="k")
    assert Tagger(folder).tags
    (folder / "selected_tags.csv").write_text("name,category\nblue,0\n", encoding="utf-8")
    with pytest.raises(TaggerError, match="3 outputs and the list 1 tags"):
        Tagger(folder)


def test_another_kind_of_model_is_refused(folder: Path) -> None:
    write_model(folder, channels=4)
    with pytest.raises(TaggerError, match="no WD tagger"):
        Tagger(folder)


def test_a_truncated_model_is_refused(folder: Path) -> None:
    data = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(data[: len(data) // 2])
    with pytest.raises(TaggerError, match="cannot be opened"):
        Tagger(folder)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaggerError, match=r"no model\.onnx"):
        Tagger(tmp_path)
    write_model(tmp_path)
    with pytest.raises(TaggerError, match=r"no selected_tags\.csv"):
        Tagger(tmp_path)
    with pytest.raises(TaggerError, match="no such folder"):
        Tagger(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n1,2\n", "no column 'category'"),
        ("name,category\nblue,x\n", "damaged at line 2"),
        ("name,category\nblue\n", "damaged at line 2"),
        ("", "no column"),
    ],
)
def test_damaged_lists_are_named(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "selected_tags.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TaggerError, match=says):
        read_tags(path)


def test_columns_are_found_by_name_and_a_bom_is_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "selected_tags.csv"
    path.write_text("﻿count,category,name\n3,4,saber\n", encoding="utf-8")
    assert read_tags(path) == (Tag("saber", 4, 3),)


def test_the_score_is_the_share_of_pairs() -> None:
    tags = (Tag("red_hair", 0), Tag("hat", 0), Tag("tail", 0))
    probabilities = np.array([[0.9, 0.1, 0.0], [0.6, 0.7, 0.0]], dtype=np.float32)
    assert found(probabilities, tags, ["red hair", "hat"]) == 0.75
    assert found(probabilities, tags, ["red_hair"], threshold=0.8) == 0.5
    assert found(probabilities, tags, ["tail"]) == 0


def test_a_tag_that_the_tagger_lacks_is_refused() -> None:
    with pytest.raises(SettingsError, match="'horns'"):
        found(np.zeros((1, 1), np.float32), (Tag("hat", 0),), ["horns"])
    with pytest.raises(SettingsError, match="nothing to score"):
        found(np.zeros((0, 1), np.float32), (Tag("hat", 0),), ["hat"])


def test_channels_first_is_fed_the_same_numbers_in_its_layout(folder: Path) -> None:
    pictures = [picture((200, 100, 0)), picture((0, 255, 51), (16, 16))]
    expected = Tagger(folder).probabilities(pictures)
    write_model(folder, first=True)
    # That model does not divide, so its outputs are no probabilities as they are.
    with pytest.raises(TaggerError, match="no probabilities"):
        Tagger(folder)
    (folder / "selected_tags.csv").unlink()
    mapping = {str(i): {"tag": tag.name, "category": "General"} for i, tag in enumerate(read_csv())}
    (folder / "tag_mapping.json").write_text(json.dumps(mapping), encoding="utf-8")
    found = Tagger(folder)
    assert found.contract.channels_first
    # -1..1 in, a sigmoid behind: undone by hand it is the same.
    logits = np.log(found.probabilities(pictures) / (1 - found.probabilities(pictures)))
    np.testing.assert_allclose((logits + 1) / 2, expected, atol=1e-4)


def read_csv() -> list[Tag]:
    return [Tag("general", 9), Tag("blue", 0), Tag("green_hair", 0)]


def test_both_forms_of_a_tag_mapping_are_read(tmp_path: Path) -> None:
    path = tmp_path / "tag_mapping.json"
    path.write_text('{"1": {"tag": "safe", "category": "Rating"}, "0": {"tag": "a,b", "category": "Character"}}')
    assert read_tags(path) == (Tag("a b", 4), Tag("safe", 9))
    path.write_text('{"idx_to_tag": {"0": "x"}, "tag_to_category": {"x": "General"}}')
    assert read_tags(path) == (Tag("x", 0),)
    for damaged in ("[]", "{", '{"1": {"tag": "a", "category": "General"}}', '{"0": {"tag": "a", "category": "?"}}'):
        path.write_text(damaged)
        with pytest.raises(TaggerError, match="no tag mapping"):
            read_tags(path)


def test_a_batch_that_takes_too_much_memory_is_halved(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tagger = Tagger(folder)
    pictures = [prepare(picture((i * 40, 90, 200 - i * 30)), SIDE) for i in range(5)]
    expected = tagger.run(pictures)
    session, seen = tagger._session, []

    class Small:
        """Two pictures fit."""

        def run(self, names: None, feed: dict[str, Any]) -> Any:
            seen.append(len(feed["x"]))
            if seen[-1] > 2:
                raise RuntimeError("out of memory\nmore lines")
            return session.run(names, feed)

    monkeypatch.setattr(tagger, "_session", Small())
    np.testing.assert_array_equal(tagger.run(pictures), expected)
    assert max(n for n in seen if n <= 2) == 2
    assert seen[0] == 5


def test_a_graphics_card_that_fails_leaves_the_work_to_the_cpu(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    real = onnxruntime.InferenceSession
    asked: list[list[str]] = []

    def refusing(path: str, options: Any, providers: list[Any]) -> Any:
        asked.append([p if isinstance(p, str) else p[0] for p in providers])
        if len(providers) > 1:
            raise RuntimeError("libcublasLt.so.11: cannot open shared object file")
        return real(path, options, providers=providers)

    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: both)
    monkeypatch.setattr(onnxruntime, "InferenceSession", refusing)
    tagger = Tagger(folder)
    assert asked == [both, both[1:]]
    assert "CPU" in tagger.note
    assert tagger.on_cpu
    assert tagger.probabilities([picture((255, 0, 0))])[0, 2] == 1
    asked.clear()
    assert Tagger(folder, device="cpu").note == ""
    assert asked == [both[1:]]


def test_the_identity_is_the_content_not_the_place(folder: Path, tmp_path: Path) -> None:
    first = Tagger(folder).identity
    other = tmp_path / "elsewhere"
    write_tagger(other)
    assert Tagger(other).identity == first
    (other / "selected_tags.csv").write_text(CSV.replace("blue", "azure"), encoding="utf-8")
    assert Tagger(other).identity != first


def test_several_models_in_a_folder_are_told_apart(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_model(tmp_path, name=name)
        (tmp_path / f"{name}.csv").write_text(CSV.replace("blue", name), encoding="utf-8")
    with pytest.raises(TaggerError, match="2 models"):
        Tagger(tmp_path)
    assert Tagger(tmp_path / "two.onnx").tags[1].name == "two"
