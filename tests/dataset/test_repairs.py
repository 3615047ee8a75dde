"""Pictures put aside and back, repaired as new files, and concepts made and renamed: nothing is ever lost."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from PIL import Image

from lora_lab.dataset import remedies, side_folder, subsets
from lora_lab.dataset.options import DatasetOptions
from lora_lab.dataset.scan import scan
from lora_lab.errors import DatasetError, OutputError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "train" / "3_mika"
    folder.mkdir(parents=True)
    for name in ("a", "b", "we [i]rd *name"):
        picture = Image.new("RGBA", (40, 60), (200, 30, 30, 255))
        picture.putpixel((0, 0), (0, 0, 255, 0))
        picture.save(folder / f"{name.replace('*', '') if os.name == 'nt' else name}.png")
        (folder / f"{name.replace('*', '') if os.name == 'nt' else name}.txt").write_text(f"mika, {name}")
    return tmp_path / "train"


def files(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_aside_and_back_is_the_same(root: Path) -> None:
    before = files(root)
    pictures = sorted((root / "3_mika").glob("*.png"))
    away = side_folder.put_aside(root, pictures[:2])
    assert scan(root, DatasetOptions()).images == 1
    assert side_folder.aside(root) == sorted(away)
    assert sorted(files(root)) != sorted(before)
    assert set(files(root).values()) == set(before.values())
    assert side_folder.bring_back(root, away) == pictures[:2]
    assert files(root) == before
    assert side_folder.aside(root) == []
    assert not (root / ".aside" / "3_mika").exists()


def test_moves_happen_to_all_or_none(root: Path) -> None:
    before = files(root)
    pictures = sorted((root / "3_mika").glob("*.png"))
    with pytest.raises(DatasetError, match="gone"):
        side_folder.put_aside(root, [*pictures, root / "3_mika" / "no.png"])
    with pytest.raises(DatasetError, match="not in this folder"):
        side_folder.put_aside(root, [pictures[0], root.parent / "other.png"])
    with pytest.raises(DatasetError, match="gone"):
        side_folder.put_aside(root, [root / "3_mika" / ".." / "3_mika" / "a.png"])
    assert files(root) == before
    (away,) = side_folder.put_aside(root, [root / "3_mika" / "a.png"])
    Image.new("RGB", (20, 20)).save(root / "3_mika" / "a.png")
    now = files(root)
    with pytest.raises(OutputError, match="already"):
        side_folder.bring_back(root, [away])
    assert files(root) == now


def test_a_shared_caption_stays_with_the_picture_that_stays(root: Path) -> None:
    Image.new("RGB", (20, 20)).save(root / "3_mika" / "a.jpg")
    side_folder.put_aside(root, [root / "3_mika" / "a.jpg"])
    assert (root / "3_mika" / "a.txt").is_file()
    assert (root / "3_mika" / "a.png").is_file()


def test_a_failure_midway_takes_all_back(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files(root)
    real, calls = os.rename, iter(range(100))

    def failing(old: object, new: object) -> None:
        if next(calls) == 2:
            raise PermissionError(13, "not allowed")
        real(old, new)  # type: ignore[arg-type]

    monkeypatch.setattr(side_folder.os, "rename", failing)
    with pytest.raises(OutputError, match="cannot be moved"):
        side_folder.put_aside(root, sorted((root / "3_mika").glob("*.png")))
    monkeypatch.undo()
    assert files(root) == before


def test_repairs_are_new_files_with_the_caption(root: Path) -> None:
    path = root / "3_mika" / "a.png"
    before = files(root)
    made = [
        remedies.crop(path, (5, 5, 30, 40), word="head"), remedies.flip(path), remedies.rotate(path, 90),
        remedies.flatten(path, "#00ff00"), remedies.flip(path),
    ]  # fmt: skip
    names = ["a_head.png", "a_flip.png", "a_turn90.png", "a_flat.png", "a_flip2.png"]
    assert [p.name for p in made] == names
    assert [Image.open(p).size for p in made[:4]] == [(25, 35), (40, 60), (60, 40), (40, 60)]
    assert Image.open(made[3]).getpixel((0, 0)) == (0, 255, 0)
    assert Image.open(made[1]).getpixel((39, 0))[3] == 0
    assert Image.open(made[2]).getpixel((59, 0))[3] == 0
    assert all(p.with_suffix(".txt").read_text() == "mika, a" for p in made)
    now = files(root)
    assert {name: now[name] for name in before} == before
    assert not [name for name in now if name.endswith(".part")]


def test_wrong_repairs_are_refused(root: Path) -> None:
    path = root / "3_mika" / "a.png"
    before = files(root)
    (root / "3_mika" / "bad.png").write_bytes(b"no picture")
    for wrong in (
        lambda: remedies.crop(path, (0, 0, 400, 40)), lambda: remedies.crop(path, (0, 0, 4, 4)),
        lambda: remedies.rotate(path, 45), lambda: remedies.flatten(path, "no colour"),
        lambda: remedies.flip(root / "3_mika" / "bad.png"), lambda: remedies.flip(root / "3_mika" / "gone.png"),
    ):  # fmt: skip
        with pytest.raises(DatasetError):
            wrong()
    (root / "3_mika" / "bad.png").unlink()
    assert files(root) == before


def test_concepts_are_made_and_renamed_with_what_is_in_them(root: Path) -> None:
    before = set(files(root).values())
    made = subsets.create(root, 5, "mika  dress")
    assert made.name == "5_mika dress"
    renamed = subsets.rename(root / "3_mika", 12, "mika")
    assert renamed.name == "12_mika"
    assert subsets.rename(renamed, 12, "mika") == renamed
    assert set(files(root).values()) == before
    for wrong in ((0, "x"), (1, " "), (1, "a/b"), (1, "..")):
        with pytest.raises(DatasetError):
            subsets.create(root, *wrong)
    with pytest.raises(OutputError, match="of that name"):
        subsets.rename(renamed, 3, "MIKA dress")
    with pytest.raises(OutputError, match="of that name"):
        subsets.create(root, 99, "mika")
    with pytest.raises(DatasetError, match="gone"):
        subsets.rename(root / "3_mika", 1, "other")


def test_random_moves_lose_nothing(root: Path) -> None:
    r, before = random.Random(5), set(files(root).values())
    for _ in range(40):
        here, away = sorted((root / "3_mika").glob("*.png")), side_folder.aside(root)
        if here and r.random() < 0.6:
            side_folder.put_aside(root, r.sample(here, r.randint(1, len(here))))
        elif away:
            side_folder.bring_back(root, r.sample(away, r.randint(1, len(away))))
        assert set(files(root).values()) == before
