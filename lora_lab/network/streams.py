"""Read and write safetensors files one tensor at a time, whole or not at all.

Tensors are read into memory of their own, never mapped: what a tool holds is then what it is measured at, and a
file that somebody shortens meanwhile is a clear error instead of a crash of the process.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from io import FileIO
from pathlib import Path
from types import TracebackType

import torch

from lora_lab.errors import AdapterFileError, OutputError, UserError
from lora_lab.network import header
from lora_lab.network.header import Entry, TensorSpec

CHUNK = 16 << 20
OVERWRITE = "choose another name, or allow to overwrite it (--force)"
FLUSH = 256 << 20
"""Bytes after which a file goes on to the disk itself, while the next tensors are made."""
SPARE = 32 << 20
"""Bytes that stay free on a disk after a file of ours."""


class TensorFile:
    """An open safetensors file: specs at once, tensors when asked for. Use it in a ``with``."""

    def __init__(self, path: str | Path, error: type[UserError] = AdapterFileError) -> None:
        """Open and check the head.

        Raises:
            UserError: of the class ``error``: no such file, no safetensors, truncated, or hostile.
        """
        self.path = Path(path)
        self._error = error
        if not self.path.is_file():
            raise error("there is no such file", file=self.path, remedy="check the path")
        try:
            self._file = self.path.open("rb", buffering=0)
        except OSError as wrong:
            raise error(f"the file cannot be opened ({wrong.strerror})", file=self.path) from wrong
        try:
            self._header = header.read(self._file, self.path, error)
        except BaseException:
            self._file.close()
            raise
        self.specs: Mapping[str, TensorSpec] = {n: e.spec for n, e in self._header.entries.items()}
        self.metadata: Mapping[str, str] = self._header.metadata

    def __enter__(self) -> TensorFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the specs stay."""
        self._file.close()

    def __contains__(self, name: object) -> bool:
        return name in self.specs

    def __iter__(self) -> Iterator[str]:
        return iter(self.specs)

    def read(self, name: str, dtype: torch.dtype | None = None) -> torch.Tensor:
        """One tensor in memory of its own, in the file's dtype or in ``dtype``."""
        entry = self._header.entries[name]
        buffer = torch.empty(entry.spec.nbytes, dtype=torch.uint8)
        if entry.spec.nbytes:
            self._fill(entry.start, buffer.numpy().data)
        tensor = buffer.view(entry.spec.dtype).reshape(entry.spec.shape)
        return tensor if dtype is None else tensor.to(dtype)

    def chunks(self, name: str) -> Iterator[memoryview]:
        """The bytes of one tensor, piece by piece; a piece is good until the next is asked for."""
        entry = self._header.entries[name]
        buffer = memoryview(bytearray(min(CHUNK, entry.spec.nbytes)))
        done = 0
        while done < entry.spec.nbytes:
            piece = buffer[: min(CHUNK, entry.spec.nbytes - done)]
            self._fill(entry.start + done, piece)
            yield piece
            done += len(piece)

    def data_hash(self) -> str:
        """sha256 of all bytes after the head, 64 digits: what LoRA files call `sshs_model_hash`."""
        digest = hashlib.sha256()
        self._file.seek(self._header.data_start)
        while piece := self._file.read(CHUNK):
            digest.update(piece)
        return digest.hexdigest()

    def _fill(self, start: int, into: memoryview) -> None:
        self._file.seek(start)
        done = 0
        while done < len(into):
            got = self._file.readinto(into[done:])
            if not got:
                raise self._error("the file became shorter while it was read", file=self.path, remedy="try again")
            done += got


def check_output(path: Path, size: int, *, force: bool, inputs: Iterable[Path] = ()) -> None:
    """Refuse a place that cannot take ``size`` bytes, before any work is done.

    Raises:
        OutputError: the file is there and ``force`` is not set, it is one of the inputs, its folder is missing
            or not writable, or the disk has no room.
    """
    if path.suffix != ".safetensors":
        raise OutputError("the output's name does not end in .safetensors", file=path, remedy="choose another name")
    if any(path.exists() and source.exists() and path.samefile(source) for source in inputs):
        raise OutputError("the output is one of the inputs", file=path, remedy="choose another name")
    if path.is_dir() or (path.exists() and not force):
        raise OutputError("the output exists already", file=path, remedy=OVERWRITE)
    folder = path.parent
    if not folder.is_dir():
        raise OutputError("there is no such folder", file=folder, remedy="create it, or choose another one")
    if not os.access(folder, os.W_OK):
        raise OutputError("the folder cannot be written to", file=folder, remedy="choose another one")
    free = shutil.disk_usage(folder).free
    if free < size + SPARE:
        raise OutputError(
            f"no room on the disk: {size / 1e6:,.0f} MB are needed, {free / 1e6:,.0f} MB are free",
            file=folder,
            remedy="free some, or choose another folder",
        )


class TensorWriter:
    """A new safetensors file whose tensors are known beforehand and arrive in any order.

    It takes the name only when ``with`` is left in peace and every tensor has arrived; until then, and after an
    error, there is nothing but a file ending in `.part`, which is removed.
    """

    def __init__(
        self,
        path: Path,
        specs: Mapping[str, TensorSpec],
        metadata: Mapping[str, str],
        *,
        force: bool = False,
        hashes: bool = False,
    ) -> None:
        """Check the room and reserve the file.

        Args:
            hashes: put in `sshs_model_hash` and `sshs_legacy_hash`, as LoRA files have them.

        Raises:
            OutputError: see :func:`check_output`.
        """
        self.path = path
        self._hashes = hashes
        self._force = force
        self._metadata = {key: text for key, text in metadata.items() if not (hashes and key in HASH_KEYS)}
        full = self._metadata | ({key: "0" * width for key, width in HASH_KEYS.items()} if hashes else {})
        self._specs = dict(specs)
        self._head, self._places = header.build(specs, full)
        self.size = len(self._head) + sum(spec.nbytes for spec in specs.values())
        check_output(path, self.size, force=force)
        self._part = path.with_name(f".{path.name}.{os.getpid()}.part")
        self._flusher = ThreadPoolExecutor(1)
        self._flushing: Future[None] | None = None
        self._unflushed = 0
        self._waiting = set(specs)

    def __enter__(self) -> TensorWriter:
        try:
            self._file = self._part.open("w+b", buffering=0)
            self._file.write(self._head)
        except OSError as wrong:
            raise OutputError(f"cannot write ({wrong.strerror})", file=self.path.parent) from wrong
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, _: TracebackType | None) -> None:
        try:
            if kind is None:
                self._finish()
        except OSError as wrong:
            raise OutputError(f"cannot write ({wrong.strerror})", file=self.path) from wrong
        finally:
            self._flusher.shutdown()
            self._file.close()
            self._part.unlink(missing_ok=True)
        if isinstance(value, OSError):
            raise OutputError(f"cannot write ({value.strerror})", file=self.path) from value

    def put(self, name: str, tensor: torch.Tensor) -> None:
        """Write one tensor, which must have the announced dtype and shape."""
        entry = self._arrived(name, header.spec_of(tensor))
        flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
        self._write(entry.start, flat.numpy().data)

    def copy(self, name: str, source: TensorFile, source_name: str | None = None) -> None:
        """Copy one tensor's bytes from another file as they are."""
        source_name = name if source_name is None else source_name
        start = self._arrived(name, source.specs[source_name]).start
        for piece in source.chunks(source_name):
            self._write(start, piece)
            start += len(piece)

    def _arrived(self, name: str, spec: TensorSpec) -> Entry:
        if spec != self._places[name].spec:
            raise ValueError(f"{name}: {spec} was announced as {self._places[name].spec}")
        self._waiting.remove(name)
        return self._places[name]

    def _write(self, start: int, data: memoryview) -> None:
        self._file.seek(start)
        done = 0
        while done < len(data):
            done += self._file.write(data[done:])
        self._unflushed += len(data)
        if self._unflushed > FLUSH and (self._flushing is None or self._flushing.done()):
            self._unflushed = 0
            self._flushing = self._flusher.submit(os.fsync, self._file.fileno())

    def _finish(self) -> None:
        if self._waiting:
            raise ValueError(f"{len(self._waiting)} tensors never came, such as {min(self._waiting)}")
        if self._hashes:
            self._write(0, memoryview(self._head_with_hashes()))
        self._flusher.shutdown()
        if self._flushing is not None:
            self._flushing.result()
        os.fsync(self._file.fileno())
        self._file.close()
        if self.path.exists() and not self._force:
            raise OutputError("the output exists by now", file=self.path, remedy=OVERWRITE)
        os.replace(self._part, self.path)

    def _head_with_hashes(self) -> bytes:
        only_ss = {key: text for key, text in self._metadata.items() if key.startswith("ss_")}
        legacy_head, _ = header.build(self._specs, only_ss)
        hashes = file_hashes(self._file, len(self._head), legacy_head)
        head, _ = header.build(self._specs, self._metadata | hashes)
        assert len(head) == len(self._head)
        return head


HASH_KEYS = {"sshs_legacy_hash": 8, "sshs_model_hash": 64}
"""Names of kohya's two hashes in the metadata, and how many hexadecimal digits they have."""


def file_hashes(file: FileIO, data_start: int, legacy_head: bytes) -> dict[str, str]:
    """kohya's two hashes of a LoRA file (train_util.precalculate_safetensors_hashes): of all bytes after the
    head, and of 64 KiB at 1 MiB of the file with its `ss_` metadata only, cut to 8 digits."""
    whole = hashlib.sha256()
    file.seek(data_start)
    while piece := file.read(CHUNK):
        whole.update(piece)
    begin, width = 0x100000, 0x10000
    window = legacy_head[begin : begin + width]
    file.seek(data_start + max(0, begin - len(legacy_head)))
    while len(window) < width and (piece := file.read(width - len(window))):
        window += piece
    return {"sshs_legacy_hash": hashlib.sha256(window).hexdigest()[:8], "sshs_model_hash": whole.hexdigest()}
