"""One lease of the live model: everything taken in one `ExitStack`, so that every way out gives everything back."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from lora_lab.host import webui_restore as restore
from lora_lab.host.webui_memory import resident

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lora_lab.host.base import Purpose
    from lora_lab.host.webui_parts import LiveParts
    from lora_lab.host.webui_types import SdModel


@contextmanager
def lent(sd_model: SdModel, parts: LiveParts, purpose: Purpose) -> Iterator[None]:
    """The model free of what pictures left in it and, for training, with a right backward and nothing to learn.

    The caller holds the webui's queue lock. The order matters twice: random states come first, so that nothing
    that is put back later draws from them; modules are on the device before anything else is done to them.
    """
    with ExitStack() as stack:
        enter = stack.enter_context
        enter(restore.random_states())
        enter(restore.prompt_loras_out(parts))
        enter(restore.hypernetworks_out())
        enter(restore.tiling_off())
        enter(restore.torch_unet(sd_model))
        enter(restore.hypertile_off(parts))
        enter(restore.token_merging_off(sd_model))
        if purpose == "training":
            enter(resident(sd_model, parts))
            enter(restore.forward_of_others_out(sd_model))
            enter(restore.differentiable_attention(parts))
            enter(restore.frozen(sd_model, parts))
        else:
            enter(restore.loras_on_attention(parts))
        yield
