"""A dataset as training reads it: epochs of batches, each item with its latent, caption and weight.

Every draw (order, flip, crop, caption) is keyed by seed, epoch and item, so that a run that is resumed at any step goes
on with the same batches.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lora_lab.dataset import captions, pictures
from lora_lab.dataset.buckets import Size
from lora_lab.dataset.latents import LatentCache, LatentKey
from lora_lab.dataset.problems import told
from lora_lab.dataset.scan import Item, ScanReport, epoch_items, require_pictures
from lora_lab.errors import DatasetError

Encode = Callable[[Tensor], Tensor]
"""Pixels (b, 3, h, w) in -1..1 to scaled latents (b, 4, h/8, w/8), float32 on the CPU."""


@dataclass(frozen=True)
class BatchPlan:
    """Which items make a batch; all of one bucket."""

    epoch: int
    """1-based."""
    indices: tuple[int, ...]
    """Positions in the epoch's items, repeats counted."""


@dataclass(frozen=True)
class Batch:
    """What one call of the UNet is trained on."""

    latents: Tensor
    """(b, 4, h/8, w/8), scaled, float32 on the CPU."""
    captions: list[str]
    weights: Tensor
    """(b,): 1, or prior_loss_weight for regularisation pictures."""
    item_keys: list[int]
    """A stable number of each item: its picture's place in the dataset."""
    original_sizes: list[Size]
    """Width, height of the pictures before resizing."""
    crops: list[Size]
    """Left, top of the crop in the resized picture."""
    told_crops: list[Size]
    """Left, top as SDXL is told, see `Placement.told`."""
    target_size: Size
    """The bucket."""


class Dataset:
    """The usable pictures of a scan."""

    def __init__(self, report: ScanReport, cache_dir: Path | None = None) -> None:
        """
        Args:
            report: from `scan.scan`.
            cache_dir: where latents are kept when cache_latents_to_disk is set.

        Raises:
            DatasetError: there is no picture to train on.
        """
        require_pictures(report)
        self.report = report
        self.options = report.options
        self._places = {id(item): i for i, item in enumerate(report.items)}
        self._items = [item for item, count in epoch_items(report) for _ in range(count)]
        self._hashes: dict[Path, str] = {}
        self._cache = LatentCache(cache_dir if self.options.cache_latents_to_disk else None)
        self._cached = self.options.caches
        self._encode: Encode | None = None
        self._vae = ""

    def __len__(self) -> int:
        """Items of an epoch, repeats counted."""
        return len(self._items)

    @property
    def warning(self) -> str:
        """Why latents are not kept on disk any more, or empty."""
        return self._cache.warning

    def prepare(self, encode: Encode, vae_identity: str) -> Iterator[tuple[int, int]]:
        """Get ready for `load`: encode all pictures if latents are cached. Yields (done, total) pictures as it goes.

        Args:
            encode: the live VAE; kept for `load` when latents are not cached.
            vae_identity: changes when another VAE is live.

        Raises:
            DatasetError: a picture cannot be decoded, or its latent is no number.
        """
        self._encode, self._vae = encode, vae_identity
        if not self._cached:
            return
        flips = (False, True) if self.options.flip_aug else (False,)
        items = {id(item): item for item in self._items}.values()
        wanted = [_View(item, flipped, item.placement.centre()) for item in items for flipped in flips]
        groups: dict[Size, list[_View]] = defaultdict(list)
        for view in wanted:
            if self._cache.get(self._key(view)) is None:
                groups[view.item.placement.bucket].append(view)
        done = len(wanted) - sum(map(len, groups.values()))
        yield done, len(wanted)
        for group in groups.values():
            for start in range(0, len(group), self.options.vae_batch_size):
                part = group[start : start + self.options.vae_batch_size]
                self._encode_part(part)
                done += len(part)
                yield done, len(wanted)

    def epoch(self, epoch: int) -> list[BatchPlan]:
        """The batches of an epoch (1-based), shuffled; a bucket's last batch is short."""
        r = self._random("order", epoch, 0)
        buckets: dict[Size, list[int]] = defaultdict(list)
        for index, item in enumerate(self._items):
            buckets[item.placement.bucket].append(index)
        size = self.options.train_batch_size
        plans: list[BatchPlan] = []
        for indices in buckets.values():
            r.shuffle(indices)
            plans += [BatchPlan(epoch, tuple(indices[i : i + size])) for i in range(0, len(indices), size)]
        r.shuffle(plans)
        return plans

    def load(self, plan: BatchPlan) -> Batch:
        """The batch of a plan.

        Raises:
            DatasetError: a picture that is not cached has vanished, or cannot be decoded.
        """
        items = [self._items[i] for i in plan.indices]
        views = [self._view(i, plan.epoch) for i in plan.indices]
        weights = [self.options.prior_loss_weight if item.subset.regularisation else 1.0 for item in items]
        return Batch(
            latents=torch.stack(self._latents(views)),
            captions=[self.caption(i, plan.epoch) for i in plan.indices],
            weights=torch.tensor(weights, dtype=torch.float32),
            item_keys=[self._places[id(item)] for item in items],
            original_sizes=[item.picture.size for item in items],
            crops=[view.crop for view in views],
            told_crops=[view.item.placement.told(view.item.picture.size, view.flipped) for view in views],
            target_size=items[0].placement.bucket,
        )

    def caption(self, index: int, epoch: int) -> str:
        """The caption of an item (its place in the epoch's items) in an epoch, all options applied."""
        text = self._items[index].picture.caption
        return captions.process(text, self.options, epoch, self._random("caption", epoch, index))

    def _view(self, index: int, epoch: int) -> _View:
        """How an item of the epoch's items is seen this time."""
        item = self._items[index]
        r = self._random("picture", epoch, index)
        flipped = self.options.flip_aug and r.random() < 0.5
        place = item.placement
        if not self.options.random_crop:
            return _View(item, flipped, place.centre())
        room = (place.resized[0] - place.bucket[0], place.resized[1] - place.bucket[1])
        return _View(item, flipped, (r.randint(0, room[0]), r.randint(0, room[1])))

    def _latents(self, views: list[_View]) -> list[Tensor]:
        """From the cache, else encoded in one go."""
        if not self._cached:
            return self._encoded(views)
        missing = [view for view in dict.fromkeys(views) if self._cache.get(self._key(view)) is None]
        if missing:
            self._encode_part(missing)
        return [self._cache[self._key(view)] for view in views]

    def _encode_part(self, views: list[_View]) -> None:
        for view, latent in zip(views, self._encoded(views), strict=True):
            self._cache.put(self._key(view), latent)

    def _encoded(self, views: list[_View]) -> list[Tensor]:
        if self._encode is None:
            raise RuntimeError("prepare() comes before load()")
        pixels = torch.stack([_pixels(view) for view in views])
        latents = self._encode(pixels).float().cpu()
        for latent, view in zip(latents, views, strict=True):
            if not bool(torch.isfinite(latent).all()):
                remedy = "start the host with --no-half-vae, or load another VAE"
                what = "the VAE makes no numbers of this picture"
                raise DatasetError(what, file=told(view.item.picture.path), remedy=remedy)
        return [latent.clone() for latent in latents]

    def _key(self, view: _View) -> LatentKey:
        path = view.item.picture.path
        if path not in self._hashes:
            try:
                self._hashes[path] = pictures.content_hash(path)
            except OSError as error:
                raise _unreadable(view.item, error) from error
        return LatentKey(self._hashes[path], self._vae, view.item.placement, view.flipped)

    def _random(self, what: str, epoch: int, index: int) -> random.Random:
        # A text seeds by its hash (version 2), the same in every process; a tuple would not.
        return random.Random(f"{what} {self.options.seed} {epoch} {index}")


@dataclass(frozen=True)
class _View:
    """An item as one batch sees it."""

    item: Item
    flipped: bool
    crop: Size


def _pixels(view: _View) -> Tensor:
    """(3, h, w) in -1..1."""
    item = view.item
    try:
        picture = pictures.load(item.picture.path, item.placement, view.crop, size=item.picture.size)
    except OSError as error:
        raise _unreadable(item, error) from error
    array = torch.from_numpy(np.asarray(picture, dtype=np.float32) / 127.5 - 1).permute(2, 0, 1)
    return array.flip(2) if view.flipped else array


def _unreadable(item: Item, error: OSError) -> DatasetError:
    path = item.picture.path
    if not path.exists():
        remedy = "put it back, or check the dataset again"
        return DatasetError("the picture is gone since the dataset was checked", file=told(path), remedy=remedy)
    why = error.strerror or str(error) or type(error).__name__
    remedy = "replace it or take it out of the folder, and check the dataset again"
    return DatasetError(f"the picture cannot be read: {why}", file=told(path), remedy=remedy)
