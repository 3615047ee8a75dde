"""Latents that are computed once: kept in memory, and on disk where that is asked for.

A latent belongs to a picture's content, a VAE, a size, a crop and a flip; whatever of them changes, it is encoded
again.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lora_lab.dataset.buckets import Placement


@dataclass(frozen=True)
class LatentKey:
    """What a latent depends on."""

    picture: str
    """sha256 of the file."""
    vae: str
    """Identity of the VAE."""
    placement: Placement
    flipped: bool
    how: str = ""
    """resize_interpolation."""

    def digest(self) -> str:
        """A name for a file, 64 hex digits."""
        p = self.placement
        text = f"{self.picture} {self.vae} {p.resized} {p.bucket} {p.centre()} {self.flipped} 1{self.how}"
        return hashlib.sha256(text.encode()).hexdigest()


class LatentCache:
    """Latents (4, h/8, w/8), float32 on the CPU, by key."""

    def __init__(self, folder: Path | None = None) -> None:
        """
        Args:
            folder: where to keep them on disk too; None keeps them in memory only.
        """
        self._memory: dict[LatentKey, Tensor] = {}
        self._folder = folder
        self.warning = ""
        """Why the disk is not written to any more; empty while it is."""

    def __len__(self) -> int:
        return len(self._memory)

    def get(self, key: LatentKey) -> Tensor | None:
        """The latent, from memory or disk; None if it must be encoded (a damaged file counts as none)."""
        if key not in self._memory and self._folder is not None:
            found = _read(self._file(key), key.placement)
            if found is not None:
                self._memory[key] = found
        return self._memory.get(key)

    def __getitem__(self, key: LatentKey) -> Tensor:
        """A latent that was put before.

        Raises:
            KeyError: it was not.
        """
        return self._memory[key]

    def put(self, key: LatentKey, latent: Tensor) -> None:
        """Keep a latent. A disk that is full or may not be written to leaves it in memory, and `warning` says so."""
        self._memory[key] = latent
        if self._folder is None or self.warning:
            return
        file = self._file(key)
        part = file.with_name(f"{file.name}.{os.getpid()}.part")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            save_file({"latent": latent.contiguous()}, str(part))
            part.replace(file)
        except (OSError, SafetensorError) as error:
            what = f"{self._folder} cannot be written to ({error})"
            self.warning = f"latents are kept in memory only from here on: {what}"
            with suppress(OSError):
                part.unlink()

    def clear(self) -> None:
        """Forget what is in memory; files stay."""
        self._memory.clear()

    def _file(self, key: LatentKey) -> Path:
        assert self._folder is not None
        return self._folder / f"{key.digest()}.safetensors"


def _read(file: Path, placement: Placement) -> Tensor | None:
    if not file.is_file():
        return None
    try:
        # A copy: what safetensors hands out is the mapped file itself, which nobody could delete or replace then.
        latent = load_file(str(file))["latent"].to(torch.float32, copy=True)
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError):
        return None  # damaged, or of another make: encoded again and replaced
    right = latent.shape == (4, placement.bucket[1] // 8, placement.bucket[0] // 8)
    return latent if right and bool(torch.isfinite(latent).all()) else None
