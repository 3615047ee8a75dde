"""The check of a folder: kohya's arithmetic, and every bad input as one clear line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from lora_lab.dataset import pictures
from lora_lab.dataset.options import DatasetOptions
from lora_lab.dataset.scan import ScanReport, epoch_items, require_pictures, scan
from lora_lab.dataset.thumbnails import thumbnail, training_view
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
    for i in range(9):
        picture(tmp_path / "more" / "4_y" / f"{i}.png")
    # "more": the third picture's four repeats go beyond the ten that are wanted, and are entered all the same.
    for name, expected in (("few", [4, 3, 3]), ("many", [1] * 10), ("more", [4, 4, 4])):
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


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "bmp"])
def test_a_truncated_picture_is_named_by_the_check(tmp_path: Path, ending: str) -> None:
    good = picture(tmp_path / "1_x" / f"good.{ending}", (200, 200))
    path = picture(tmp_path / "1_x" / f"half.{ending}", (200, 200))
    for each in (good, path):
        Image.effect_noise((200, 200), 90).convert("RGB").save(each)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    report = scan(tmp_path, SMALL)
    assert [(p.file, p.severity) for p in report.problems if p.rule == "broken-picture"] == [(str(path), "error")]
    assert [item.picture.path for item in report.items] == [good]


def test_bytes_behind_a_jpeg_do_no_harm(tmp_path: Path) -> None:
    path = picture(tmp_path / "1_x" / "motion photo.jpg")
    path.write_bytes(path.read_bytes() + b"film" * 5000)
    assert scan(tmp_path, SMALL).images == 1


def test_a_picture_damaged_inside_is_named_when_it_is_decoded(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from lora_lab.dataset.dataset import Dataset

    path = picture(tmp_path / "1_x" / "a.png", (200, 200))
    Image.effect_noise((200, 200), 90).convert("RGB").save(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 200] = bytes(200)
    path.write_bytes(data)
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
        ("hat, 日本".encode("utf-16"), "caption-encoding", "hat, 日本"),
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


def test_a_photo_with_a_second_picture_in_it_is_no_animation(tmp_path: Path) -> None:
    (tmp_path / "1_x").mkdir()
    frames = [Image.new("RGB", (64, 64), c) for c in ("red", "blue")]
    frames[0].save(tmp_path / "1_x" / "a.jpg", format="MPO", save_all=True, append_images=frames[1:])
    assert scan(tmp_path, SMALL).images == 1


def test_a_format_that_this_pillow_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_formats", lambda: ("PNG",))
    (tmp_path / "1_x").mkdir()
    (tmp_path / "1_x" / "a.jxl").write_bytes(b"\xff\x0a" + bytes(100))
    problem = scan(tmp_path, SMALL).problems[0]
    assert (problem.rule, problem.remedy) == ("unknown-format", "save it as a PNG")


def test_a_file_that_calls_other_programs_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "1_x").mkdir()
    (tmp_path / "1_x" / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n")
    assert "broken-picture" in rules(scan(tmp_path, SMALL))


def test_a_folder_without_repeats_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "1_x" / "a.png")
    for name in ("mika", "0_rin", "-2_aki", "1.5_yui"):
        picture(tmp_path / name / "a.png")
    picture(tmp_path / ".trash" / "a.png")
    picture(tmp_path / "validation" / "a.png")
    report = scan(tmp_path, SMALL)
    found = {Path(p.file).name: p for p in report.problems if p.rule == "no-repeats"}
    assert set(found) == {"mika", "0_rin", "-2_aki", "1.5_yui"}
    assert "1_mika" in found["mika"].remedy
    assert "1_rin" in found["0_rin"].remedy
    assert [Path(p.file).name for p in report.problems if p.rule == "held-out"] == ["validation"]
    assert report.images == 1


def test_only_folders_without_repeats(tmp_path: Path) -> None:
    picture(tmp_path / "mika" / "a.png")
    report = scan(tmp_path, SMALL)
    assert report.images == 0
    with pytest.raises(DatasetError, match="rename it, for instance to 1_mika"):
        require_pictures(report)


def test_pictures_too_deep_and_captions_astray_are_named(tmp_path: Path) -> None:
    picture(tmp_path / "1_x" / "a.png")
    picture(tmp_path / "1_x" / "more" / "b.png")
    (tmp_path / "1_x" / "gone.txt").write_text("a")
    picture(tmp_path / "1_y" / "c.png", caption=None).with_suffix(".caption").write_text("c")
    report = scan(tmp_path, SMALL)
    assert {"nested-folder", "caption-without-picture", "caption-extension"} <= rules(report)
    assert next(p for p in report.problems if p.rule == "caption-extension").remedy.endswith(".caption")
    assert scan(tmp_path, replace(SMALL, caption_extension=".caption")).items[-1].picture.caption == "c"


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
    longest = "x" * 251
    for name in ("with space", "日本語", "#1", "a.b", "100%", "[x]{y}", longest):
        picture(tmp_path / "1_x" / f"{name}.png", caption=name)
    (tmp_path / "1_x" / "._a.png").write_bytes(b"what macOS leaves behind")
    report = scan(tmp_path, SMALL)
    assert sorted(item.picture.caption for item in report.items) == sorted(
        ["with space", "日本語", "#1", "a.b", "100%", "[x]{y}", longest]
    )
    assert not report.problems
    # .caption is longer than .txt: there can be no such file for the longest name.
    other = scan(tmp_path, replace(SMALL, caption_extension=".caption"))
    assert rules(other) == {"keyword-style", "caption-extension"}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take no such names")
def test_a_name_that_is_no_unicode_can_be_told(tmp_path: Path) -> None:
    folder = tmp_path / "1_x"
    folder.mkdir()
    path = Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.png"))
    path.write_bytes(b"broken")
    good = picture(Path(os.fsdecode(os.fsencode(folder) + b"/gut\xe9.png")))
    report = scan(tmp_path, SMALL)
    assert "caf\N{REPLACEMENT CHARACTER}.png" in json.dumps(report.to_json(), ensure_ascii=False).encode().decode()
    assert thumbnail(good, tmp_path / "cache").is_file()


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_links_are_followed_and_dangling_ones_are_no_pictures(tmp_path: Path) -> None:
    away = picture(tmp_path / "away" / "c.png")
    root = tmp_path / "set"
    picture(root / "1_x" / "a.png")
    (root / "1_x" / "b.png").symlink_to(tmp_path / "gone.png")
    (root / "1_x" / "c.png").symlink_to(away)
    (root / "1_x" / "loop.png").symlink_to(root / "1_x" / "loop.png")
    (root / "2_y").symlink_to(away.parent, target_is_directory=True)
    assert [(s.name, len(s.pictures)) for s in scan(root, SMALL).subsets] == [("x", 2), ("y", 1)]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="an administrator may read everything")
def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "1_x" / "a.png")
    picture(tmp_path / "1_y" / "a.png").parent.chmod(0)
    try:
        assert "unreadable-folder" in rules(scan(tmp_path, SMALL))
    finally:
        (tmp_path / "1_y").chmod(0o755)


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


def test_the_training_view_is_the_crop(tmp_path: Path) -> None:
    path = picture(tmp_path / "1_x" / "a.png", (1000, 100))
    item = scan(tmp_path, SMALL).items[0]
    view = Image.open(training_view(path, item.placement, tmp_path / "cache"))
    assert view.size == item.placement.bucket == (128, 32)
    assert thumbnail(path, tmp_path / "cache") != training_view(path, item.placement, tmp_path / "cache")


def test_two_thousand_pictures_are_checked_quickly(tmp_path: Path) -> None:
    first = picture(tmp_path / "1_x" / "0.png", (64, 64))
    data = first.read_bytes()
    for i in range(1, 2000):
        (tmp_path / "1_x" / f"{i}.png").write_bytes(data)
        (tmp_path / "1_x" / f"{i}.txt").write_text("a, b")
    began = time.process_time()
    assert scan(tmp_path, SMALL).images == 2000
    assert time.process_time() - began < 8
