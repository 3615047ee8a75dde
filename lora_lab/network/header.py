"""The head of a safetensors file as plain data: parsing with every check, and writing in one fixed order.

Format: 8 bytes little-endian length, a JSON object `name -> {dtype, shape, data_offsets}` with an optional
`__metadata__` of strings, then the bytes of the tensors without gaps
(https://huggingface.co/docs/safetensors, "Format"). The order of the tensors is the one of the safetensors library,
by dtype and then by name, so that our files equal its files byte for byte.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from io import FileIO
from math import prod
from pathlib import Path
from typing import IO, Any

import torch

from lora_lab.errors import UserError

DTYPES: dict[str, torch.dtype] = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3": torch.float8_e4m3fn,
    "I16": torch.int16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I32": torch.int32,
    "F32": torch.float32,
    "F64": torch.float64,
    "I64": torch.int64,
}
"""Names on disk, from the last to the first in a file."""

NAMES = {dtype: name for name, dtype in DTYPES.items()}
ORDER = {dtype: -number for number, dtype in enumerate(DTYPES.values())}
MAX_HEADER = 100_000_000
"""The safetensors library's own limit, in bytes."""


@dataclass(frozen=True)
class TensorSpec:
    """What a tensor is without its values."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """The number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The size on disk, in bytes."""
        return self.count * self.dtype.itemsize


@dataclass(frozen=True)
class Entry:
    """A tensor's place in a file: ``start`` counts from the beginning of the file."""

    spec: TensorSpec
    start: int


@dataclass(frozen=True)
class Header:
    """All entries in the file's order, the metadata, and where the tensors' bytes begin."""

    entries: Mapping[str, Entry]
    metadata: Mapping[str, str]
    data_start: int


def spec_of(tensor: torch.Tensor) -> TensorSpec:
    """The spec of a tensor in memory."""
    return TensorSpec(tensor.dtype, tuple(tensor.shape))


def in_order(specs: Mapping[str, TensorSpec]) -> list[str]:
    """The names in the order in which a file holds them."""
    return sorted(specs, key=lambda name: (ORDER[specs[name].dtype], name))


def build(specs: Mapping[str, TensorSpec], metadata: Mapping[str, str]) -> tuple[bytes, dict[str, Entry]]:
    """The bytes of a file's head, and the place of every tensor. Metadata keys are sorted."""
    table: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    offset = 0
    for name in in_order(specs):
        spec = specs[name]
        end = offset + spec.nbytes
        table[name] = {"dtype": NAMES[spec.dtype], "shape": list(spec.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    head = struct.pack("<Q", len(text)) + text
    places: dict[str, Entry] = {}
    offset = len(head)
    for name in in_order(specs):
        places[name] = Entry(specs[name], offset)
        offset += specs[name].nbytes
    return head, places


def read(file: IO[bytes] | FileIO, path: Path, error: type[UserError]) -> Header:
    """Read and check the head of an open file.

    Args:
        error: the class of the error to raise: CheckpointError or AdapterFileError.

    Raises:
        UserError: truncated, no safetensors, or a head that lies about sizes, shapes or places.
    """
    size = file.seek(0, 2)
    file.seek(0)
    start = file.read(8)
    damaged = "get the file again; it is no safetensors file, or was cut short"
    if len(start) < 8:
        raise error(f"the file has only {size} bytes", file=path, remedy=damaged)
    length = struct.unpack("<Q", start)[0]
    if length > min(MAX_HEADER, size - 8):
        if start[:4] == b"PK\x03\x04" or start[:1] == b"\x80":
            raise error("this is a pickle file, not safetensors", file=path, remedy="convert it to safetensors first")
        raise error(f"the head claims {length} bytes of a file of {size}", file=path, remedy=damaged)
    try:
        table = json.loads(file.read(length).decode("utf-8"))
    except (UnicodeDecodeError, ValueError, RecursionError) as wrong:
        raise error("the head is no JSON", file=path, remedy=damaged) from wrong
    try:
        return _checked(table, 8 + length, size)
    except (KeyError, TypeError, ValueError) as wrong:
        reason = wrong.args[0] if isinstance(wrong, ValueError) and wrong.args else "an entry is malformed"
        raise error(f"the head is damaged: {reason}", file=path, remedy=damaged) from wrong


def _checked(table: Any, data_start: int, size: int) -> Header:  # noqa: ANN401 - whatever the JSON holds
    """The header of a parsed table; ValueError says what is wrong with it."""
    if not isinstance(table, dict):
        raise ValueError("no table of tensors")
    metadata = table.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError("metadata that is not text")
    found = sorted(((_span(name, item), name, item) for name, item in table.items()), key=lambda row: row[0])
    entries: dict[str, Entry] = {}
    place = 0
    for (begin, end), name, item in found:
        spec = TensorSpec(DTYPES[item["dtype"]], tuple(item["shape"]))
        if begin != place:
            raise ValueError(f"a gap or an overlap before '{name[:80]}'")
        if end - begin != spec.nbytes:
            raise ValueError(f"'{name[:80]}' has {end - begin} bytes for a shape of {spec.nbytes}")
        entries[name] = Entry(spec, data_start + begin)
        place = end
    if data_start + place != size:
        raise ValueError(f"{data_start + place} bytes are announced, {size} are there")
    return Header(entries, metadata, data_start)


def _span(name: str, item: Any) -> tuple[int, int]:  # noqa: ANN401 - whatever the JSON holds
    """Begin and end of an entry, counted from the first tensor; ValueError for one that is malformed."""
    begin, end = item["data_offsets"]
    if item["dtype"] not in DTYPES:
        raise ValueError(f"'{name[:80]}' has the unknown dtype {str(item['dtype'])[:20]}")
    numbers = [begin, end, *item["shape"]]
    if not all(type(n) is int and 0 <= n < 2**48 for n in numbers) or len(item["shape"]) > 8:
        raise ValueError(f"'{name[:80]}' has an impossible shape or place")
    return begin, end
