"""LoRA files: exact round trip, kohya's hashes, equal bytes, whole or not at all, hostile files named."""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from lora_lab.errors import AdapterFileError, OutputError
from lora_lab.network import files
from lora_lab.network.adapter import Adapter
from tests.network.models import World

ROOT = Path(__file__).resolve().parents[2]
METADATA = {"ss_output_name": "größe", "ss_network_dim": "4", "modelspec.title": "a\n\"b\"", "ss_tag_frequency": "{}"}


def small() -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(0)
    site = "lora_unet_mid_block_attentions_0_proj_in"
    return {
        f"{site}.lora_up.weight": torch.randn(64, 4, 1, 1, generator=g),
        f"{site}.lora_down.weight": torch.randn(4, 64, 1, 1, generator=g),
        f"{site}.alpha": torch.tensor(4.0),
    }


def large() -> dict[str, Tensor]:
    """More than 1 MiB, so that the legacy hash reads tensor bytes."""
    g = torch.Generator().manual_seed(0)
    return {**small(), "lora_unet_mid_block_attentions_0_proj_out.lora_up.weight": torch.randn(640, 512, generator=g)}


def kohyas_hashes(tensors: dict[str, Tensor], metadata: dict[str, str]) -> tuple[str, str]:
    """train_util.precalculate_safetensors_hashes, after its description: on the library's own bytes."""
    data = safetensors.torch.save(tensors, {k: v for k, v in metadata.items() if k.startswith("ss_")})
    length = struct.unpack("<Q", data[:8])[0]
    window = io.BytesIO(data)
    window.seek(0x100000)
    return hashlib.sha256(data[8 + length :]).hexdigest(), hashlib.sha256(window.read(0x10000)).hexdigest()[:8]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_the_library_reads_what_we_write(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {name: tensor.to(dtype) for name, tensor in small().items()}
    files.write(tmp_path / "a.safetensors", tensors, METADATA)
    theirs = safetensors.torch.load_file(tmp_path / "a.safetensors")
    again = files.read(tmp_path / "a.safetensors")
    for name, tensor in tensors.items():
        assert torch.equal(theirs[name], tensor)
        assert torch.equal(again.tensors[name], tensor)
        assert again.tensors[name].dtype == dtype
    assert set(again.metadata) == {*METADATA, "sshs_model_hash", "sshs_legacy_hash"}
    assert {key: again.metadata[key] for key in METADATA} == METADATA


def test_there_and_back_is_the_same_file(tmp_path: Path) -> None:
    files.write(tmp_path / "a.safetensors", small(), METADATA)
    again = files.read(tmp_path / "a.safetensors")
    files.write(tmp_path / "b.safetensors", again.tensors, again.metadata)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_equal_content_gives_equal_bytes_in_whatever_order_and_process(tmp_path: Path) -> None:
    files.write(tmp_path / "a.safetensors", small(), METADATA)
    code = (
        "import sys; from pathlib import Path; from lora_lab.network import files;"
        "f = files.read(sys.argv[1]);"
        "turn = lambda d: dict(reversed(list(d.items())));"
        "files.write(Path(sys.argv[2]), turn(f.tensors), turn(f.metadata))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.safetensors"), str(tmp_path / "b.safetensors")]
    subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": "77"})
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


@pytest.mark.parametrize("make", [small, large])
def test_hashes_are_kohyas(tmp_path: Path, make: object) -> None:
    tensors = make()  # type: ignore[operator]
    files.write(tmp_path / "a.safetensors", tensors, METADATA)
    whole, legacy = kohyas_hashes(tensors, METADATA)
    held = files.read(tmp_path / "a.safetensors").metadata
    assert (held["sshs_model_hash"], held["sshs_legacy_hash"]) == (whole, legacy)
    assert files.model_hash(tmp_path / "a.safetensors") == whole


def test_the_header_is_sorted_and_aligned(tmp_path: Path) -> None:
    files.write(tmp_path / "a.safetensors", small(), METADATA)
    data = (tmp_path / "a.safetensors").read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    assert length % 8 == 0
    assert list(header)[0] == "__metadata__"
    assert list(header["__metadata__"]) == sorted(header["__metadata__"])
    assert list(header)[1:] == sorted(small())


def test_an_existing_file_is_kept_unless_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"somebody's work")
    with pytest.raises(OutputError, match="exists already"):
        files.write(path, small(), {})
    assert path.read_bytes() == b"somebody's work"
    files.write(path, small(), {}, overwrite=True)
    assert len(files.read(path).tensors) == 3
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(OutputError, match="no such folder"):
            files.write(folder / "a.safetensors", small(), {})


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a limit on file sizes needs Linux")
def test_a_disk_that_runs_full_leaves_nothing_behind(tmp_path: Path) -> None:
    """A real failing write, midway: the process may make no file above 4 KiB. The old file of that name is kept."""
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"old")
    code = (
        "import resource, signal, sys, torch; from pathlib import Path; from lora_lab.errors import OutputError;"
        "from lora_lab.network import files;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
        "t = {'a.lora_up.weight': torch.zeros(9999)}\n"
        "try: files.write(Path(sys.argv[1]), t, {}, overwrite=True)\n"
        "except OutputError as error: sys.exit(str(error))\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "cannot write (File too large)" in done.stderr
    assert os.listdir(tmp_path) == ["a.safetensors"]
    assert path.read_bytes() == b"old"


def test_an_interrupt_midway_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        files.write(tmp_path / "a.safetensors", small(), {})
    assert os.listdir(tmp_path) == []


def header_of(table: object, data: bytes = b"") -> bytes:
    text = json.dumps(table).encode()
    return struct.pack("<Q", len(text)) + text + data


ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
HOSTILE = {
    "nothing": (b"", "0 bytes"),
    "seven bytes": (b"1234567", "7 bytes"),
    "a head longer than the file": (struct.pack("<Q", 2**40) + b"{}", "claims"),
    "a head of all ones": (b"\xff" * 64, "claims"),
    "no JSON": (struct.pack("<Q", 4) + b"oops", "no JSON"),
    "deep JSON": (struct.pack("<Q", 200_000) + b"[" * 200_000, "no JSON"),
    "a list": (header_of([1, 2]), "damaged"),
    "no dtype": (header_of({"a": {"shape": [1], "data_offsets": [0, 4]}}, bytes(4)), "damaged"),
    "an unknown dtype": (header_of({"a": {**ENTRY, "dtype": "F13"}}, bytes(4)), "unknown dtype F13"),
    "a huge shape": (header_of({"a": {**ENTRY, "shape": [2**62, 2**62]}}, bytes(4)), "impossible"),
    "a negative place": (header_of({"a": {**ENTRY, "data_offsets": [-4, 0]}}, bytes(4)), "impossible"),
    "a shape that lies": (header_of({"a": {**ENTRY, "shape": [2]}}, bytes(4)), "4 bytes for a shape of 8"),
    "an overlap": (header_of({"a": ENTRY, "b": ENTRY}, bytes(4)), "gap or an overlap"),
    "a file cut short": (header_of({"a": ENTRY}, bytes(3)), "announced"),
    "something behind the end": (header_of({"a": ENTRY}, bytes(5)), "announced"),
    "metadata of numbers": (header_of({"__metadata__": {"a": 1}}), "not text"),
}


@pytest.mark.parametrize("name", list(HOSTILE))
def test_hostile_files_are_named_in_one_line(tmp_path: Path, name: str) -> None:
    data, says = HOSTILE[name]
    path = tmp_path / "bad.safetensors"
    path.write_bytes(data)
    with pytest.raises(AdapterFileError, match=says) as caught:
        files.read(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    path = tmp_path / "evil.safetensors"
    torch.save({"a": torch.ones(2)}, path)
    with pytest.raises(AdapterFileError):
        files.read(path)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "no.safetensors", tmp_path):
        with pytest.raises(AdapterFileError, match="no such file"):
            files.read(path)


def test_a_number_that_is_none_is_named(tmp_path: Path) -> None:
    tensors = small()
    name = "lora_unet_mid_block_attentions_0_proj_in.lora_up.weight"
    tensors[name][3, 1] = float("nan")
    safetensors.torch.save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(AdapterFileError, match=f"{name} holds numbers that are not finite"):
        files.read(tmp_path / "a.safetensors")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 600), byte=st.integers(0, 255), cut=st.integers(0, 2000))
def test_any_damage_is_an_error_of_ours_or_no_damage_to_the_reading(
    tmp_path: Path, place: int, byte: int, cut: int
) -> None:
    path = tmp_path / "a.safetensors"
    files.write(path, small(), METADATA, overwrite=True)
    data = bytearray(path.read_bytes())
    data[place] = byte
    path.write_bytes(bytes(data[: len(data) - cut]))
    try:
        held = files.read(path)
    except AdapterFileError as error:
        told = str(error)
    else:
        told = ""
        assert cut == 0
        assert len(held.tensors) == 3
    assert "\n" not in told


def test_an_adapter_there_and_back_through_a_file(tmp_path: Path, some_world: World) -> None:
    adapter = some_world.adapter()
    files.write(tmp_path / "a.safetensors", adapter.to_tensors(), {})
    again = Adapter.from_tensors(some_world.sites(), files.read(tmp_path / "a.safetensors").tensors)
    assert all(torch.equal(a, b) for a, b in zip(adapter.parameters(), again.parameters(), strict=True))
