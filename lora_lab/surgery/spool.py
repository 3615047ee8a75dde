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
from lora_lab.surgery.header import TensorSpec, spec_of
from lora_lab.surgery.streams import TensorWriter, check_output

IN_MEMORY = 256 << 20
"""Bytes that wait in memory before the disk is used."""


class Spool:
    """Tensors on their way into a file. Use it in a ``with``; :meth:`write` makes the file."""

    def __init__(
        self, path: Path, *, force: bool = False, inputs: Iterable[Path] = (), in_memory: int = IN_MEMORY
    ) -> None:
        """Check the output's place.

        Raises:
            OutputError: see :func:`lora_lab.surgery.streams.check_output`.
        """
        check_output(path, 0, force=force, inputs=inputs)
        self.path = path
        self.nbytes = 0
        self._force = force
        self._in_memory = in_memory
        self._held: dict[str, torch.Tensor] = {}
        self._spilled: dict[str, tuple[TensorSpec, int]] = {}
        self._disk: IO[bytes] | None = None

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        if self._disk is not None:
            self._disk.close()

    def put(self, name: str, tensor: torch.Tensor) -> None:
        """Take one tensor; each name once."""
        assert name not in self._held
        assert name not in self._spilled, name
        tensor = tensor.detach().contiguous()
        size = tensor.numel() * tensor.element_size()
        if self.nbytes + size <= self._in_memory:
            self._held[name] = tensor.clone() if tensor.untyped_storage().nbytes() > size else tensor
        else:
            self._spill(name, tensor)
        self.nbytes += size

    def _spill(self, name: str, tensor: torch.Tensor) -> None:
        try:
            if self._disk is None:
                self._disk = tempfile.TemporaryFile(dir=self.path.parent)  # noqa: SIM115 - closed in __exit__
            self._spilled[name] = (spec_of(tensor), self._disk.tell())
            self._disk.write(tensor.reshape(-1).view(torch.uint8).numpy().data)
        except OSError as wrong:
            raise OutputError(f"cannot write ({wrong.strerror})", file=self.path.parent) from wrong

    def write(self, metadata: Mapping[str, str], *, hashes: bool = True) -> int:
        """Write everything that was put as a safetensors file; its size in bytes.

        Raises:
            OutputError: no room, or the file cannot be written.
        """
        specs = {name: spec_of(tensor) for name, tensor in self._held.items()}
        specs |= {name: spec for name, (spec, _) in self._spilled.items()}
        with TensorWriter(self.path, specs, metadata, force=self._force, hashes=hashes) as out:
            for name in sorted(specs):
                out.put(name, self._held[name] if name in self._held else self._back(name))
        return out.size

    def _back(self, name: str) -> torch.Tensor:
        assert self._disk is not None
        spec, place = self._spilled[name]
        self._disk.seek(place)
        buffer = torch.empty(spec.nbytes, dtype=torch.uint8)
        buffer.numpy().data[:] = self._disk.read(spec.nbytes)
        return buffer.view(spec.dtype).reshape(spec.shape)
