"""Memory: how much there is, and the live model resident during a lease when --medvram or --lowvram move it about."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from modules import devices, lowvram

from lora_lab.host.base import MemoryUse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

    from lora_lab.host.webui_parts import LiveParts
    from lora_lab.host.webui_types import SdModel

MIB = 1 << 20


def memory_use() -> MemoryUse:
    """Of the GPU that the webui computes on; without one, of this process in the machine's memory."""
    if devices.device.type == "cuda":
        free, total = torch.cuda.mem_get_info(devices.device)
        return MemoryUse(used=torch.cuda.memory_reserved(devices.device) / MIB, free=free / MIB, total=total / MIB)
    import psutil

    machine = psutil.virtual_memory()
    return MemoryUse(psutil.Process().memory_info().rss / MIB, machine.available / MIB, machine.total / MIB)


@contextmanager
def resident(sd_model: SdModel, parts: LiveParts) -> Iterator[None]:
    """UNet and text encoder together on the device, whatever --medvram or --lowvram do between pictures.

    Their hooks send each other's module away at every forward, which a step through both cannot bear: the hooks are
    off meanwhile. The VAE still comes by itself, and leaves at the end. With --medvram the UNet stays on the device
    afterwards, noted in the webui's own book as the one module that is there, as after any picture: bringing
    it twice per turn would cost more than the turn.
    """
    if not getattr(sd_model, "lowvram", False):
        yield
        return
    aside = (sd_model.first_stage_model, getattr(sd_model, "depth_model", None), getattr(sd_model, "embedder", None))
    movers = [m for m in parts.modules if m not in aside and any(map(_is_mover, m._forward_pre_hooks.values()))]
    if lowvram.module_in_gpu not in movers:
        lowvram.send_everything_to_cpu()
    lowvram.module_in_gpu = None
    hooks = {m: dict(m._forward_pre_hooks) for m in movers}
    try:
        for module in movers:
            _drop_movers(module)
            module.to(devices.device)
        yield
    finally:
        for module, found in hooks.items():
            _put_hooks(module, found)
        lowvram.send_everything_to_cpu()
        for module in movers:
            if module is sd_model.model:
                lowvram.module_in_gpu = module
            else:
                module.to(devices.cpu)


def _is_mover(hook: Callable[..., Any]) -> bool:
    return bool(getattr(hook, "__module__", "") == lowvram.__name__)


def _drop_movers(module: nn.Module) -> None:
    for key in [key for key, hook in module._forward_pre_hooks.items() if _is_mover(hook)]:
        del module._forward_pre_hooks[key]


def _put_hooks(module: nn.Module, found: dict[int, Callable[..., Any]]) -> None:
    """The found hooks in their found order, then what was added meanwhile."""
    now = module._forward_pre_hooks
    added = {key: hook for key, hook in now.items() if key not in found}
    now.clear()
    now.update({**found, **added})
