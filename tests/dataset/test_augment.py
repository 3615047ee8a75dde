"""Face crops against numbers of kohya's own function; colours, ways to resize, pictures that are held out."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lora_lab.dataset.colour import Colours, draw_colours, recoloured
from lora_lab.dataset.faces import Face, around_face, face_of
from lora_lab.dataset.held_out import split
from lora_lab.dataset.options import INTERPOLATIONS, DatasetOptions, face_range, parse_weights
from lora_lab.dataset.scan import scan
from lora_lab.errors import SettingsError


def options(**changes: object) -> DatasetOptions:
    base = {"resolution": (128, 128), "enable_bucket": False, "cache_latents": False}
    return DatasetOptions(**(base | changes))


KOHYAS = [
    ("2.0,4.0", False, 0, (378, 283), (167, 8)),
    ("2.0,4.0", False, 1, (232, 174), (80, 0)),
    ("2.0,4.0", False, 2, (401, 300), (182, 6)),
    ("3.0,3.0", False, 0, (273, 205), (107, 0)),
    ("1.0,8.0", True, 0, (567, 425), (329, 0)),
    ("1.0,8.0", True, 1, (234, 175), (92, 0)),
    ("1.0,8.0", True, 2, (619, 465), (163, 0)),
    ("2.0,4.0", True, 0, (378, 283), (12, 96)),
    ("2.0,4.0", True, 2, (401, 300), (0, 17)),
]
"""Range, random_crop, seed of Python's random -> size and corner by kohya's `crop_target`: a picture of 640 x 480 with
a face of 90 x 100 around 400, 120, cut to 128 x 128."""


@pytest.mark.parametrize(("faces", "wide", "seed", "resized", "corner"), KOHYAS)
def test_cuts_around_a_face_are_kohyas(
    faces: str, wide: bool, seed: int, resized: tuple[int, int], corner: tuple[int, int]
) -> None:
    own = options(face_crop_aug_range=faces, random_crop=wide)
    place, crop = around_face((640, 480), Face(400, 120, 90, 100), own, random.Random(seed))
    assert (place.resized, crop) == (resized, corner)


@pytest.mark.parametrize("size", [(640, 480), (100, 300), (128, 128), (4000, 200), (129, 128)])
def test_a_cut_lies_within_the_picture(size: tuple[int, int]) -> None:
    for seed in range(30):
        r = random.Random(seed)
        face = Face(r.randint(1, size[0]), r.randint(1, size[1]), r.randint(1, 99), r.randint(1, 99))
        own = options(face_crop_aug_range="1.0,6.0", random_crop=seed % 2 == 0)
        place, (left, top) = around_face(size, face, own, r)
        assert 0 <= left <= place.resized[0] - 128
        assert 0 <= top <= place.resized[1] - 128


def test_a_face_is_read_off_the_name() -> None:
    assert face_of(Path("my_girl_400_120_90_100.png")) == Face(400, 120, 90, 100)
    for name in ("mika.png", "mika_1_2_3.png", "mika_a_2_3_4.png", "mika_0_2_3_4.png", "_1_2_3_0.png"):
        assert face_of(Path(name)) is None, name
    assert face_range("2.0,4.0") == face_range("(2, 4)") == (2.0, 4.0)
    for text in ("4,2", "2", "a,b", "0.5,2", "nan,2", "2,inf", "1,2,3"):
        with pytest.raises(SettingsError, match="face_crop_aug_range is"):
            face_range(text)


def test_colours_change_in_a_third_of_the_pictures_and_a_little() -> None:
    r = random.Random(0)
    drawn = [draw_colours(r) for _ in range(3000)]
    changed = [one for one in drawn if one is not None]
    assert 0.28 < len(changed) / len(drawn) < 0.38
    hues, gammas = [c.hue for c in changed if c.gamma == 1], [c.gamma for c in changed if c.hue == 0]
    assert len(hues) + len(gammas) == len(changed)
    assert 0.4 < len(hues) / len(changed) < 0.6
    assert -8 / 180 <= min(hues) < 0 < max(hues) <= 8 / 180
    assert 0.95 <= min(gammas) < 1 < max(gammas) <= 1.05


def test_a_hue_is_turned_and_a_gamma_is_a_power() -> None:
    import colorsys

    colours = np.random.RandomState(0).randint(40, 216, (16, 16, 3), dtype=np.uint8)
    turned = np.asarray(recoloured(Image.fromarray(colours), Colours(8 / 180, 1.0))).astype(int)
    for pixel, found in zip(colours.reshape(-1, 3), turned.reshape(-1, 3), strict=True):
        h, s, v = colorsys.rgb_to_hsv(*(float(p) / 255 for p in pixel))
        judge = [255 * c for c in colorsys.hsv_to_rgb(h + 8 / 180, s, v)]
        assert np.abs(found - judge).max() < 8  # Pillow's hues have 256 steps
    dark = np.asarray(recoloured(Image.fromarray(colours), Colours(0.0, 1.05))).astype(float)
    assert np.abs(dark - 255 * (colours / 255.0) ** 1.05).max() <= 0.51


def test_every_way_to_resize_is_read_and_a_wrong_one_refused(tmp_path: Path) -> None:
    from lora_lab.dataset import pictures
    from lora_lab.dataset.buckets import Placement

    noise = np.random.RandomState(1).randint(0, 256, (100, 100, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    place = Placement((64, 64), (64, 64), 0.0)
    found = {how: np.asarray(pictures.load(tmp_path / "a.png", place, how=how)) for how in ("", *INTERPOLATIONS)}
    assert np.array_equal(found[""], found["area"]), "it shrinks"
    assert len({found[how].tobytes() for how in INTERPOLATIONS}) == 5, "area and box are one"
    with pytest.raises(SettingsError, match="resize_interpolation is 'cubic'"):
        DatasetOptions(resize_interpolation="cubic").check()


def folder(root: Path, count: int = 10) -> Path:
    for name in ("2_x", "1_y"):
        (root / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (64, 64)).save(root / name / f"{number}.png")
    return root


def test_the_same_pictures_are_held_out_as_by_kohya(tmp_path: Path) -> None:
    reg = folder(tmp_path / "reg", 3)
    own = DatasetOptions(validation_split=0.25, validation_seed=7)
    whole = scan(folder(tmp_path / "set"), own, reg)
    trained, held = split(whole, 1)
    assert held is not None
    names = {s.folder.name: [p.path.stem for p in s.pictures] for s in held.subsets}
    assert names == {"2_x": ["2", "5"], "1_y": ["2", "5"]}, "by kohya's split_train_val on 0 to 9, 0.25, 7"
    assert [len(s.pictures) for s in trained.subsets] == [8, 8, 3, 3]
    assert {s.repeats for s in held.subsets} == {1}
    assert len(trained.items) + len(held.items) == len(whole.items)
    other, _ = split(scan(tmp_path / "set", DatasetOptions(validation_split=0.25)), 3)
    again, _ = split(scan(tmp_path / "set", DatasetOptions(validation_split=0.25)), 3)
    assert [i.picture for i in other.items] == [i.picture for i in again.items]
    assert split(scan(tmp_path / "set", DatasetOptions()), 3)[1] is None


def test_weights_of_concepts_go_by_their_names(tmp_path: Path) -> None:
    report = scan(folder(tmp_path), DatasetOptions(loss_weights="x = 0.5\n1_y=2\nz = 1"))
    assert {s.name: s.loss_weight for s in report.subsets} == {"x": 0.5, "y": 2.0}
    assert [p.file for p in report.problems if p.rule == "no-such-concept"] == ["z"]
    for wrong in ("x", "x = -1", "= 1", "x = many", "x = 101"):
        with pytest.raises(SettingsError, match="loss_weights has the line"):
            parse_weights(wrong)
