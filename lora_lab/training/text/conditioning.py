"""Captions to what the UNet is told, with or without a graph through the text encoder."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lora_lab.families import Family
from lora_lab.host.base import Conditioning
from lora_lab.training.settings import TrainSettings
from lora_lab.training.text.text_cache import TextCache
from lora_lab.training.text.weighted import weigh

if TYPE_CHECKING:
    from lora_lab.dataset.dataset import Batch
    from lora_lab.host.base import LoadedModel, TokenBatch

KEPT_CAPTIONS = 2000
"""States of so many captions are kept in memory unasked (0.2 MB each for SD1 in 32 bits)."""


CHUNK = 75
"""Captions of one chunk are equally long, whatever their batch."""


class CaptionEncoder:
    """Encodes the captions of batches.

    When the text encoder learns, every batch goes through it with a graph. When it does not, and captions stay the
    same from epoch to epoch, each is encoded once, alone, so that its states do not depend on its batch; with a cache
    all of them are, before the first step.
    """

    def __init__(
        self,
        settings: TrainSettings,
        clip_skip: int,
        *,
        learns: bool,
        moving: bool | None = None,
        cache: TextCache | None = None,
    ) -> None:
        """
        Args:
            settings: of the run.
            clip_skip: see `LoadedModel.encode_tokens`.
            learns: is the text encoder trained?
            moving: do captions change from epoch to epoch? None reads it off the settings.
            cache: filled by `fill`; None where the person asked for none.
        """
        if moving is None:
            moving = settings.shuffle_caption or settings.caption_tag_dropout_rate > 0 or settings.enable_wildcard
        self._moving = moving
        self._length = settings.max_token_length
        self._weighted = settings.weighted_captions
        self._clip_skip = clip_skip
        self._learns = learns
        self._asked = cache is not None
        self._keeps = self._asked or (not moving and not learns)
        self._kept = TextCache("") if cache is None else cache
        self._too_long: str | None = None
        self._told = False

    def __call__(self, model: LoadedModel, captions: Sequence[str], beside: Sequence[str] = ()) -> Conditioning:
        """Conditioning of a batch on the model's device; with a graph if the text encoder learns and grad is on.

        Args:
            model: lent.
            captions: of the items.
            beside: captions of the same batch that another process trains: the states are as long as all need.
        """
        if beside and self._length > CHUNK:
            whole = self(model, [*captions, *beside])
            mine = None if whole.pooled is None else whole.pooled[: len(captions)]
            return Conditioning(whole.context[: len(captions)], mine)
        if not self._keeps:
            with torch.set_grad_enabled(self._learns and torch.is_grad_enabled()):
                return self._encode(model, captions)
        with torch.no_grad():
            found = [self._one(model, caption) for caption in captions]
            return _joined(self._padded(model, found), model.device)

    def fill(self, model: LoadedModel, captions: deque[str], over: Callable[[], bool]) -> None:
        """Encode captions for the cache, and take them out of the queue, until `over` says so; at least one."""
        with torch.no_grad():
            while captions:
                self._one(model, captions[0])
                captions.popleft()
                if over():
                    return

    def stop_learning(self) -> None:
        """From now on the text encoder stays as it is: captions are encoded without a graph, fixed ones once."""
        self._learns = False
        self._keeps = self._asked or not self._moving

    def take_warning(self) -> str | None:
        """Said once: a caption did not fit."""
        if self._too_long is None or self._told:
            return None
        self._told = True
        start = self._too_long if len(self._too_long) <= 40 else f"{self._too_long[:40]}..."
        return f"Captions longer than max_token_length {self._length} lose their end, such as {start!r}."

    def _one(self, model: LoadedModel, caption: str) -> Conditioning:
        found = self._kept.get(caption)
        if found is None:
            found = _joined([self._encode(model, [caption])], torch.device("cpu"))
            if self._asked or len(self._kept) < KEPT_CAPTIONS:
                self._kept.put(caption, found)
        return found

    def _padded(self, model: LoadedModel, found: Sequence[Conditioning]) -> list[Conditioning]:
        """All as long as the longest: what lacks are chunks without a word, which no other chunk has a part in."""
        longest = max(part.context.shape[1] for part in found)
        if all(part.context.shape[1] == longest for part in found):
            return list(found)
        blank = self._one(model, "").context

        def filled(states: Tensor) -> Tensor:
            return torch.cat([states, *[blank] * ((longest - states.shape[1]) // blank.shape[1])], 1)

        return [replace(part, context=filled(part.context)) for part in found]

    def _encode(self, model: LoadedModel, captions: Sequence[str]) -> Conditioning:
        if not self._weighted:
            tokens = model.tokenize(captions, self._length)
            self._look(captions, tokens)
            return model.encode_tokens(tokens, self._clip_skip)
        weighed = weigh(model, captions, self._length)
        self._look(captions, weighed.tokens)
        found = model.encode_tokens(weighed.tokens, self._clip_skip)
        return replace(found, context=weighed.apply(found.context, rescale=model.info.family is not Family.SDXL))

    def _look(self, captions: Sequence[str], tokens: TokenBatch) -> None:
        """Remember a caption that is too long."""
        for caption, cut in zip(captions, tokens.cut, strict=True):
            if cut:
                self._too_long = caption


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
    return replace(conditioning, size_ids=torch.tensor(rows, dtype=torch.int64, device=device))


def _joined(parts: Sequence[Conditioning], device: torch.device) -> Conditioning:
    """Rows one below the other."""
    pooled = [part.pooled for part in parts if part.pooled is not None]
    sizes = [part.size_ids for part in parts if part.size_ids is not None]
    return Conditioning(
        torch.cat([part.context for part in parts]).to(device),
        torch.cat(pooled).to(device) if pooled else None,
        torch.cat(sizes).to(device) if sizes else None,
    )
