"""Probabilities on the disk."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from lora_lab.errors import OutputError
from lora_lab.tagging.scores import FLOOR, sparse
from lora_lab.tagging.store import ProbabilityStore
from lora_lab.tagging.tags import Tag

TAGS = (Tag("a", 0, 3), Tag("b", 4), Tag("c", 9))


def filled(folder: Path, count: int = 3) -> ProbabilityStore:
    store = ProbabilityStore(folder)
    store.add_tagger("t", "Tagger", TAGS)
    values = np.linspace(0, 1, count * 3, dtype=np.float32).reshape(count, 3)
    store.write("t", {f"p{i}": sparse(row) for i, row in enumerate(values)})
    return store


def test_what_was_written_is_read_by_another_one(tmp_path: Path) -> None:
    filled(tmp_path)
    scores = ProbabilityStore(tmp_path).read("t", ["p2", None, "p0", "unknown", "p2"])
    assert scores is not None
    assert scores.tags == TAGS
    assert np.diff(scores.starts).tolist() == [3, 0, 2, 0, 3]  # the first value, 0, is below the floor
    np.testing.assert_array_equal(scores.values[:3], np.linspace(0, 1, 9, dtype=np.float32)[6:])
    assert scores.values.min() >= FLOOR


def test_more_pictures_than_one_question_may_name(tmp_path: Path) -> None:
    store = filled(tmp_path, 1300)
    wanted = [f"p{i}" for i in range(1400)]
    assert store.missing("t", wanted) == wanted[1300:]
    scores = store.read("t", wanted)
    assert scores is not None
    assert len(scores) == 1400
    assert store.taggers()[0].pictures == 1300


def test_a_tagger_that_is_not_known(tmp_path: Path) -> None:
    store = filled(tmp_path)
    assert store.read("other", ["p0"]) is None
    assert store.missing("other", ["p0", "p1", "p0"]) == ["p0", "p1"]


def test_files_are_hashed_again_only_if_they_changed(tmp_path: Path) -> None:
    store = ProbabilityStore(tmp_path / "store")
    paths = [tmp_path / "ü #1.png", tmp_path / "2.png", tmp_path / "gone.png"]
    for path in paths[:2]:
        path.write_text(path.name)
    read: list[str] = []

    def hash_of(path: Path) -> str:
        read.append(path.name)
        return path.read_text()

    assert store.hashes(paths, hash_of) == ["ü #1.png", "2.png", None]
    assert store.hashes(paths, hash_of) == ["ü #1.png", "2.png", None]
    assert sorted(read) == ["2.png", "ü #1.png"]
    paths[1].write_text("new")
    os.utime(paths[1], ns=(1, 1))
    assert store.hashes(paths, hash_of) == ["ü #1.png", "new", None]


def test_a_damaged_file_is_put_aside(tmp_path: Path) -> None:
    store = filled(tmp_path)
    store.path.write_bytes(b"no database, but long enough to look like one" * 100)
    assert ProbabilityStore(tmp_path).taggers() == []
    assert (tmp_path / "probabilities.damaged").exists()


def test_a_place_that_cannot_be_written_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be kept here"):
        ProbabilityStore(tmp_path / "file" / "store")
    store = filled(tmp_path / "s")
    store.path.unlink()
    store.path.mkdir()
    with pytest.raises(OutputError, match="cannot be kept here"):
        store.missing("t", ["p0"])
    with pytest.raises(OutputError, match="cannot be kept here"):
        ProbabilityStore(tmp_path / "s")


def test_a_write_is_whole_or_not_at_all(tmp_path: Path) -> None:
    store = filled(tmp_path)
    rows = {f"q{i}": sparse(np.ones(3, np.float32)) for i in range(5)}
    rows["bad"] = (np.zeros(1, np.int32), None)  # type: ignore[assignment]
    with pytest.raises(AttributeError):
        store.write("t", rows)
    assert store.missing("t", ["q0", "q4"]) == ["q0", "q4"]
    store.write("t", {"q0": sparse(np.ones(3, np.float32))})
    assert store.missing("t", ["q0"]) == []


def test_threads_may_share_it(tmp_path: Path) -> None:
    store = filled(tmp_path)
    threads = [
        threading.Thread(target=lambda n=n: store.write("t", {f"n{n}": sparse(np.ones(3, np.float32))}))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.missing("t", [f"n{n}" for n in range(8)]) == []
