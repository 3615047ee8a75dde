"""Damaged files of every kind: a problem or a picture comes back, never an exception that nobody expects."""

from __future__ import annotations

import io
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lora_lab.dataset import pictures
from lora_lab.dataset.buckets import Placement
from lora_lab.dataset.caption_files import read_caption


def _bytes_of(ending: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    picture = Image.effect_noise((40, 24), 80).convert("RGB")
    picture.save(buffer, {"jpg": "JPEG"}.get(ending, ending.upper()), exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "bmp"])
@settings(max_examples=120)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.binary(min_size=1, max_size=8)), min_size=1, max_size=4))
def test_overwritten_bytes(ending: str, changes: list[tuple[int, bytes]]) -> None:
    data = bytearray(_bytes_of(ending))
    for place, piece in changes:
        data[place % len(data) : place % len(data) + len(piece)] = piece
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"a.{ending}"
        path.write_bytes(data)
        header = pictures.read_header(path)
        if isinstance(header, pictures.Problem):
            assert header.severity == "error"
            return
        try:
            found = pictures.load(path, Placement((16, 16), (16, 16), 0.0), size=header.size)
        except OSError:
            return
        assert (found.mode, found.size) == ("RGB", (16, 16))


@given(st.binary(max_size=300))
def test_any_bytes_as_a_caption(data: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.txt"
        path.write_bytes(data)
        text, problems = read_caption(path)
        assert text is None or text.strip() == text != ""
        assert text is not None or problems
        (text or "").encode()  # no half characters
