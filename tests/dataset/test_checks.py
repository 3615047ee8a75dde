"""The dataset's checks on pictures made for it: each speaks where it must, and none on the demo world."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps

from lora_lab.dataset.checks import balance, by_tags, measure, rules
from lora_lab.dataset.checks.measure import Measures, measure_all
from lora_lab.dataset.options import DatasetOptions
from lora_lab.dataset.problems import Problem
from lora_lab.dataset.scan import ScanReport, scan
from lora_lab.demo import assets, drawing, world
from lora_lab.errors import Interrupted

OPTIONS = DatasetOptions(resolution=(256, 256))


def drawn(seed: int, size: int = 256, **more: object) -> Image.Image:
    return drawing.draw(world.Attributes(**more), seed, size)  # type: ignore[arg-type]


def dataset(folder: Path, pictures: dict[str, Image.Image], captions: dict[str, str] | None = None) -> ScanReport:
    place = folder / "2_mika"
    place.mkdir(parents=True)
    for name, picture in pictures.items():
        picture.save(place / f"{name}.png")
    for name, text in (captions or {}).items():
        (place / f"{name}.txt").write_text(text, encoding="utf-8")
    return scan(folder, OPTIONS)


def looked(report: ScanReport) -> list[Problem]:
    return rules.look(report.items, measure_all([item.picture.path for item in report.items], None))


SPOILED: dict[str, Callable[[Image.Image], Image.Image]] = {
    "blurred": lambda p: p.filter(ImageFilter.GaussianBlur(5)),
    "dark": lambda p: p.point(lambda v: v // 7),
    "flat": lambda p: p.point(lambda v: 120 + v // 40),
    "bars": lambda p: ImageOps.expand(p, (0, 30), "black"),
    "long": lambda p: p.resize((900, 256)),
}


@pytest.mark.parametrize("rule", SPOILED)
def test_a_spoiled_picture_is_named_and_a_good_one_is_not(tmp_path: Path, rule: str) -> None:
    good = drawn(1, background="grass", clothes="red shirt")
    report = dataset(tmp_path, {"bad": SPOILED[rule](drawn(2, background="night sky")), "good": good})
    found = looked(report)
    assert [(Path(p.file).stem, p.rule) for p in found] == [("bad", rule)]
    assert found[0].remedy


def test_near_duplicates_are_found_through_size_and_compression(tmp_path: Path) -> None:
    first = drawn(3, hair="red", background="grass")
    again = first.resize((200, 200)).filter(ImageFilter.GaussianBlur(0.6))
    report = dataset(tmp_path, {"a": first, "b": again, "c": drawn(4, hair="blue", hair_style="twintails")})
    found = [p for p in looked(report) if p.rule == "near-duplicate"]
    assert [Path(p.file).stem for p in found] == ["b"]
    assert "a.png" in found[0].why


def test_another_hair_colour_is_no_duplicate(tmp_path: Path) -> None:
    pictures = {f"p{n}": drawn(5, hair=colour) for n, colour in enumerate(("red", "blue", "white", "black"))}
    assert not [p for p in looked(dataset(tmp_path, pictures)) if p.rule == "near-duplicate"]


def test_one_background_everywhere(tmp_path: Path) -> None:
    same = {f"s{n}": drawn(n, background="green background", hair=("red", "blue")[n % 2]) for n in range(8)}
    assert [p.rule for p in looked(dataset(tmp_path / "same", same)) if p.rule == "one-background"]
    backgrounds = (*world.SCENES, *world.PLAIN_BACKGROUNDS)
    mixed = {f"m{n}": drawn(n, background=backgrounds[n]) for n in range(8)}
    assert not [p for p in looked(dataset(tmp_path / "mixed", mixed)) if p.rule == "one-background"]


def test_the_demo_datasets_pass(tmp_path: Path) -> None:
    assets.write_dataset(tmp_path)
    for kind in ("character", "style"):
        options = DatasetOptions(resolution=(64, 64), min_bucket_reso=64, bucket_reso_steps=64)
        report = scan(tmp_path / kind, options)
        assert looked(report) == []
        assert [p.rule for p in by_tags.look(report.items, report.subsets)] == []


def test_numbers_are_kept_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = dataset(tmp_path / "d", {"a": drawn(1), "b": drawn(2)})
    paths = [item.picture.path for item in report.items]
    first = measure_all(paths, tmp_path / "kept")
    calls: list[Path] = []
    real = measure._measured
    monkeypatch.setattr(measure, "_measured", lambda path: calls.append(path) or real(path))
    assert measure_all(paths, tmp_path / "kept") == first
    assert calls == []
    drawn(9).save(paths[0])
    assert measure_all(paths, tmp_path / "kept")[paths[0]] != first[paths[0]]
    assert calls == [paths[0]]
    (tmp_path / "kept" / measure.KEPT).write_text("{damaged")
    assert set(measure_all(paths, tmp_path / "kept")) == set(paths)


def test_a_stop_keeps_what_was_measured(tmp_path: Path) -> None:
    report = dataset(tmp_path / "d", {f"p{n:02}": drawn(n, 64) for n in range(20)})
    paths = [item.picture.path for item in report.items]

    def stop(stage: str, done: int, total: int) -> None:
        raise Interrupted("enough")

    with pytest.raises(Interrupted):
        measure_all(paths, tmp_path / "kept", stop)
    assert len(measure._read(tmp_path / "kept")) >= 16


def test_broken_pixels_are_named(tmp_path: Path) -> None:
    report = dataset(tmp_path, {"a": drawn(1), "b": drawn(2)})
    path = report.items[0].picture.path
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    measured = measure_all([item.picture.path for item in report.items], None)
    assert [p.file for p in measure.unreadable([i.picture.path for i in report.items], measured)] == [str(path)]


def test_a_picture_of_one_pixel_can_be_measured() -> None:
    assert isinstance(measure.measure(Image.new("RGB", (1, 1))), Measures)
    assert np.isfinite(measure.measure(Image.new("RGB", (2, 300), "red")).sharpness)


def test_tags_tell_what_is_cut_off_covered_and_always_the_same(tmp_path: Path) -> None:
    pictures = {f"p{n}": drawn(n, 64) for n in range(8)}
    captions = {name: "mika, standing, upper body" for name in pictures} | {"p0": "mika, standing, head_out_of_frame"}
    captions["p1"] = "mika, facing away, upper body, standing"
    report = dataset(tmp_path, pictures, captions)
    found = {p.rule: p for p in by_tags.look(report.items, report.subsets)}
    assert set(found) == {"cut-off", "covered", "one-pose"}
    assert Path(found["cut-off"].file).stem == "p0"


def test_uneven_concepts_are_told_their_repeats(tmp_path: Path) -> None:
    for name, count in (("1_few", 2), ("4_many", 10)):
        (tmp_path / name).mkdir()
        for n in range(count):
            Image.new("RGB", (64, 64), (n * 20, 0, 0)).save(tmp_path / name / f"{n}.png")
    report = scan(tmp_path, OPTIONS)
    assert [(s.items, round(s.share, 2), s.suggested) for s in balance.shares(report.subsets)] == [
        (2, 0.05, 20), (40, 0.95, 4),
    ]  # fmt: skip
    (problem,) = balance.look(report.subsets)
    assert problem.remedy == "give it 20 repeats instead of 1"
    assert balance.look(report.subsets[:1]) == []
