"""Many pictures through one real session."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lora_lab.errors import Interrupted
from lora_lab.tagging.batches import Batching, batch_size, tag_pictures
from lora_lab.tagging.session import Tagger
from tests.tagging.nets import write_tagger

pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


@pytest.fixture
def tagger(tmp_path: Path) -> Iterator[Tagger]:
    with Tagger(write_tagger(tmp_path / "tagger")) as opened:
        yield opened


def pictures(folder: Path, count: int) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"{i:03}.png" for i in range(count)]
    for i, path in enumerate(paths):
        Image.new("RGB", (20, 20), (0, 0, i)).save(path)
    return paths


def read(path: Path, longest: int) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGB")


@pytest.mark.parametrize("size", [0, 1, 3, 50])
def test_every_picture_in_its_order_whatever_the_batch(tagger: Tagger, tmp_path: Path, size: int) -> None:
    paths = pictures(tmp_path / "p", 20)
    told: list[tuple[int, int]] = []
    batching = Batching(size, threads=3)
    found = list(tag_pictures(tagger, paths, read, batching=batching, listen=lambda *done: told.append(done)))
    flat = [one for part in found for one in part]
    assert [one.path for one in flat] == paths
    blue = [one.probabilities[0] for one in flat if one.probabilities is not None]
    np.testing.assert_allclose(blue, np.arange(20) / 255, atol=1e-6)
    assert told[-1] == (20, 20)
    assert [len(part) for part in found[:-1]] == [size or batch_size(tagger)] * (len(found) - 1)


def test_pictures_that_cannot_be_read_are_told_and_the_others_tagged(tagger: Tagger, tmp_path: Path) -> None:
    paths = pictures(tmp_path / "p", 5)
    paths[1].unlink()
    paths[3].write_bytes(b"no picture")
    flat = [one for part in tag_pictures(tagger, paths, read, batching=Batching(2)) for one in part]
    assert [one.probabilities is None for one in flat] == [False, True, False, True, False]
    assert "No such file" in flat[1].error
    assert "identify" in flat[3].error


def test_stopping_ends_it_before_the_next_batch_and_leaves_no_thread(tagger: Tagger, tmp_path: Path) -> None:
    paths = pictures(tmp_path / "p", 30)
    done: list[int] = []
    batches = tag_pictures(tagger, paths, read, batching=Batching(2), stop=lambda: len(done) >= 2)
    with pytest.raises(Interrupted):
        done.extend(map(len, batches))
    assert done == [2, 2]
    assert not [t for t in threading.enumerate() if t.name.startswith("lora-lab-decode")]


def test_few_pictures_are_held_decoded(tagger: Tagger, tmp_path: Path) -> None:
    paths = pictures(tmp_path / "p", 40)
    begun: list[Path] = []

    def counting(path: Path, longest: int) -> Any:
        begun.append(path)
        return read(path, longest)

    batches = tag_pictures(tagger, paths, counting, batching=Batching(4, threads=2))
    for number in range(1, 5):
        next(batches)
        # What went through the net, and at most two batches and a picture for each thread beyond.
        assert len(begun) <= 4 * (number - 1) + 2 * 4 + 2
    batches.close()  # type: ignore[attr-defined]


def test_a_fixed_batch_is_kept(tmp_path: Path) -> None:
    with Tagger(write_tagger(tmp_path / "fixed", batch=3)) as tagger:
        assert batch_size(tagger) == 3
        flat = [one for part in tag_pictures(tagger, pictures(tmp_path / "p", 7), read) for one in part]
    np.testing.assert_allclose([one.probabilities[0] for one in flat], np.arange(7) / 255, atol=1e-6)  # type: ignore[index]
