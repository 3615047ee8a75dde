"""What a picture leaves behind in the live model, taken out for a turn and put back: one context manager each.

Each stores what it finds, changes only what differs, and puts the found value back on every way out. They are
entered in one `ExitStack` by `webui_lease`, so that what is entered first is put back last.
"""

from __future__ import annotations

import random
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from modules import devices, rng, sd_hijack, sd_hijack_optimizations, sd_models, sd_unet, shared
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from lora_lab.host.webui_parts import LiveParts
    from lora_lab.host.webui_types import LoraExtension, SdModel

DIFFERENTIABLE = ("sdp", "sdp-no-mem")
"""Attentions of the webui that are kept while training: right in the backward, and no attention matrix is stored."""


@contextmanager
def random_states() -> Iterator[None]:
    """Random states of torch, the GPU, numpy, Python and the webui's own generator, as they were.

    Pictures reseed torch's global generator, and dropouts draw from it.
    """
    numpy_state, python_state = np.random.get_state(), random.getstate()
    torch_state, gpu = torch.get_rng_state(), _gpu()
    gpu_state = None if gpu is None else gpu.get_rng_state()
    own = vars(rng).get("nv_rng")  # first set by a picture with the option 'NV'
    offset = getattr(own, "offset", 0)
    try:
        yield
    finally:
        vars(rng).pop("nv_rng", None)
        if own is not None:
            rng.nv_rng, own.offset = own, offset
        if gpu is not None:
            gpu.set_rng_state(gpu_state)
        torch.set_rng_state(torch_state)
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def _gpu() -> ModuleType | None:
    """`torch.cuda` or `torch.mps`, whichever the webui computes on; None on a CPU."""
    return {"cuda": torch.cuda, "mps": torch.mps}.get(devices.device.type)


def lora_extension() -> LoraExtension | None:
    """The built-in Lora extension's module, which writes a prompt's LoRAs into the live weights; None without it."""
    module = sys.modules.get("networks")
    return cast("LoraExtension", module) if hasattr(module, "network_restore_weights_from_backup") else None


def take_out_prompt_loras(parts: LiveParts) -> int:
    """Copy the backup of each layer that holds a LoRA back, now instead of at its next forward.

    Returns:
        How many layers held one. Their backups stay where they are, as after a picture without LoRAs.
    """
    networks = lora_extension()
    taken = 0
    for module in parts.modules:
        if networks is not None and module.__dict__.get("network_current_names"):
            with torch.no_grad():
                networks.network_restore_weights_from_backup(module)
            module.__dict__["network_current_names"] = ()
            taken += 1
    return taken


@contextmanager
def prompt_loras_out(parts: LiveParts) -> Iterator[None]:
    """No LoRA of a prompt in the live weights, and none that the next forward would write into them.

    On the way out the list of a prompt's LoRAs is as found. The weights stay clean: the webui writes the LoRAs
    into them again, by itself and to the same bits, at the first forward of the next picture that asks for them.
    """
    networks = lora_extension()
    if networks is None:
        yield
        return
    found = list(networks.loaded_networks)
    networks.loaded_networks.clear()
    try:
        take_out_prompt_loras(parts)
        yield
    finally:
        networks.loaded_networks.clear()
        take_out_prompt_loras(parts)
        networks.loaded_networks.extend(found)


@contextmanager
def forward_of_others_out(sd_model: SdModel) -> Iterator[None]:
    """The UNet's own forward, where an extension has put one on the instance and left it there (as ControlNet does
    while it makes a picture): the checkpoint is trained on, not what others make of it."""
    unet = sd_model.model.diffusion_model
    found = unet.__dict__.pop("forward", None)
    try:
        yield
    finally:
        if found is not None:
            unet.__dict__["forward"] = found


@contextmanager
def loras_on_attention(parts: LiveParts) -> Iterator[None]:
    """LoRAs of a preview's own prompt reach open_clip's attention also while an adapter of ours hangs on it.

    The extension writes them into the weights from within `MultiheadAttention.forward`, which our adapter shadows; a
    hook before it does the same.
    """
    networks = lora_extension()
    found = [m for m in parts.modules if isinstance(m, nn.MultiheadAttention)] if networks is not None else []
    handles = [m.register_forward_pre_hook(lambda module, args: _write_loras(module)) for m in found]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _write_loras(module: nn.Module) -> None:
    networks = lora_extension()
    if networks is not None:
        networks.network_apply_weights(module)


@contextmanager
def hypernetworks_out() -> Iterator[None]:
    """A prompt's hypernetworks, which every attention of the webui applies to keys and values."""
    found = list(shared.loaded_hypernetworks)
    shared.loaded_hypernetworks.clear()
    try:
        yield
    finally:
        shared.loaded_hypernetworks[:] = found


@contextmanager
def tiling_off() -> Iterator[None]:
    """A tiling picture leaves all convolutions with circular padding."""
    hijack = sd_hijack.model_hijack
    circular = hijack.circular_enabled
    if circular:
        hijack.apply_circular(False)
    try:
        yield
    finally:
        hijack.apply_circular(circular)


@contextmanager
def torch_unet(sd_model: SdModel) -> Iterator[None]:
    """The checkpoint's own UNet, in place of a TensorRT engine or of a `forward` that an extension left on it."""
    unet = sd_model.model.diffusion_model
    engine, option = sd_unet.current_unet, sd_unet.current_unet_option
    forward = unet.__dict__.pop("forward", None)
    sd_unet.current_unet = sd_unet.current_unet_option = None
    try:
        if engine is not None and not sd_model.lowvram:
            unet.to(devices.device)
        yield
    finally:
        if engine is not None and not sd_model.lowvram:
            unet.to(devices.cpu)
        sd_unet.current_unet, sd_unet.current_unet_option = engine, option
        if forward is not None:
            unet.__dict__["forward"] = forward


@contextmanager
def hypertile_off(parts: LiveParts) -> Iterator[None]:
    """Hypertile cuts attention into tiles of the last picture's size, at random. Its forwards are set on instances."""
    found = {m: m.__dict__.pop("forward") for m in parts.hypertile if "forward" in m.__dict__}
    try:
        yield
    finally:
        for module, forward in found.items():
            module.__dict__["forward"] = forward


@contextmanager
def token_merging_off(sd_model: SdModel) -> Iterator[None]:
    """Token merging drops tokens; the webui takes it off after each picture, other callers may not."""
    ratio = getattr(sd_model, "applied_token_merged_ratio", 0)
    if ratio:
        sd_models.apply_token_merging(sd_model, 0)
    try:
        yield
    finally:
        if ratio:
            sd_models.apply_token_merging(sd_model, ratio)


@contextmanager
def differentiable_attention(parts: LiveParts) -> Iterator[None]:
    """Scaled dot product attention, unless the person's choice is one already.

    xformers' backward exists for some types and sizes only, and what another extension brings is not known. InvokeAI,
    Doggettx, V1 and sub-quadratic differentiate rightly but keep the attention matrices for the backward. The
    webui's own sdp is right on every device and keeps none; it honours 'upcast cross attention' as they do.
    """
    chosen = sd_hijack.current_optimizer
    if chosen is not None and chosen.name in DIFFERENTIABLE:
        yield
        return
    found = {kind: kind.__dict__["forward"] for kind in parts.attention}
    try:
        for kind in found:
            kind.forward = sd_hijack_optimizations.scaled_dot_product_attention_forward
        yield
    finally:
        for kind, forward in found.items():
            kind.forward = forward


@contextmanager
def frozen(sd_model: SdModel, parts: LiveParts) -> Iterator[None]:
    """No parameter asks for a gradient and all modules are in eval mode. Only what differs is touched."""
    learning = [p for p in parts.parameters if p.requires_grad]
    training = [m for m in (sd_model, *parts.modules) if m.__dict__.get("training")]
    try:
        for parameter in learning:
            parameter.requires_grad = False
        for module in training:
            module.__dict__["training"] = False
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad = True
        for module in training:
            module.__dict__["training"] = True
