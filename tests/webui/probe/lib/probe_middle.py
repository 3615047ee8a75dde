"""What other extensions do to the live model in the middle of a run, for tests."""

from __future__ import annotations

import threading
from typing import Any

from modules import shared


def hook_unet(on: bool) -> str:
    """As ControlNet and its like do: another forward on the instance, which changes what the UNet says."""
    unet = shared.sd_model.model.diffusion_model
    if not on:
        unet.__dict__.pop("forward", None)
        return ""
    inner = unet.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        return inner(*args, **kwargs) * 1.1

    unet.forward = forward
    return str(id(unet.__dict__["forward"]))


def hooked() -> str:
    """Which forward is on the instance now."""
    found = shared.sd_model.model.diffusion_model.__dict__.get("forward")
    return "" if found is None else str(id(found))


def threads() -> list[str]:
    """Names of the living threads of ours."""
    return sorted(t.name for t in threading.enumerate() if "lora-lab" in t.name)
