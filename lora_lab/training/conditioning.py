"""Captions to what the UNet is told, with or without a graph through the text encoder."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from lora_lab.host.base import Conditioning
from lora_lab.training.settings import TrainSettings

if TYPE_CHECKING:
    from lora_lab.dataset.dataset import Batch
    from lora_lab.host.base import LoadedModel

KEPT_CAPTIONS = 2000
"""States of so many captions are kept in memory (0.2 MB each for SD1 in 32 bits)."""


class CaptionEncoder:
    """Encodes the captions of batches.

    When the text encoder learns, every batch goes through it with a graph. When it does not, and captions stay the
    same from epoch to epoch, each is encoded once, alone, so that its states do not depend on its batch.
    """

    def __init__(self, settings: TrainSettings, clip_skip: int, *, learns: bool) -> None:
        moving = settings.shuffle_caption or settings.caption_tag_dropout_rate > 0 or settings.enable_wildcard
        self._length = settings.max_token_length
        self._clip_skip = clip_skip
        self._learns = learns
        # Longer captions have as many chunks as the longest of their batch.
        self._keeps = not moving and not learns and self._length == 75
        self._kept: dict[str, Conditioning] = {}
        self._too_long: str | None = None
        self._told = False

    def __call__(self, model: LoadedModel, captions: Sequence[str]) -> Conditioning:
        """Conditioning of a batch on the model's device; with a graph if the text encoder learns and grad is on."""
        if not self._keeps:
            with torch.set_grad_enabled(self._learns and torch.is_grad_enabled()):
                return self._encode(model, captions)
        with torch.no_grad():
            found = [self._one(model, caption) for caption in captions]
        return _joined(found, model.device)

    def take_warning(self) -> str | None:
        """Said once: a caption did not fit."""
        if self._too_long is None or self._told:
            return None
        self._told = True
        start = self._too_long if len(self._too_long) <= 40 else f"{self._too_long[:40]}..."
        return f"Captions longer than max_token_length {self._length} lose their end, such as {start!r}."

    def _one(self, model: LoadedModel, caption: str) -> Conditioning:
        if caption in self._kept:
            return self._kept[caption]
        found = self._encode(model, [caption])
        found = _joined([found], torch.device("cpu"))
        if len(self._kept) < KEPT_CAPTIONS:
            self._kept[caption] = found
        return found

    def _encode(self, model: LoadedModel, captions: Sequence[str]) -> Conditioning:
        tokens = model.tokenize(captions, self._length)
        for caption, cut in zip(captions, tokens.cut, strict=True):
            if cut:
                self._too_long = caption
        return model.encode_tokens(tokens, self._clip_skip)


def sized(conditioning: Conditioning, batch: Batch) -> Conditioning:
    """With the sizes of the batch's pictures, where the checkpoint wants them (SDXL's does)."""
    if conditioning.pooled is None:
        return conditioning
    width, height = batch.target_size
    rows = [
        (size[1], size[0], crop[1], crop[0], height, width)
        for size, crop in zip(batch.original_sizes, batch.told_crops, strict=True)
    ]
    device = conditioning.context.device
    return dataclasses.replace(conditioning, size_ids=torch.tensor(rows, dtype=torch.int64, device=device))


def _joined(parts: Sequence[Conditioning], device: torch.device) -> Conditioning:
    """Rows one below the other."""
    pooled = [part.pooled for part in parts if part.pooled is not None]
    sizes = [part.size_ids for part in parts if part.size_ids is not None]
    return Conditioning(
        torch.cat([part.context for part in parts]).to(device),
        torch.cat(pooled).to(device) if pooled else None,
        torch.cat(sizes).to(device) if sizes else None,
    )
