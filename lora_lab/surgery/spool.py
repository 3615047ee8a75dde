"""Collect tensors whose shapes are known only when they come, then write them as one safetensors file.

An extraction with dynamic ranks does not know its output's head before it is done, and a LoRA for SDXL can be
larger than the memory that a tool may take: beyond a limit the tensors wait in a nameless file on the output's disk.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO

import torch

from lora_lab.errors import OutputError
from lora_lab.network.header import TensorSpec, spec_of
from lora_lab.network.streams import TensorWriter, check_output

IN_MEMORY = 256 << 20
"""Bytes that wait in memory before the disk is used."""


class Heap:
    """Tensors by name, in memory up to a limit and in a nameless file beyond it. Use it in a ``with``."""

    def __init__(self, folder: Path, in_memory: int = IN_MEMORY) -> None:
        self.specs: dict[str, TensorSpec] = {}
        self._folder = folder
        self._room = in_memory
        self._held: dict[str, torch.Tensor] = {}
        self._places: dict[str, int] = {}
        self._disk: IO[bytes] | None = None

    def __enter__(self) -> Heap:
        return self

    def __exit__(self, *_: object) -> None:
        if self._disk is not None:
            self._disk.close()

    def put(self, name: str, tensor: torch.Tensor) -> None:
        """Take one tensor; each name once.

        Raises:
            OutputError: the disk is full.
        """
        assert name not in self.specs, name
        tensor = tensor.detach().contiguous()
        spec = spec_of(tensor)
        if spec.nbytes <= self._room:
            self._room -= spec.nbytes
            whole = tensor.untyped_storage().nbytes() == spec.nbytes
            self._held[name] = tensor if whole else tensor.clone()
        else:
            self._spill(name, tensor)
        self.specs[name] = spec

    def _spill(self, name: str, tensor: torch.Tensor) -> None:
        try:
            if self._disk is None:
                self._disk = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - closed in __exit__
            self._places[name] = self._disk.seek(0, 2)
            self._disk.write(tensor.reshape(-1).view(torch.uint8).numpy().data)
        except OSError as wrong:
            raise OutputError(f"cannot write ({wrong.strerror})", file=self._folder) from wrong

    def get(self, name: str) -> torch.Tensor:
        """One tensor back."""
        if name in self._held:
            return self._held[name]
        assert self._disk is not None
        spec = self.specs[name]
        buffer = torch.empty(spec.nbytes, dtype=torch.uint8)
        self._disk.seek(self._places[name])
        buffer.numpy().data[:] = self._disk.read(spec.nbytes)
        return buffer.view(spec.dtype).reshape(spec.shape)


class Spool(Heap):
    """Tensors on their way into a file."""

    def __init__(
        self, path: Path, *, force: bool = False, inputs: Iterable[Path] = (), in_memory: int = IN_MEMORY,
        expect: int = 0,
    ) -> None:
        """Check the output's place.

        Args:
            expect: bytes that the disk must have room for, as far as they are known before the work.

        Raises:
            OutputError: see :func:`lora_lab.network.streams.check_output`.
        """
        check_output(path, expect, force=force, inputs=inputs)
        super().__init__(path.parent, in_memory)
        self.path = path
        self._force = force

    def __enter__(self) -> Spool:
        return self

    def write(self, metadata: Mapping[str, str], *, hashes: bool = True) -> int:
        """Write everything that was put as a safetensors file; its size in bytes.

        Raises:
            OutputError: no room, or the file cannot be written.
        """
        with TensorWriter(self.path, self.specs, metadata, force=self._force, hashes=hashes) as out:
            for name in sorted(self.specs):
                out.put(name, self.get(name))
        return out.size
