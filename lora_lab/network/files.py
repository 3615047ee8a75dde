"""LoRA files: read, write whole or not at all, and their hashes. Format and names: docs/files.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lora_lab.errors import AdapterFileError
from lora_lab.network.header import spec_of
from lora_lab.network.streams import TensorFile, TensorWriter


@dataclass(frozen=True)
class AdapterFile:
    """What a LoRA file holds."""

    tensors: Mapping[str, Tensor]
    """Names on disk, e.g. ``lora_unet_mid_block_attentions_0_proj_in.lora_down.weight``."""
    metadata: Mapping[str, str]


def read(path: str | Path) -> AdapterFile:
    """All tensors and the metadata of a LoRA file.

    Raises:
        AdapterFileError: no such file, no safetensors (a pickle is never opened), truncated, hostile, or with a number
            that is not finite.
    """
    with TensorFile(path, AdapterFileError) as file:
        tensors = {name: file.read(name) for name in file}
        metadata = dict(file.metadata)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor.float()).all()):
            what = f"{name} holds numbers that are not finite"
            raise AdapterFileError(what, file=path, remedy="use another snapshot")
    return AdapterFile(tensors, metadata)


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, overwrite: bool = False) -> None:
    """Write a LoRA file, with kohya's two hashes put into its metadata; equal content gives equal bytes.

    Args:
        path: ends in ``.safetensors``.
        tensors: names on disk to tensors of any floating dtype; they are written as they are.
        metadata: text to text; ``sshs_*`` in it is replaced.
        overwrite: replace a file of that name.

    Raises:
        OutputError: the file exists, the folder is missing or not writable, or the disk is full. Nothing is left.
    """
    specs = {name: spec_of(tensor) for name, tensor in tensors.items()}
    with TensorWriter(path, specs, metadata, force=overwrite, hashes=True) as writer:
        for name, tensor in tensors.items():
            writer.put(name, tensor.detach().cpu())


def model_hash(path: str | Path) -> str:
    """``sshs_model_hash``: sha256 of all bytes after the header, 64 hex digits.

    Raises:
        AdapterFileError: no safetensors file.
    """
    with TensorFile(path, AdapterFileError) as file:
        return file.data_hash()
