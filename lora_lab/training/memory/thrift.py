"""What is done to the lent model for the length of a turn so that a step needs less memory, and undone after it.

- gradient checkpointing, and its inputs kept in the machine's memory (see `checkpointing`);
- the VAE off the graphics card;
- weights of linear layers and convolutions in 8 bits (e4m3, arXiv 2209.05433): autocast turns them back layer by
  layer. Their own bits wait in the machine's memory and are put back at the end of the turn, the very same.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lora_lab.training.memory.checkpointing import gradient_checkpointing
from lora_lab.training.memory.out_of_memory import is_out_of_memory

if TYPE_CHECKING:
    from lora_lab.host.base import LoadedModel
    from lora_lab.training.settings import TrainSettings


@dataclass
class Eights:
    """The 8-bit copies of weights, made at the first turn and kept from turn to turn."""

    copies: dict[nn.Parameter, Tensor] = field(default_factory=dict)

    @contextmanager
    def instead_of(self, weights: Iterable[nn.Parameter]) -> Iterator[None]:
        """Inside, each of `weights` is held in 8 bits; afterwards its own bits are back where they were."""
        aside: dict[nn.Parameter, tuple[Tensor, torch.device]] = {}
        try:
            for weight in weights:
                own = weight.data
                if weight not in self.copies:
                    self.copies[weight] = own.to(torch.float8_e4m3fn)
                aside[weight] = own.to("cpu"), own.device
                weight.data = self.copies[weight].to(own.device)
            yield
        finally:
            for weight, (own, _) in aside.items():
                weight.data = own  # first of all, whatever happens: the right bits, wherever they are
            for weight, (own, device) in aside.items():
                weight.data = self._moved(own, device)

    def _moved(self, tensor: Tensor, device: torch.device) -> Tensor:
        """To the device, which a failed step may have left full: once more when there is room."""
        try:
            return tensor.to(device)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        self.copies.clear()
        gc.collect()
        torch.cuda.empty_cache()
        return tensor.to(device)


@contextmanager
def off_the_card(module: nn.Module | None) -> Iterator[None]:
    """Inside, the module is in the machine's memory; afterwards back where it was. Nothing where it was there."""
    first = None if module is None else next(module.parameters(), None)
    if module is None or first is None or first.device.type == "cpu":
        yield
        return
    device = first.device
    nn.Module.to(module, "cpu")
    try:
        yield
    finally:
        nn.Module.to(module, device)


@dataclass(frozen=True)
class Thrift:
    """The options of a run that change the lent model for a turn."""

    checkpointing: bool = False
    checkpoints_to_cpu: bool = False
    idle_vae: bool = False
    full_vae: bool = False
    eight_unet: bool = False
    eight_text: bool = False
    eights: Eights = field(default_factory=Eights)

    @classmethod
    def of(cls, settings: TrainSettings) -> Thrift:
        """What the settings ask for."""
        return cls(
            checkpointing=settings.gradient_checkpointing,
            checkpoints_to_cpu=settings.cpu_offload_checkpointing,
            idle_vae=settings.offload_idle and (settings.cache_latents or settings.cache_latents_to_disk),
            full_vae=settings.no_half_vae,
            eight_unet=settings.fp8_base or settings.fp8_base_unet,
            eight_text=settings.fp8_base,
        )

    @contextmanager
    def over(self, model: LoadedModel) -> Iterator[None]:
        """Inside a training lease: the model as the settings want it."""
        model.full_vae = self.full_vae
        with ExitStack() as stack:
            if self.idle_vae:
                stack.enter_context(off_the_card(model.vae))
            stack.enter_context(self.eights.instead_of(list(self._weights(model))))
            modules = (model.unet, *model.text_encoders)
            stack.enter_context(gradient_checkpointing(modules, self.checkpointing, to_cpu=self.checkpoints_to_cpu))
            yield

    def _weights(self, model: LoadedModel) -> Iterator[nn.Parameter]:
        """Of linear layers and convolutions, each once; norms and embeddings stay as they are."""
        roots = (*([model.unet] if self.eight_unet else []), *(model.text_encoders if self.eight_text else ()))
        for root in roots:
            for module in root.modules():
                if isinstance(module, (nn.Linear, nn.Conv2d)):
                    weight = module.weight
                    assert isinstance(weight, nn.Parameter)
                    yield weight


def notes(settings: TrainSettings, device: torch.device) -> Iterator[str]:
    """Options that do nothing on this device."""
    if device.type != "cpu":
        return
    for name in ("lowram", "offload_idle", "cpu_offload_checkpointing"):
        if getattr(settings, name):
            yield f"{name} has no effect without a graphics card."
