"""Subsets that are named one by one: metadata files, several datasets, and what of them is trained on."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from PIL import Image

from lora_lab.dataset.epochs import Epochs
from lora_lab.dataset.metadata_file import caption_of, read_pictures
from lora_lab.dataset.options import DatasetOptions
from lora_lab.dataset.scan import epoch_items
from lora_lab.dataset.sources import SubsetSource, scan_sources
from lora_lab.errors import DatasetError

SMALL = DatasetOptions(resolution=(64, 64), min_bucket_reso=32, max_bucket_reso=128, bucket_reso_steps=32)


def pictures(folder: Path, count: int, size: int = 64) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        Image.new("RGB", (size, size)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"{folder.name} {number}, a, b", encoding="utf-8")
    return folder


def test_batches_never_mix_datasets_and_each_has_its_own_size(tmp_path: Path) -> None:
    large = dataclasses.replace(SMALL, resolution=(96, 96), train_batch_size=3)
    sources = [
        SubsetSource(pictures(tmp_path / "a", 4), dataclasses.replace(SMALL, train_batch_size=2), repeats=2),
        SubsetSource(pictures(tmp_path / "b", 5, 96), large, dataset=1),
        SubsetSource(pictures(tmp_path / "c", 2), large, dataset=1, regularisation=True),
        SubsetSource(pictures(tmp_path / "d", 1), dataclasses.replace(SMALL, train_batch_size=2), loss_weight=0.5),
    ]
    report = scan_sources(sources)
    counts = {0: 9, 1: 5 + 5}
    found = [(item.subset.dataset, n) for item, n in epoch_items(report)]
    assert {d: sum(n for own, n in found if own == d) for d in counts} == counts, "regularisation fills up its dataset"
    epochs = Epochs(report)
    plans = epochs.batches(1)
    assert len(plans) == report.batches_per_epoch == 5 + 4
    for plan in plans:
        items = [epochs.items[i] for i in plan.indices]
        assert len({(i.subset.dataset, i.placement.bucket) for i in items}) == 1
        assert len(items) <= (2, 3)[items[0].subset.dataset]
    assert sorted(i for plan in plans for i in plan.indices) == list(range(19))


def test_captions_are_each_subsets_own(tmp_path: Path) -> None:
    prefixed = dataclasses.replace(SMALL, caption_prefix="p", shuffle_caption=True, keep_tokens=1)
    sources = [
        SubsetSource(pictures(tmp_path / "a", 1), SMALL),
        SubsetSource(pictures(tmp_path / "b", 1), prefixed),
    ]
    epochs = Epochs(scan_sources(sources))
    found = {epochs.caption(index, epoch) for index in (0, 1) for epoch in range(1, 30)}
    assert found == {"a 0, a, b", "p b 0, a, b", "p b 0, b, a"}


def test_a_folder_that_is_named_twice_counts_once(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "a", 2)
    report = scan_sources([SubsetSource(folder, SMALL), SubsetSource(folder, SMALL, repeats=3)])
    assert len(report.items) == 2
    assert [p.rule for p in report.problems if p.severity == "warning"] == ["twice"]


def test_a_picture_without_words_is_named(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "a", 2)
    (folder / "1.txt").unlink()
    report = scan_sources([SubsetSource(folder, SMALL)])
    assert [p.rule for p in report.problems] == ["no-caption"]
    assert [item.picture.caption for item in scan_sources([SubsetSource(folder, SMALL, "girl")]).items][1] == "girl"


def test_a_metadata_file_names_pictures_and_captions(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "a", 4)
    entries = {
        str(folder / "0.png"): {"caption": "a girl", "tags": "mika, hat"},
        "1.png": {"caption": "alone"},
        "2": {"tags": ["x", "y"]},
        "9.png": {"tags": "gone"},
    }
    file = tmp_path / "meta.json"
    file.write_text(json.dumps(entries), encoding="utf-8")
    found, problems = read_pictures(file, folder, SMALL)
    assert [p.caption for p in found] == ["a girl,mika, hat", "alone", "x, y"]
    assert [(p.rule, Path(p.file).name) for p in problems] == [("gone", "9.png")]
    report = scan_sources([SubsetSource(folder, SMALL, repeats=3, metadata=file)])
    assert [s.label for s in report.subsets] == ["meta.json"]
    assert sum(n for _, n in epoch_items(report)) == 9
    lines = tmp_path / "meta.jsonl"
    lines.write_text('{"image_path": "3.png", "caption": "c", "image_size": [64, 64]}\n\n', encoding="utf-8")
    assert [p.caption for p in read_pictures(lines, folder, SMALL)[0]] == ["c"]


def test_tags_follow_each_line_where_lines_are_drawn() -> None:
    wild = DatasetOptions(enable_wildcard=True)
    assert caption_of({"caption": "a\n\nb", "tags": "t\nu"}, wild, Path()) == "a,t,u\nb,t,u"
    assert caption_of({"tags": "t"}, wild, Path()) == "t"
    assert caption_of({"caption": None}, wild, Path()) == ""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "no JSON"), ("[1]", "no metadata of kohya"), ('{"a": 1}', "no metadata of kohya"),
        ('{"a": {"tags": 3}}', "is no text"), ('{"a.png": {}}', "relative path"),
    ],
)  # fmt: skip
def test_a_metadata_file_that_is_none_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "meta.json"
    file.write_text(text, encoding="utf-8")
    folder = pictures(tmp_path / "a", 1) if "tags" in text else None
    if folder is not None:
        (folder / "a.png").write_bytes((folder / "0.png").read_bytes())
    with pytest.raises(DatasetError, match=says):
        read_pictures(file, folder, SMALL)
    lines = tmp_path / "meta.jsonl"
    lines.write_text("{}", encoding="utf-8")
    with pytest.raises(DatasetError, match="line 1"):
        read_pictures(lines, None, SMALL)
