"""A dataset as training reads it: epochs of batches, each item with its latent, caption, weight and mask."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lora_lab.dataset import pictures
from lora_lab.dataset.buckets import Size
from lora_lab.dataset.epochs import BatchPlan, Epochs
from lora_lab.dataset.latents import LatentCache, LatentKey
from lora_lab.dataset.problems import told
from lora_lab.dataset.scan import ScanReport
from lora_lab.dataset.views import View, drawn_view, mask, pixels, plain_view, unreadable
from lora_lab.errors import DatasetError

__all__ = ["Batch", "BatchPlan", "Dataset", "Encode"]

Encode = Callable[[Tensor], Tensor]
"""Pixels (b, 3, h, w) in -1..1 to scaled latents (b, 4, h/8, w/8), float32 on the CPU."""


@dataclass(frozen=True)
class Batch:
    """What one call of the UNet is trained on."""

    latents: Tensor
    """(b, 4, h/8, w/8), scaled, float32 on the CPU."""
    captions: list[str]
    weights: Tensor
    """(b,): the subset's weight, times prior_loss_weight for regularisation pictures."""
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
    masks: Tensor | None = None
    """(b, 1, h/8, w/8) in 0..1, how much each place counts; None where all do."""


class Dataset:
    """The usable pictures of a scan."""

    def __init__(self, report: ScanReport, cache_dir: Path | None = None) -> None:
        """
        Args:
            report: from `scan.scan`.
            cache_dir: where latents are kept when cache_latents_to_disk is set.

        Raises:
            DatasetError: there is no picture to train on, or a mask is missing.
        """
        self.epochs = Epochs(report)
        self.report = report
        self.options = report.options
        self._places = {id(item): i for i, item in enumerate(report.items)}
        self._items = self.epochs.items
        self._hashes: dict[Path, str] = {}
        self._cache = LatentCache(cache_dir if self.options.cache_latents_to_disk else None)
        self._cached = self.options.caches
        self._masks: dict[tuple[int, bool], Tensor | None] = {}
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
        items = {id(item): item for item in self._items}.values()
        wanted = [plain_view(i, flipped=f) for i in items for f in (False, True)[: 1 + i.subset.options.flip_aug]]
        groups: dict[Size, list[View]] = defaultdict(list)
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
        return self.epochs.batches(epoch)

    def bucket(self, plan: BatchPlan) -> Size:
        """Width and height of a plan's pictures."""
        return self._items[plan.indices[0]].placement.bucket

    def load(self, plan: BatchPlan) -> Batch:
        """The batch of a plan.

        Raises:
            DatasetError: a picture that is not cached has vanished, or cannot be decoded.
        """
        items = [self._items[i] for i in plan.indices]
        views = [drawn_view(self._items[i], self.epochs.random("picture", plan.epoch, i)) for i in plan.indices]
        prior = [item.subset.options.prior_loss_weight if item.subset.regularisation else 1.0 for item in items]
        weights = [item.subset.loss_weight * weight for item, weight in zip(items, prior, strict=True)]
        return Batch(
            latents=torch.stack(self._latents(views)),
            captions=[self.epochs.caption(i, plan.epoch, plan.step) for i in plan.indices],
            weights=torch.tensor(weights, dtype=torch.float32),
            item_keys=[self._places[id(item)] for item in items],
            original_sizes=[item.picture.size for item in items],
            crops=[view.crop for view in views],
            told_crops=[view.item.placement.told(view.item.picture.size, view.flipped) for view in views],
            target_size=items[0].placement.bucket,
            masks=self._all_masks(views),
        )

    def caption(self, index: int, epoch: int) -> str:
        """The caption of an item (its place in the epoch's items) in an epoch, all options applied."""
        return self.epochs.caption(index, epoch)

    def _all_masks(self, views: list[View]) -> Tensor | None:
        """One for each view, all ones where a picture has none; None where none has."""
        found = [self._mask(view) for view in views]
        if all(one is None for one in found):
            return None
        wide, high = views[0].placement.bucket
        whole = torch.ones(1, high // 8, wide // 8)
        return torch.stack([whole if one is None else one for one in found])

    def _mask(self, view: View) -> Tensor | None:
        """Read once where the view is always the same."""
        if not self._cached:
            return mask(view)
        key = (id(view.item), view.flipped)
        if key not in self._masks:
            self._masks[key] = mask(view)
        return self._masks[key]

    def _latents(self, views: list[View]) -> list[Tensor]:
        """From the cache, else encoded in one go."""
        if not self._cached:
            return self._encoded(views)
        missing = [view for view in dict.fromkeys(views) if self._cache.get(self._key(view)) is None]
        if missing:
            self._encode_part(missing)
        return [self._cache[self._key(view)] for view in views]

    def _encode_part(self, views: list[View]) -> None:
        for view, latent in zip(views, self._encoded(views), strict=True):
            self._cache.put(self._key(view), latent)

    def _encoded(self, views: list[View]) -> list[Tensor]:
        if self._encode is None:
            raise RuntimeError("prepare() comes before load()")
        latents = self._encode(torch.stack([pixels(view) for view in views])).float().cpu()
        for latent, view in zip(latents, views, strict=True):
            if not bool(torch.isfinite(latent).all()):
                remedy = "start the host with --no-half-vae, or load another VAE"
                what = "the VAE makes no numbers of this picture"
                raise DatasetError(what, file=told(view.item.picture.path), remedy=remedy)
        return [latent.clone() for latent in latents]

    def _key(self, view: View) -> LatentKey:
        path = view.item.picture.path
        if path not in self._hashes:
            try:
                self._hashes[path] = pictures.content_hash(path)
            except OSError as error:
                raise unreadable(path, error) from error
        how = view.item.subset.options.resize_interpolation
        return LatentKey(self._hashes[path], self._vae, view.placement, view.flipped, how)
