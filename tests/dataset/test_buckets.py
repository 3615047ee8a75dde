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
    expected = {
        (256, 1024), (256, 960), (256, 896), (256, 832), (256, 768),
        (320, 768), (320, 704), (384, 640), (448, 576), (512, 512),
    }  # fmt: skip
    found = set(make_buckets(SD15))
    assert (512, 512) in found
    assert {(256, 1024), (320, 768), (384, 640), (448, 576)} <= found
    assert found <= expected | {(h, w) for w, h in expected}


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


def test_without_buckets_everything_has_the_resolution() -> None:
    options = replace(SD15, enable_bucket=False, resolution=(512, 768))
    assert place((1000, 1000), options, []).bucket == (512, 768)


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_bucket_reso": 600}, {"max_bucket_reso": 256}, {"train_batch_size": 0}, {"bucket_reso_steps": 12},
        {"random_crop": True, "cache_latents": True}, {"resolution": (0, 512)},
    ],
)  # fmt: skip
def test_contradictions_are_refused_with_a_remedy(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError) as caught:
        replace(SD15, **wrong).check()
    assert caught.value.remedy
