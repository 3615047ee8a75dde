"""A checkpoint file as layers: what a site's weight, bias or norm is, read one at a time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import torch
from torch import Tensor

from lora_lab.errors import CheckpointError
from lora_lab.network.streams import TensorFile
from lora_lab.surgery.places import UNET, Place, checkpoint_family, places


class CheckpointReader:
    """An open checkpoint in the original layout. Use it in a ``with``.

    Attributes:
        family: told by its text encoders.
        places: every layer and norm of UNet and text encoders by the site's name.
    """

    def __init__(self, path: str | Path) -> None:
        """Open and understand the file.

        Raises:
            CheckpointError: unreadable, or no SD1, SD2 or SDXL checkpoint in the original layout.
        """
        self.file = TensorFile(path, CheckpointError)
        self.path = self.file.path
        try:
            self.family = checkpoint_family(self.file.specs, str(self.path))
            self.places = places(self.file.specs, self.family)
            if not any(key.startswith(UNET) for key in self.file):
                raise CheckpointError("the checkpoint has no UNet", file=self.path, remedy="give a whole checkpoint")
        except BaseException:
            self.file.close()
            raise
        self._last: tuple[str, Tensor] | None = None

    def __enter__(self) -> CheckpointReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self._last = None

    def weight(self, place: Place) -> Tensor:
        """A site's weight, float32."""
        return _rows(self._read(place.key), place)

    def bias(self, place: Place) -> Tensor | None:
        """A site's bias, float32; None if the layer has none."""
        return _rows(self.file.read(place.bias).float(), place) if place.bias in self.file else None

    def _read(self, key: str) -> Tensor:
        if self._last is None or self._last[0] != key:
            self._last = None
            self._last = key, self.file.read(key, torch.float32)
        return self._last[1]

    @property
    def dtype(self) -> torch.dtype:
        """What most of the UNet's numbers are stored in."""
        counts: Counter[torch.dtype] = Counter()
        for key, spec in self.file.specs.items():
            counts[spec.dtype] += spec.count if key.startswith(UNET) else 0
        return counts.most_common(1)[0][0]

    @property
    def has_ema(self) -> bool:
        """Whether averaged weights lie beside the live ones."""
        return any(key.startswith("model_ema.") for key in self.file)


def _rows(tensor: Tensor, place: Place) -> Tensor:
    return tensor if place.rows is None else tensor[place.rows[0] : place.rows[1]]
