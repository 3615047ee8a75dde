"""cache_text_encoder_outputs: the states of all captions of a run, kept in memory, and on disk where that is asked for.

States belong to a caption, a checkpoint, and how captions are read; whatever of them changes, they are made again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from lora_lab.dataset.captions import MOST_VARIANTS, variants
from lora_lab.dataset.problems import told
from lora_lab.dataset.scan import Item
from lora_lab.errors import DatasetError
from lora_lab.host.base import Conditioning
from lora_lab.training.checks.captions import caches_text
from lora_lab.training.settings import TrainSettings


class TextCache:
    """Conditioning of single captions (1, t, c), on the CPU, by caption."""

    def __init__(self, reading: str, folder: Path | None = None) -> None:
        """
        Args:
            reading: changes with whatever else decides the states: checkpoint, layer, length, precision.
            folder: where to keep them on disk too; None keeps them in memory only.
        """
        self._reading = reading
        self._folder = folder
        self._memory: dict[str, Conditioning] = {}
        self.warning = ""
        """Why the disk is not written to any more; empty while it is."""

    def __len__(self) -> int:
        return len(self._memory)

    def get(self, caption: str) -> Conditioning | None:
        """The states, from memory or disk; None if they must be made (a damaged file counts as none)."""
        if caption not in self._memory and self._folder is not None:
            found = _read(self._file(caption))
            if found is not None:
                self._memory[caption] = found
        return self._memory.get(caption)

    def put(self, caption: str, found: Conditioning) -> None:
        """Keep states. A disk that is full or may not be written to leaves them in memory, and `warning` says so."""
        self._memory[caption] = found
        if self._folder is None or self.warning:
            return
        file = self._file(caption)
        part = file.with_name(f"{file.name}.{os.getpid()}.part")
        tensors = {"context": found.context.contiguous()}
        if found.pooled is not None:
            tensors["pooled"] = found.pooled.contiguous()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            save_file(tensors, str(part))
            part.replace(file)
        except (OSError, SafetensorError) as error:
            what = f"{self._folder} cannot be written to ({error})"
            self.warning = f"the text encoder's outputs are kept in memory only from here on: {what}"
            with suppress(OSError):
                part.unlink()

    def _file(self, caption: str) -> Path:
        assert self._folder is not None
        digest = hashlib.sha256(f"{self._reading}\0{caption}".encode("utf-8", "replace")).hexdigest()
        return self._folder / f"{digest}.safetensors"


def _read(file: Path) -> Conditioning | None:
    if not file.is_file():
        return None
    try:
        # A copy: what safetensors hands out is the mapped file itself, which nobody could delete or replace then.
        tensors = {name: tensor.clone() for name, tensor in load_file(str(file)).items()}
        context = tensors["context"]
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError):
        return None  # damaged, or of another make: made again and replaced
    finite = all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values())
    good = finite and context.dim() == 3 and context.shape[1] % 77 == 0
    return Conditioning(context, tensors.get("pooled")) if good else None


def cache_for(settings: TrainSettings, reading: Sequence[object], folder: Path) -> TextCache | None:
    """The cache that the settings ask for.

    Args:
        settings: of the run.
        reading: checkpoint, layer, precision: what decides the states beside caption and settings.
        folder: for those on disk.
    """
    if not caches_text(settings):
        return None
    key = " ".join(map(str, (*reading, settings.max_token_length, settings.weighted_captions)))
    return TextCache(key, folder if settings.cache_text_encoder_outputs_to_disk else None)


def captions_of(items: Iterable[Item]) -> list[str]:
    """Every caption that these items may be trained with, the empty one first (shorter captions are padded with it).

    Raises:
        DatasetError: a caption has more variants than are kept.
    """
    found = {"": None}
    for item in items:
        every = variants(item.picture.caption, item.subset.options)
        if every is None:
            what = f"its wildcards make more than {MOST_VARIANTS} captions: too many for the text encoder's cache"
            remedy = "take some away, or switch cache_text_encoder_outputs off"
            raise DatasetError(what, file=told(item.picture.path), remedy=remedy)
        found.update(dict.fromkeys(sorted(every)))
    return list(found)
