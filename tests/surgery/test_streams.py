"""The streaming reader and writer, judged by the safetensors library."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_lab.errors import AdapterFileError, CheckpointError, OutputError
from lora_lab.network import streams
from lora_lab.network.header import DTYPES, spec_of
from lora_lab.network.streams import TensorFile, TensorWriter, check_output
from lora_lab.surgery.spool import Spool

TENSORS = {
    "b.x": torch.arange(3, dtype=torch.float16),
    "a": torch.randn(2, 2),
    "c": torch.ones(1, dtype=torch.bfloat16),
    "alpha": torch.tensor(4.0),
    "i": torch.arange(2),
    "empty": torch.zeros(0, 4),
    "flags": torch.tensor([True, False, True]),
}


def write(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str], **how: bool) -> None:
    with TensorWriter(path, {n: spec_of(t) for n, t in tensors.items()}, metadata, **how) as out:
        for name in reversed(tensors):
            out.put(name, tensors[name])


def test_our_file_is_the_librarys_byte_for_byte(tmp_path: Path) -> None:
    write(tmp_path / "a.safetensors", TENSORS, {"note": "größe\n"})
    assert (tmp_path / "a.safetensors").read_bytes() == safetensors.torch.save(TENSORS, {"note": "größe\n"})


def test_read_gives_what_the_library_wrote(tmp_path: Path) -> None:
    safetensors.torch.save_file(TENSORS, tmp_path / "a.safetensors", {"k": "v"})
    with TensorFile(tmp_path / "a.safetensors") as file:
        assert file.metadata == {"k": "v"}
        assert set(file) == set(TENSORS)
        for name, tensor in TENSORS.items():
            assert torch.equal(file.read(name), tensor)
            assert file.specs[name] == spec_of(tensor)
            data = b"".join(bytes(c) for c in file.chunks(name))
            assert data == tensor.reshape(-1).view(torch.uint8).numpy().tobytes()


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        WORDS.filter(lambda n: n != "__metadata__"),
        st.tuples(st.sampled_from(sorted(DTYPES)), st.lists(st.integers(0, 4), max_size=3)),
        min_size=1,
        max_size=6,
    ),
    WORDS,
)
def test_any_file_equals_the_librarys(
    tmp_path_factory: Any, table: dict[str, tuple[str, list[int]]], note: str
) -> None:
    path = tmp_path_factory.mktemp("any") / "x.safetensors"
    tensors = {name: torch.ones(shape).to(DTYPES[dtype]) for name, (dtype, shape) in table.items()}
    write(path, tensors, {"note": note})
    assert path.read_bytes() == safetensors.torch.save(tensors, {"note": note})


def test_copy_moves_bytes(tmp_path: Path) -> None:
    safetensors.torch.save_file({"x": torch.randn(7, 5).half()}, tmp_path / "a.safetensors")
    with TensorFile(tmp_path / "a.safetensors") as file:
        with TensorWriter(tmp_path / "b.safetensors", {"y": file.specs["x"]}, {}) as out:
            out.copy("y", file, "x")
        assert torch.equal(safetensors.torch.load_file(tmp_path / "b.safetensors")["y"], file.read("x"))


def test_spool_on_disk_and_in_memory_write_the_same(tmp_path: Path) -> None:
    for name, room in (("memory", 1 << 20), ("disk", 9)):
        with Spool(tmp_path / f"{name}.safetensors", in_memory=room) as spool:
            for key, tensor in TENSORS.items():
                spool.put(key, tensor)
            spool.write({"ss_a": "1", "other": "2"})
    memory, disk = (tmp_path / f"{n}.safetensors" for n in ("memory", "disk"))
    assert memory.read_bytes() == disk.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["disk.safetensors", "memory.safetensors"]


def test_a_file_that_goes_to_the_disk_on_the_way_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = {f"t{n}": torch.randn(50, 50) for n in range(20)}
    flushed: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (flushed.append(file), real(file)))
    write(tmp_path / "whole.safetensors", tensors, {})
    assert len(flushed) == 1
    monkeypatch.setattr(streams, "FLUSH", 15_000)
    write(tmp_path / "parts.safetensors", tensors, {})
    assert len(flushed) > 2
    assert (tmp_path / "whole.safetensors").read_bytes() == (tmp_path / "parts.safetensors").read_bytes()


def test_a_disk_that_fails_on_the_way_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(streams, "FLUSH", 15_000)
    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OutputError, match="cannot write"):
        write(tmp_path / "a.safetensors", {f"t{n}": torch.randn(50, 50) for n in range(20)}, {})
    assert list(tmp_path.iterdir()) == []


def test_hashes_are_kohyas(tmp_path: Path) -> None:
    """The judge reads the finished file with the library and follows kohya's recipe on it."""
    tensors = {"x": torch.randn(700, 600), "y": torch.randn(300, 100).half()}
    write(tmp_path / "a.safetensors", tensors, {"ss_a": "1", "b": "2", "sshs_model_hash": "stale"}, hashes=True)
    data = (tmp_path / "a.safetensors").read_bytes()
    start = 8 + struct.unpack("<Q", data[:8])[0]
    with TensorFile(tmp_path / "a.safetensors") as file:
        assert file.metadata["sshs_model_hash"] == hashlib.sha256(data[start:]).hexdigest()
        legacy = safetensors.torch.save(tensors, {"ss_a": "1"})
        assert file.metadata["sshs_legacy_hash"] == hashlib.sha256(legacy[0x100000:0x110000]).hexdigest()[:8]
        assert dict(file.metadata) | {"ss_a": "1", "b": "2"} == dict(file.metadata)


def head(table: object, data: bytes = b"") -> bytes:
    text = json.dumps(table).encode() if not isinstance(table, bytes) else table
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype: object = "F32", shape: object = (1,), span: object = (0, 4)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": span}


HOSTILE = {
    "empty": b"",
    "text": b"hello, this is no model",
    "long head": struct.pack("<Q", 2**62) + b"{}",
    "head beyond the file": struct.pack("<Q", 100) + b"{}",
    "no json": head(b"{not json"),
    "no utf8": head(b'{"\xff": 1}'),
    "deep json": head(b"[" * 20000),
    "a list": head([1]),
    "truncated data": head({"x": entry(shape=[2], span=[0, 8])}, b"1234"),
    "trailing data": head({"x": entry()}, b"12345678"),
    "overlap": head({"x": entry(), "y": entry()}, b"1234"),
    "gap": head({"x": entry(), "y": entry(span=[8, 12])}, b"1" * 12),
    "backwards": head({"x": entry(span=[4, 0])}, b"1234"),
    "negative": head({"x": entry(span=[-4, 0])}, b""),
    "size lies": head({"x": entry(shape=[3])}, b"1234"),
    "dtype": head({"x": entry(dtype="Q4")}, b"1234"),
    "dtype no text": head({"x": entry(dtype=[1])}, b"1234"),
    "shape no list": head({"x": entry(shape=7)}, b"1234"),
    "shape of bool": head({"x": entry(shape=[True])}, b"1234"),
    "huge shape": head({"x": entry(shape=[2**40, 2**40])}, b"1234"),
    "no span": head({"x": {"dtype": "F32", "shape": [1]}}, b"1234"),
    "metadata of numbers": head({"__metadata__": {"a": 1}, "x": entry()}, b"1234"),
    "metadata no table": head({"__metadata__": [1], "x": entry()}, b"1234"),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_damaged_and_hostile_files_are_one_clear_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(data)
    with pytest.raises(CheckpointError) as caught:
        TensorFile(path, CheckpointError)
    assert "bad.safetensors" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.remedy


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 200), st.integers(1, 255))
def test_any_bytes_are_read_or_refused(tmp_path_factory: Any, data: bytes, at: int, flip: int) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "x.safetensors"
    good = bytearray(safetensors.torch.save({"x": torch.ones(2)}, {"k": "v"}))
    good[at % len(good)] ^= flip
    for content in (data, bytes(good)):
        path.write_bytes(content)
        with contextlib.suppress(AdapterFileError), TensorFile(path) as file:
            assert [file.read(name).dtype for name in file] == [file.specs[name].dtype for name in file]


@pytest.mark.parametrize("width", range(100, 170))
def test_no_length_of_the_head_looks_like_another_format(tmp_path: Path, width: int) -> None:
    """A head of 0x80 bytes begins like a pickle."""
    data = head({"x" * width: entry()}, b"1234")
    (tmp_path / "a.safetensors").write_bytes(data)
    with TensorFile(tmp_path / "a.safetensors") as file:
        assert list(file) == ["x" * width]


def test_pickle_and_missing_files_are_named(tmp_path: Path) -> None:
    torch.save({"x": torch.ones(1)}, tmp_path / "old.ckpt")
    with pytest.raises(AdapterFileError, match="pickle"):
        TensorFile(tmp_path / "old.ckpt")
    with pytest.raises(AdapterFileError, match="no such file"):
        TensorFile(tmp_path / "gone.safetensors")


def test_a_file_cut_while_read_is_an_error(tmp_path: Path) -> None:
    safetensors.torch.save_file({"x": torch.randn(100)}, tmp_path / "a.safetensors")
    with TensorFile(tmp_path / "a.safetensors") as file:
        (tmp_path / "a.safetensors").write_bytes(b"x" * 40)
        with pytest.raises(AdapterFileError, match="shorter"):
            file.read("x")


def test_nothing_is_left_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        write_half(tmp_path / "a.safetensors", "unknown")
    with pytest.raises(ValueError, match="never came"):
        write_half(tmp_path / "a.safetensors", "x")
    with pytest.raises(ValueError, match="announced"):
        write_half(tmp_path / "a.safetensors", "y")
    assert list(tmp_path.iterdir()) == []


def write_half(path: Path, name: str) -> None:
    with TensorWriter(path, {"x": spec_of(torch.ones(1)), "y": spec_of(torch.ones(2))}, {}) as out:
        out.put(name, torch.ones(1))


def test_outputs_are_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = tmp_path / "there.safetensors"
    safetensors.torch.save_file({"x": torch.ones(1)}, there)
    before = there.read_bytes()
    with pytest.raises(OutputError, match="exists already"):
        write(there, {"x": torch.zeros(1)}, {})
    with pytest.raises(OutputError, match="one of the inputs"):
        check_output(there, 1, force=True, inputs=[there])
    with pytest.raises(OutputError, match="no such folder"):
        check_output(tmp_path / "no" / "a.safetensors", 1, force=False)
    with pytest.raises(OutputError, match="does not end in"):
        check_output(tmp_path / "a.ckpt", 1, force=False)
    assert there.read_bytes() == before
    write(there, {"x": torch.zeros(1)}, {}, force=True)
    assert safetensors.torch.load_file(there)["x"].item() == 0
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(OutputError, match="no room"):
        write(tmp_path / "b.safetensors", {"x": torch.zeros(1)}, {})
