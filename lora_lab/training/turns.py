"""Turns with the live model: the lease, and the adapter on it, for a second or a picture at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch import Tensor

from lora_lab.training.checkpointing import gradient_checkpointing

if TYPE_CHECKING:
    from lora_lab.host.base import Host, LoadedModel
    from lora_lab.network.adapter import Adapter

TURN_SECONDS = 1.0
"""A turn of training ends after about so long (at least one step), so that pictures can come in between."""


class Turns:
    """Borrows one checkpoint of a host again and again, and puts the adapter on it while it has it."""

    def __init__(self, host: Host, identity: str, *, checkpointing: bool = False) -> None:
        self._host = host
        self._identity = identity
        self._checkpointing = checkpointing
        self._held: LoadedModel | None = None
        self._since = 0.0
        self.adapter: Adapter | None = None
        self.fit: Callable[[LoadedModel], None] = lambda model: None
        """Called with each lent model before the adapter is attached: fits the adapter to modules that were rebuilt."""

    @contextmanager
    def training(self) -> Iterator[LoadedModel]:
        """The live model lent for training, the adapter attached.

        Raises:
            HostBusyError: the checkpoint is not live.
        """
        with self._host.lease("training", expect=self._identity) as model:
            modules = (model.unet, *model.text_encoders)
            with gradient_checkpointing(modules, self._checkpointing), self._attached(model):
                self._held, self._since = model, time.monotonic()
                try:
                    yield model
                finally:
                    self._held = None

    @contextmanager
    def pictures(self) -> Iterator[LoadedModel]:
        """The live model lent for pictures, the adapter attached.

        Raises:
            HostBusyError: the checkpoint is not live.
        """
        with self._host.lease("pictures", expect=self._identity) as model, self._attached(model):
            yield model

    @property
    def over(self) -> bool:
        """Has the turn lasted its time?"""
        return time.monotonic() - self._since >= TURN_SECONDS

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Latents of pictures, as the dataset asks for them: within the turn if there is one, else in one of its own.

        Args:
            pixels: (b, 3, h, w) in -1..1.

        Returns:
            (b, 4, h/8, w/8), float32 on the CPU, scaled; the mean of the posterior, so that it is the same each time.
        """
        if self._held is not None:
            return self._held.encode_pixels(pixels)
        with self._host.lease("training", expect=self._identity) as model:
            return model.encode_pixels(pixels)

    @contextmanager
    def _attached(self, model: LoadedModel) -> Iterator[None]:
        if self.adapter is None:
            yield
            return
        self.fit(model)
        with self.adapter.attached():
            yield
