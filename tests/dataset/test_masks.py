"""Masks: found, checked, and the way of their picture; held against a plain loop over its pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lora_lab.dataset.options import DatasetOptions
from lora_lab.dataset.scan import scan
from lora_lab.errors import DatasetError

torch = pytest.importorskip("torch")

from lora_lab.dataset.dataset import Dataset  # noqa: E402
from lora_lab.dataset.views import View, mask  # noqa: E402

SIZE = (96, 64)


def options(tmp_path: Path, **changes: object) -> DatasetOptions:
    base = {
        "resolution": (64, 64), "min_bucket_reso": 32, "max_bucket_reso": 128, "bucket_reso_steps": 32,
        "masked_loss": True, "conditioning_data_dir": str(tmp_path / "masks"),
    }  # fmt: skip
    return DatasetOptions(**(base | changes))


def write(tmp_path: Path, count: int = 2, size: tuple[int, int] = SIZE) -> Path:
    """Pictures of noise with masks of noise; the mask of number n lies in the folder named as the concept."""
    for place in ("set/1_x", "masks/1_x"):
        (tmp_path / place).mkdir(parents=True)
    for number in range(count):
        noise = np.random.RandomState(number).randint(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "set" / "1_x" / f"{number}.png")
        Image.fromarray(255 - noise).save(tmp_path / "masks" / "1_x" / f"{number}.png")
    return tmp_path / "set"


def encode(pixels: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.avg_pool2d(pixels, 8)[:, [0, 1, 2, 0]]


def areas(grey: np.ndarray) -> np.ndarray:
    """The mean of each 8 x 8 square, a square at a time."""
    high, wide = grey.shape[0] // 8, grey.shape[1] // 8
    found = np.zeros((high, wide))
    for y in range(high):
        for x in range(wide):
            found[y, x] = grey[y * 8 : y * 8 + 8, x * 8 : x * 8 + 8].astype(np.float64).mean() / 255
    return found


def test_a_mask_goes_the_way_of_its_picture(tmp_path: Path) -> None:
    wanted = options(
        tmp_path, resolution=(64, 64), enable_bucket=False, random_crop=True, flip_aug=True, cache_latents=False
    )
    dataset = Dataset(scan(write(tmp_path), wanted))
    list(dataset.prepare(encode, "v"))
    crops = set()
    for epoch in range(1, 13):
        for plan in dataset.epoch(epoch):
            batch = dataset.load(plan)
            number = batch.item_keys[0]
            grey = np.asarray(Image.open(tmp_path / "masks" / "1_x" / f"{number}.png"))[:, :, 0]
            left, top = batch.crops[0]
            cut = grey[top : top + 64, left : left + 64]
            straight, mirrored = areas(cut), areas(cut[:, ::-1])
            found = batch.masks.numpy()[0, 0]
            assert min(abs(found - straight).max(), abs(found - mirrored).max()) < 1e-6
            # The picture is the mask's negative in red: what one shows, the other hides, mirrored alike.
            assert abs(batch.latents.numpy()[0, 0] / 2 + 0.5 + found - 1).max() < 1e-5
            crops.add((left, bool(abs(found - straight).max() < 1e-6)))
    assert len({left for left, _ in crops}) > 3
    assert {straight for _, straight in crops} == {True, False}


@pytest.mark.parametrize("size", [(96, 64), (200, 70), (64, 64)])
def test_a_mask_is_resized_into_the_bucket_as_its_picture_is(tmp_path: Path, size: tuple[int, int]) -> None:
    root = write(tmp_path, 1, size)
    (item,) = scan(root, options(tmp_path)).items
    whole = Image.open(tmp_path / "masks" / "1_x" / "0.png").getchannel("R")
    place = item.placement
    shrinks = place.resized[0] <= size[0] and place.resized[1] <= size[1]
    how = Image.Resampling.BOX if shrinks else Image.Resampling.LANCZOS
    left, top = place.centre()
    cut = np.asarray(whole.resize(place.resized, how))[top : top + place.bucket[1], left : left + place.bucket[0]]
    found = mask(View(item, False, place, (left, top)))
    assert found.shape == (1, place.bucket[1] // 8, place.bucket[0] // 8)
    assert abs(found[0].numpy() - areas(cut)).max() < 0.01


def test_alpha_counts_where_it_is_asked_for_and_stands_behind_a_mask(tmp_path: Path) -> None:
    root = write(tmp_path, 2)
    picture = Image.open(root / "1_x" / "0.png").convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize(SIZE))
    picture.save(root / "1_x" / "0.png")
    alpha = options(tmp_path, masked_loss=False, alpha_mask=True, train_batch_size=2)
    dataset = Dataset(scan(root, alpha))
    list(dataset.prepare(encode, "v"))
    batch = dataset.load(dataset.epoch(1)[0])
    first, second = (batch.masks[batch.item_keys.index(number), 0] for number in (0, 1))
    assert float(first[0].mean()) < 0.1 < 0.9 < float(first[-1].mean())
    assert bool((second == 1).all()), "a picture without alpha counts whole"
    both = Dataset(scan(root, options(tmp_path, alpha_mask=True, train_batch_size=2)))
    list(both.prepare(encode, "v"))
    batch = both.load(both.epoch(1)[0])
    assert float(batch.masks[batch.item_keys.index(0), 0, 0].mean()) > 0.3
    plain = Dataset(scan(root, options(tmp_path, masked_loss=False)))
    list(plain.prepare(encode, "v"))
    assert plain.load(plain.epoch(1)[0]).masks is None


@pytest.mark.parametrize("damage", ["gone", "size", "broken"])
def test_a_mask_that_does_not_fit_is_one_clear_line(tmp_path: Path, damage: str) -> None:
    root = write(tmp_path)
    path = tmp_path / "masks" / "1_x" / "1.png"
    if damage == "gone":
        path.unlink()
    elif damage == "size":
        Image.new("L", (64, 64)).save(path)
    else:
        path.write_bytes(b"no picture")
    says = {"gone": "no mask in", "size": "64 x 64 pixels, its picture 96 x 64", "broken": "cannot be used"}[damage]
    report = scan(root, options(tmp_path))
    assert any(says in problem.why and problem.severity == "error" for problem in report.problems)
    with pytest.raises(DatasetError, match=says) as caught:
        Dataset(report)
    assert "\n" not in str(caught.value)


def test_masks_may_lie_all_together_and_need_no_ending_of_their_picture(tmp_path: Path) -> None:
    root = write(tmp_path, 1)
    Image.open(tmp_path / "masks" / "1_x" / "0.png").save(tmp_path / "masks" / "0.bmp")
    for path in (tmp_path / "masks" / "1_x").iterdir():
        path.unlink()
    (tmp_path / "masks" / "1_x").rmdir()
    (item,) = scan(root, options(tmp_path)).items
    assert item.picture.mask == tmp_path / "masks" / "0.bmp"


def test_a_mask_that_is_gone_in_the_middle_is_named(tmp_path: Path) -> None:
    dataset = Dataset(scan(write(tmp_path, 1), options(tmp_path, cache_latents=False)))
    list(dataset.prepare(encode, "v"))
    (tmp_path / "masks" / "1_x" / "0.png").unlink()
    with pytest.raises(DatasetError, match="gone since"):
        dataset.load(dataset.epoch(1)[0])
