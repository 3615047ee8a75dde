"""The check of a folder: kohya's arithmetic, and every bad input as one clear line."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from lora_lab.dataset.options import DatasetOptions
from lora_lab.dataset.scan import ScanReport, epoch_items, scan
from lora_lab.dataset.thumbnails import thumbnail
from lora_lab.errors import DatasetError

SMALL = DatasetOptions(resolution=(64, 64), min_bucket_reso=32, max_bucket_reso=128, bucket_reso_steps=32)


def picture(path: Path, size: tuple[int, int] = (64, 64), caption: str | None = "a, b", colour: str = "red") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption, encoding="utf-8")
    return path


def rules(report: ScanReport) -> set[str]:
    return {problem.rule for problem in report.problems}


def test_subsets_repeats_buckets_and_steps(tmp_path: Path) -> None:
    for i in range(5):
        picture(tmp_path / "3_mika" / f"{i}.png")
    picture(tmp_path / "2_rin dress" / "wide.png", (128, 32))
    options = replace(SMALL, train_batch_size=4)
    report = scan(tmp_path, options)
    assert [(s.name, s.repeats, len(s.pictures)) for s in report.subsets] == [("rin dress", 2, 1), ("mika", 3, 5)]
    assert report.bucket_counts == {(64, 64): 15, (128, 32): 2}
    # A batch never mixes buckets: ceil(15/4) + ceil(2/4).
    assert report.batches_per_epoch == 5
    assert report.steps_per_epoch(2) == 3
    assert report.to_json()["images"] == 6
    assert not report.problems
    assert report.tag_frequency()["3_mika"] == {"a": 5, "b": 5}


def test_regularisation_pictures_are_entered_until_there_are_as_many(tmp_path: Path) -> None:
    for i in range(5):
        picture(tmp_path / "set" / "2_x" / f"{i}.png")
    for i in range(3):
        picture(tmp_path / "few" / "1_y" / f"{i}.png")
    for i in range(14):
        picture(tmp_path / "many" / "1_y" / f"{i:02d}.png")
    for name, expected in (("few", [4, 3, 3]), ("many", [1] * 10)):
        items = epoch_items(scan(tmp_path / "set", SMALL, tmp_path / name))
        assert [n for item, n in items if item.subset.regularisation] == expected


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such folder.*choose the folder"):
        scan(tmp_path / "nothing", SMALL)


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    assert rules(scan(tmp_path, SMALL)) == {"empty"}


def test_only_broken_pictures(tmp_path: Path) -> None:
    (tmp_path / "1_x").mkdir()
    (tmp_path / "1_x" / "a.png").write_bytes(b"no picture")
    (tmp_path / "1_x" / "b.jpg").write_bytes(b"")
    report = scan(tmp_path, SMALL)
    assert [p.rule for p in report.problems] == ["broken-picture", "broken-picture", "empty-subset"]
    assert "empty" in report.problems[1].why
    assert report.images == 0


def test_a_truncated_picture_is_named_when_it_is_decoded(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from lora_lab.dataset.dataset import Dataset

    path = picture(tmp_path / "1_x" / "a.png", (200, 200))
    Image.effect_noise((200, 200), 90).convert("RGB").save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    dataset = Dataset(scan(tmp_path, SMALL))
    with pytest.raises(DatasetError, match=r"a\.png"):
        list(dataset.prepare(lambda pixels: torch.zeros(len(pixels), 4, 8, 8), "vae"))


def test_one_pixel_and_twenty_thousand(tmp_path: Path) -> None:
    picture(tmp_path / "1_x" / "one.png", (1, 1))
    Image.new("1", (20_000, 20_000)).save(tmp_path / "1_x" / "huge.png")
    report = scan(tmp_path, SMALL)
    assert {"too-small", "too-large"} <= rules(report)
    assert all(p.severity == "error" for p in report.problems if p.rule.startswith("too-"))


def test_an_animated_picture_is_named(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (64, 64), c) for c in ("red", "blue")]
    (tmp_path / "1_x").mkdir()
    frames[0].save(tmp_path / "1_x" / "a.webp", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "1_x" / "b.gif", save_all=True, append_images=frames[1:])
    assert {"animated", "unknown-format"} <= rules(scan(tmp_path, SMALL))


@pytest.mark.parametrize(
    ("data", "rule", "text"),
    [
        ("café, chapeau".encode("latin-1"), "caption-encoding", "café, chapeau"),
        (b"\xef\xbb\xbfhat, bow", "caption-bom", "hat, bow"),
        (b"tag, " * 200_000, "caption-too-long", "mika"),
        (b"  \r\n", "caption-empty", "mika"),
    ],
)
def test_odd_caption_files_are_read_and_named(tmp_path: Path, data: bytes, rule: str, text: str) -> None:
    path = picture(tmp_path / "1_mika" / "a.png", caption=None)
    path.with_suffix(".txt").write_bytes(data)
    before = path.with_suffix(".txt").read_bytes()
    report = scan(tmp_path, SMALL)
    assert rule in rules(report)
    assert report.items[0].picture.caption == text
    assert path.with_suffix(".txt").read_bytes() == before


def test_a_folder_without_repeats_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "1_x" / "a.png")
    picture(tmp_path / "mika" / "a.png")
    problem = next(p for p in scan(tmp_path, SMALL).problems if p.rule == "no-repeats")
    assert "1_mika" in problem.remedy


def test_the_leaf_folder_works_too(tmp_path: Path) -> None:
    picture(tmp_path / "5_mika" / "a.png")
    report = scan(tmp_path / "5_mika", SMALL)
    assert rules(report) == {"leaf-folder"}
    assert (report.subsets[0].name, report.subsets[0].repeats) == ("mika", 5)


def test_shared_stems_missing_captions_and_keyword_style(tmp_path: Path) -> None:
    picture(tmp_path / "1_x" / "a.png")
    picture(tmp_path / "1_x" / "a.jpg", caption=None)
    picture(tmp_path / "1_x" / "b.png", caption=None)
    picture(tmp_path / "1_y" / "c.png", caption=None)
    assert {"shared-caption", "no-caption", "keyword-style"} <= rules(scan(tmp_path, SMALL))


def test_odd_file_names(tmp_path: Path) -> None:
    for name in ("with space.png", "日本語.png", "#1.png", "x" * 200 + ".png"):
        picture(tmp_path / "1_x" / name)
    assert scan(tmp_path, SMALL).images == 4


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_dangling_link_is_no_picture(tmp_path: Path) -> None:
    picture(tmp_path / "1_x" / "a.png")
    (tmp_path / "1_x" / "b.png").symlink_to(tmp_path / "gone.png")
    assert scan(tmp_path, SMALL).images == 1


def test_soft_and_cropped_pictures_are_warned_of(tmp_path: Path) -> None:
    picture(tmp_path / "1_x" / "small.png", (20, 20))
    picture(tmp_path / "1_x" / "long.png", (640, 64))
    assert {"small", "cropped"} <= rules(scan(tmp_path, SMALL))


def test_scan_needs_no_torch(tmp_path: Path) -> None:
    picture(tmp_path / "1_x" / "a.png")
    code = (
        "import sys; from pathlib import Path; from lora_lab.dataset.scan import scan;"
        "from lora_lab.dataset.options import DatasetOptions; scan(Path(sys.argv[1]), DatasetOptions());"
        "sys.exit('torch' in sys.modules)"
    )
    root = Path(__file__).resolve().parents[2]
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=root, check=False).returncode == 0


def test_thumbnails_are_small_and_follow_the_picture(tmp_path: Path) -> None:
    path = picture(tmp_path / "1_x" / "a.png", (1000, 500))
    small = thumbnail(path, tmp_path / "cache")
    assert Image.open(small).size == (256, 128)
    assert thumbnail(path, tmp_path / "cache") == small
    picture(path, (500, 1000))
    assert thumbnail(path, tmp_path / "cache") != small
