"""Pixels, latents and batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from lora_lab.dataset import pictures
from lora_lab.dataset.buckets import Placement, make_buckets, place
from lora_lab.dataset.options import DatasetOptions
from lora_lab.dataset.scan import scan
from lora_lab.errors import DatasetError

torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file  # noqa: E402

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


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_every_orientation_is_turned_as_pillow_turns_it(tmp_path: Path, turn: int, ending: str) -> None:
    corners = Image.new("RGB", (320, 640), "black")
    corners.paste("red", (0, 0, 160, 320))
    corners.paste("blue", (160, 320, 320, 640))
    exif = Image.Exif()
    exif[0x0112] = turn
    path = tmp_path / f"a.{ending}"
    corners.save(path, exif=exif, quality=95)
    header = pictures.read_header(path)
    judge = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    assert isinstance(header, pictures.Header)
    assert header.size == judge.size
    bucket = (64, 128) if judge.height > judge.width else (128, 64)
    found = np.asarray(pictures.load(path, Placement(bucket, bucket, 0.0))).astype(int)
    assert abs(found - np.asarray(judge.resize(bucket, Image.Resampling.BOX))).mean() < 3
    assert np.asarray(pictures.small(path, 64)).shape[:2] == tuple(s // 2 for s in reversed(bucket))


def test_sixteen_bits_keep_their_brightness(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 64, dtype=np.uint16)
    Image.fromarray(np.tile(ramp, (64, 1))).save(tmp_path / "a.png")
    found = np.asarray(pictures.load(tmp_path / "a.png", SQUARE))[0, :, 0]
    assert abs(found.astype(int) - np.round(ramp / 257).astype(int)).max() <= 1


def test_half_transparent_is_half_white(tmp_path: Path) -> None:
    Image.new("RGBA", (64, 64), (0, 0, 0, 128)).save(tmp_path / "a.png")
    assert abs(int(np.asarray(pictures.load(tmp_path / "a.png", SQUARE))[0, 0, 0]) - 127) <= 1


@pytest.mark.parametrize("size", [(640, 480), (100, 40), (513, 700)])
def test_resizing_a_piece_equals_cutting_the_whole(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.effect_noise(size, 60).convert("RGB").save(tmp_path / "a.png")
    placement = place(size, options(), make_buckets(options()))
    shrinks = size[0] >= placement.resized[0]
    how = Image.Resampling.BOX if shrinks else Image.Resampling.LANCZOS
    whole = Image.open(tmp_path / "a.png").resize(placement.resized, how)
    left, top = placement.centre()
    judge = np.asarray(whole.crop((left, top, left + placement.bucket[0], top + placement.bucket[1]))).astype(int)
    found = np.asarray(pictures.load(tmp_path / "a.png", placement)).astype(int)
    # Lanczos sees three pixels beyond the crop's edge, which the piece alone has not.
    inner = (slice(None),) * 2 if shrinks else (slice(16, -16),) * 2
    assert abs(judge - found)[inner].max() <= 2


def test_a_very_long_picture_takes_little_memory(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    Image.new("RGB", (60_000, 16), "red").save(tmp_path / "a.png")
    placement = place((60_000, 16), DatasetOptions(), make_buckets(DatasetOptions()))
    assert placement.resized[0] * placement.resized[1] > 200_000_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert pictures.load(tmp_path / "a.png", placement).size == (1024, 256)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes; the whole takes 700 MB


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


def test_a_disk_that_fills_up_costs_no_run_and_leaves_no_half_file(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    cache = tmp_path / "cache"
    dataset = Dataset(scan(folder(tmp_path / "set"), options(cache_latents_to_disk=True)), cache)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))  # a real refusal to write: a latent here has 1,024 bytes
    try:
        list(dataset.prepare(Encoder(), "v"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "memory only" in dataset.warning
    assert not list(cache.iterdir())
    assert len(dataset.load(dataset.epoch(1)[0]).captions) == 1


@pytest.mark.parametrize("damage", ["nan", "shape", "name", "noise"])
def test_a_cache_file_with_something_else_in_it_is_encoded_again(tmp_path: Path, damage: str) -> None:
    cache = tmp_path / "cache"
    root = folder(tmp_path / "set", 1)
    wanted = options(cache_latents_to_disk=True)
    list(Dataset(scan(root, wanted), cache).prepare(Encoder(), "v"))
    (file,) = cache.iterdir()
    good = load_file(file)["latent"].clone()
    if damage == "noise":
        file.write_bytes(bytes(range(256)) * 8)
    else:
        wrong = {"nan": good * float("nan"), "shape": good[:, :4].clone(), "name": good}[damage]
        save_file({"other" if damage == "name" else "latent": wrong}, file)
    again = Encoder()
    list(Dataset(scan(root, wanted), cache).prepare(again, "v"))
    assert again.seen == 1
    assert torch.equal(load_file(file)["latent"], good)


def test_a_picture_that_changed_its_size_since_the_check_is_refused(tmp_path: Path) -> None:
    dataset = Dataset(scan(folder(tmp_path, 1), options()))
    Image.new("RGB", (64, 128)).save(tmp_path / "2_x" / "0.png")
    with pytest.raises(DatasetError, match="another size"):
        list(dataset.prepare(Encoder(), "v"))


def test_a_picture_that_is_gone_is_named(tmp_path: Path) -> None:
    dataset = Dataset(scan(folder(tmp_path), options()))
    (tmp_path / "2_x" / "3.png").unlink()
    with pytest.raises(DatasetError, match=r"gone.*3\.png"):
        list(dataset.prepare(Encoder(), "v"))


def test_what_is_not_cached_is_encoded_a_batch_at_a_time(tmp_path: Path) -> None:
    root = folder(tmp_path)
    sizes: list[int] = []

    def encode(pixels: torch.Tensor) -> torch.Tensor:
        sizes.append(len(pixels))
        return Encoder()(pixels)

    fresh = Dataset(scan(root, options(cache_latents=False, train_batch_size=4, seed=1)))
    cached = Dataset(scan(root, options(train_batch_size=4, seed=1)))
    list(fresh.prepare(encode, "v"))
    list(cached.prepare(Encoder(), "v"))
    assert not sizes
    for plan in fresh.epoch(1):
        assert torch.equal(fresh.load(plan).latents, cached.load(plan).latents)
    assert sorted(sizes) == [2, 4, 4]


def test_a_run_that_is_taken_up_in_the_middle_sees_the_same(tmp_path: Path) -> None:
    root = folder(tmp_path)
    wanted = options(
        cache_latents=False, random_crop=True, flip_aug=True, shuffle_caption=True, caption_tag_dropout_rate=0.3,
        resolution=(32, 32), enable_bucket=False, seed=4, train_batch_size=2,
    )  # fmt: skip
    through, resumed = Dataset(scan(root, wanted)), Dataset(scan(root, wanted))
    for dataset in (through, resumed):
        list(dataset.prepare(Encoder(), "v"))
    seen = [through.load(plan) for epoch in (1, 2, 3) for plan in through.epoch(epoch)]
    late = [resumed.load(plan) for plan in resumed.epoch(3)]
    for one, other in zip(seen[-len(late) :], late, strict=True):
        assert one.captions == other.captions
        assert one.crops == other.crops
        assert torch.equal(one.latents, other.latents)
    assert len({tuple(batch.captions) for batch in seen}) > 5


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
