"""Turns with the live model: the lease, and the adapter on it, for a second or a picture at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from torch import Tensor

from lora_lab.network.reach import WIDEST, Reach
from lora_lab.network.sites import find_sites
from lora_lab.training.memory.thrift import Thrift
from lora_lab.training.sharing import Shares, turn_seconds

if TYPE_CHECKING:
    from lora_lab.host.base import Host, LoadedModel
    from lora_lab.network.adapter import Adapter
    from lora_lab.training.starting import Beside


class Turns:
    """Borrows one checkpoint of a host again and again, and puts the adapter on it while it has it."""

    def __init__(self, host: Host, identity: str, thrift: Thrift, sharing: str = "share") -> None:
        self._host = host
        self._length = turn_seconds(sharing, slow_to_enter=thrift.eight_unet)
        self.shares = Shares()
        self._identity = identity
        self._thrift = thrift
        self._held: LoadedModel | None = None
        self._since = 0.0
        self.adapter: Adapter | None = None
        self.beside: tuple[Beside, ...] = ()
        """Frozen adapters that hang on the model whenever the trained one does."""
        self.fit: Callable[[LoadedModel], None] = lambda model: None
        """Called with each lent model before the adapter is attached: fits the adapter to modules that were rebuilt."""

    @contextmanager
    def training(self) -> Iterator[LoadedModel]:
        """The live model lent for training, the adapter attached.

        Raises:
            HostBusyError: the checkpoint is not live.
        """
        asked = time.monotonic()
        with self._host.lease("training", expect=self._identity) as model:
            entered = time.monotonic()
            self.shares.waited += entered - asked
            try:
                with self._thrift.over(model), self._attached(model):
                    self._held, self._since = model, time.monotonic()
                    yield model
            finally:
                self._held = None
                self.shares.held += time.monotonic() - entered

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
        return time.monotonic() - self._since >= self._length

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
            model.full_vae = self._thrift.full_vae
            return model.encode_pixels(pixels)

    @contextmanager
    def _attached(self, model: LoadedModel) -> Iterator[None]:
        if self.adapter is None:
            yield
            return
        self.fit(model)
        with ExitStack() as stack:
            for one in self.beside:
                stack.enter_context(one.adapter.scaled(unet=one.strength, text_encoder=one.strength))
                stack.enter_context(one.adapter.attached())
            stack.enter_context(self.adapter.attached())
            yield


class Fit:
    """Moves adapters to the modules of a model that the host has built anew."""

    def __init__(self, reach: Reach, *adapters: Adapter) -> None:
        self._reach = reach
        self._adapters = adapters

    def __call__(self, model: LoadedModel) -> None:
        """Look at the first and last site of each; find all of them again only when these are not the model's."""
        if all(one.fits(model.unet, *model.text_encoders) for one in self._adapters):
            return
        where = (model.unet, model.text_encoders, model.info.family, model.layout)
        sites = [site for reach in (WIDEST, self._reach) for site in find_sites(*where, reach=reach)]
        for one in self._adapters:
            one.rebind(sites)
