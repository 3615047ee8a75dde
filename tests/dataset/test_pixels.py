"""Pixels, latents and batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lora_lab.dataset import pictures
from lora_lab.dataset.buckets import Placement
from lora_lab.dataset.options import DatasetOptions
from lora_lab.dataset.scan import scan
from lora_lab.errors import DatasetError

torch = pytest.importorskip("torch")

from lora_lab.dataset.dataset import Dataset  # noqa: E402

SQUARE = Placement((64, 64), (64, 64), 0.0)


def options(**changes: object) -> DatasetOptions:
    base = {"resolution": (64, 64), "min_bucket_reso": 32, "max_bucket_reso": 128, "bucket_reso_steps": 32}
    return DatasetOptions(**(base | changes))


def folder(tmp_path: Path, count: int = 5) -> Path:
    (tmp_path / "2_x").mkdir(parents=True)
    for i in range(count):
        Image.new("RGB", (64, 64), (i * 40, 0, 0)).save(tmp_path / "2_x" / f"{i}.png")
        (tmp_path / "2_x" / f"{i}.txt").write_text(f"t{i}, a, b, c")
    return tmp_path


class Encoder:
    """Mean colour of each 8 x 8 square, and a count of the pictures it saw."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        self.seen += len(pixels)
        small = torch.nn.functional.avg_pool2d(pixels, 8)
        return torch.cat([small, small[:, :1]], 1)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "CMYK", "I;16", "1", "I"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    if mode == "I;16":
        Image.fromarray(np.full((64, 64), 65535, np.uint16)).save(path)
    else:
        Image.new("L", (64, 64), 255).convert(mode).save(path)
    assert not isinstance(pictures.read_header(path), pictures.Problem)
    found = np.asarray(pictures.load(path, SQUARE))
    assert found.shape == (64, 64, 3)
    if mode not in ("I", "CMYK"):
        assert found.min() >= 250


def test_alpha_lies_on_white(tmp_path: Path) -> None:
    Image.new("RGBA", (64, 64), (0, 0, 0, 0)).save(tmp_path / "a.png")
    assert np.asarray(pictures.load(tmp_path / "a.png", SQUARE)).min() == 255


def test_exif_turns_the_picture(tmp_path: Path) -> None:
    picture = Image.new("RGB", (128, 64), "black")
    picture.paste("white", (0, 0, 64, 64))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.jpg", exif=exif, quality=95)
    header = pictures.read_header(tmp_path / "a.jpg")
    assert isinstance(header, pictures.Header)
    assert header.size == (64, 128)
    turned = np.asarray(pictures.load(tmp_path / "a.jpg", Placement((64, 128), (64, 128), 0.0)))
    assert turned[:60].mean() > 200
    assert turned[68:].mean() < 50


def test_the_crop_is_where_it_is_asked_for(tmp_path: Path) -> None:
    picture = Image.new("RGB", (128, 64), "black")
    picture.paste("white", (64, 0, 128, 64))
    picture.save(tmp_path / "a.png")
    wide = Placement((64, 64), (128, 64), 1.0)
    assert np.asarray(pictures.load(tmp_path / "a.png", wide, (0, 0))).max() == 0
    assert np.asarray(pictures.load(tmp_path / "a.png", wide, (64, 0))).min() == 255


def test_an_epoch_holds_every_item_as_often_as_it_repeats(tmp_path: Path) -> None:
    dataset = Dataset(scan(folder(tmp_path), options(train_batch_size=3)))
    list(dataset.prepare(Encoder(), "v"))
    plans = dataset.epoch(1)
    assert [len(p.indices) for p in plans].count(3) == 3
    batches = [dataset.load(plan) for plan in plans]
    keys = sorted(key for batch in batches for key in batch.item_keys)
    assert keys == sorted([0, 1, 2, 3, 4] * 2)
    for batch in batches:
        for latent, key, caption in zip(batch.latents, batch.item_keys, batch.captions, strict=True):
            assert latent[0, 0, 0] == pytest.approx(key * 40 / 127.5 - 1, abs=1e-6)
            assert caption.startswith(f"t{key}")


def test_epochs_differ_and_come_again(tmp_path: Path) -> None:
    dataset = Dataset(scan(folder(tmp_path), options(seed=3)))
    again = Dataset(scan(tmp_path, options(seed=3)))
    assert dataset.epoch(2) == again.epoch(2)
    assert [p.indices for p in dataset.epoch(1)] != [p.indices for p in dataset.epoch(2)]


def test_each_picture_is_encoded_once_and_a_changed_one_again(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    root = folder(tmp_path / "set")
    wanted = options(cache_latents_to_disk=True, flip_aug=True)
    first, second, third, fourth = Encoder(), Encoder(), Encoder(), Encoder()
    progress = list(Dataset(scan(root, wanted), cache).prepare(first, "v"))
    assert progress[-1] == (10, 10)
    assert first.seen == 10
    list(Dataset(scan(root, wanted), cache).prepare(second, "v"))
    assert second.seen == 0
    Image.new("RGB", (64, 64), "blue").save(root / "2_x" / "0.png")
    list(Dataset(scan(root, wanted), cache).prepare(third, "v"))
    assert third.seen == 2
    list(Dataset(scan(root, wanted), cache).prepare(fourth, "another vae"))
    assert fourth.seen == 10


def test_a_damaged_cache_file_is_encoded_again(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    root = folder(tmp_path / "set")
    wanted = options(cache_latents_to_disk=True)
    list(Dataset(scan(root, wanted), cache).prepare(Encoder(), "v"))
    files = sorted(cache.iterdir())
    files[0].write_bytes(files[0].read_bytes()[:30])
    files[1].write_bytes(b"")
    again = Encoder()
    list(Dataset(scan(root, wanted), cache).prepare(again, "v"))
    assert again.seen == 2


def test_a_cache_that_cannot_be_written_stays_in_memory_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    dataset = Dataset(scan(folder(tmp_path / "set"), options(cache_latents_to_disk=True)), tmp_path / "taken" / "x")
    list(dataset.prepare(Encoder(), "v"))
    assert "memory only" in dataset.warning
    assert len(dataset.load(dataset.epoch(1)[0]).captions) == 1


def test_latents_that_are_no_numbers_name_the_picture(tmp_path: Path) -> None:
    dataset = Dataset(scan(folder(tmp_path), options()))
    with pytest.raises(DatasetError, match=r"0\.png.*no-half-vae"):
        list(dataset.prepare(lambda p: torch.full((len(p), 4, 8, 8), float("nan")), "v"))


def test_flipped_items_are_mirrored(tmp_path: Path) -> None:
    (tmp_path / "1_x").mkdir()
    picture = Image.new("RGB", (64, 64), "black")
    picture.paste("white", (0, 0, 32, 64))
    picture.save(tmp_path / "1_x" / "a.png")
    dataset = Dataset(scan(tmp_path, options(flip_aug=True)))
    list(dataset.prepare(Encoder(), "v"))
    lefts = {float(dataset.load(dataset.epoch(e)[0]).latents[0, 0, 0, 0]) for e in range(1, 20)}
    assert lefts == {-1.0, 1.0}


def test_random_crops_are_encoded_anew_and_stay_inside(tmp_path: Path) -> None:
    (tmp_path / "1_x").mkdir()
    Image.new("RGB", (200, 100), "red").save(tmp_path / "1_x" / "a.png")
    dataset = Dataset(scan(tmp_path, options(random_crop=True, cache_latents=False, enable_bucket=False)))
    encoder = Encoder()
    list(dataset.prepare(encoder, "v"))
    crops = {dataset.load(dataset.epoch(e)[0]).crops[0] for e in range(1, 30)}
    assert encoder.seen == 29
    assert len(crops) > 5
    assert all(0 <= left <= 64 and top == 0 for left, top in crops)


def test_regularisation_pictures_weigh_what_is_asked(tmp_path: Path) -> None:
    folder(tmp_path / "set", 2)
    folder(tmp_path / "reg", 2)
    dataset = Dataset(scan(tmp_path / "set", options(prior_loss_weight=0.25, train_batch_size=8), tmp_path / "reg"))
    list(dataset.prepare(Encoder(), "v"))
    assert sorted(dataset.load(dataset.epoch(1)[0]).weights.tolist()) == [0.25] * 4 + [1.0] * 4
