"""Buckets: kohya's list and choice."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_lab.dataset.buckets import make_buckets, place
from lora_lab.dataset.options import DatasetOptions
from lora_lab.errors import SettingsError

SD15 = DatasetOptions()


def test_kohyas_list_for_512_with_its_defaults() -> None:
    # The list that kohya's scripts print for --resolution=512 --enable_bucket.
    half = [
        (256, 832), (256, 896), (256, 960), (256, 1024), (320, 704), (320, 768), (384, 640), (448, 576),
    ]  # fmt: skip
    assert make_buckets(SD15) == sorted([*half, (512, 512), *((h, w) for w, h in half)])


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 8), st.integers(1, 80), st.integers(0, 80))
def test_options_that_pass_always_leave_a_bucket(w: int, h: int, step: int, low: int, more: int) -> None:
    options = DatasetOptions(
        resolution=(w * 8, h * 8), bucket_reso_steps=step * 8, min_bucket_reso=low * 8,
        max_bucket_reso=max(w, h) * 8 + more * 8,
    )  # fmt: skip
    try:
        options.check()
    except SettingsError:
        return
    buckets = make_buckets(options)
    assert buckets
    for bucket in buckets:
        assert bucket[0] % (step * 8) == bucket[1] % (step * 8) == 0
        assert bucket[0] * bucket[1] <= w * h * 64
        assert max(bucket) <= -(-options.max_bucket_reso // (step * 8)) * step * 8


@given(
    st.tuples(st.integers(8, 9000), st.integers(8, 9000)),
    st.sampled_from([8, 32, 64]),
    st.integers(2, 16),
    st.booleans(),
)
def test_every_picture_covers_its_bucket(size: tuple[int, int], step: int, scale: int, upscale: bool) -> None:
    side = step * scale
    options = DatasetOptions(
        resolution=(side, side), min_bucket_reso=step, max_bucket_reso=side * 2, bucket_reso_steps=step,
        bucket_no_upscale=not upscale,
    )  # fmt: skip
    placement = place(size, options, make_buckets(options))
    width, height = placement.bucket
    assert width % step == height % step == 0
    assert placement.resized[0] >= width
    assert placement.resized[1] >= height
    left, top = placement.centre()
    assert 0 <= left <= placement.resized[0] - width
    assert 0 <= top <= placement.resized[1] - height
    assert 0 <= placement.lost < 1
    if upscale:
        assert step <= min(width, height)
        assert max(width, height) <= side * 2
        # One way fits exactly: nothing is resized further than it must be.
        assert placement.resized[0] == width or placement.resized[1] == height


@given(st.tuples(st.integers(64, 4000), st.integers(64, 4000)))
def test_the_nearest_aspect_ratio_wins(size: tuple[int, int]) -> None:
    buckets = make_buckets(SD15)
    chosen = place(size, SD15, buckets)
    ratio = size[0] / size[1]
    assert chosen.aspect_error == pytest.approx(min(abs(w / h - ratio) for w, h in buckets)) or size in buckets


def test_a_small_picture_is_not_enlarged_when_that_is_asked_for() -> None:
    options = replace(SD15, bucket_no_upscale=True)
    placement = place((300, 200), options, make_buckets(options))
    assert placement.resized == (300, 200)
    assert placement.bucket == (256, 192)


@pytest.mark.parametrize(
    ("size", "resized", "bucket"),
    [
        # 1000 x 600, area 512^2: sides 661 x 397, on the step 640 x 384 (1.667) either way: a draw, height decides.
        ((1000, 600), (640, 384), (640, 384)),
        # 1920 x 1080: 683 x 384. Width on the step gives 640 x 320 (2.0), height 384 gives 640 x 384 (1.667): nearer.
        ((1920, 1080), (683, 384), (640, 384)),
        # 1200 x 1600: 443 x 591. Width 384 gives 384 x 512 (0.75, exact), height 576 gives 384 x 576 (0.667).
        ((1200, 1600), (384, 512), (384, 512)),
    ],
)
def test_shrinking_without_buckets_of_a_list(
    size: tuple[int, int], resized: tuple[int, int], bucket: tuple[int, int]
) -> None:
    options = replace(SD15, bucket_no_upscale=True)
    placement = place(size, options, make_buckets(options))
    assert (placement.resized, placement.bucket) == (resized, bucket)


def test_without_buckets_everything_has_the_resolution() -> None:
    options = replace(SD15, enable_bucket=False, resolution=(512, 768))
    assert place((1000, 1000), options, []).bucket == (512, 768)


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_bucket_reso": 600}, {"max_bucket_reso": 256}, {"train_batch_size": 0}, {"bucket_reso_steps": 12},
        {"random_crop": True, "cache_latents": True}, {"resolution": (0, 512)}, {"resolution": (500, 512)},
        {"random_crop": True, "cache_latents": False, "cache_latents_to_disk": True}, {"vae_batch_size": 0},
        {"caption_extension": "txt"}, {"caption_extension": ""}, {"caption_extension": ".png"},
        {"caption_extension": "./../x"}, {"min_bucket_reso": 0},
        {"resolution": (64, 64), "min_bucket_reso": 64, "bucket_reso_steps": 128},
    ],
)  # fmt: skip
def test_contradictions_are_refused_with_a_remedy(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError) as caught:
        replace(SD15, **wrong).check()
    assert caught.value.remedy
