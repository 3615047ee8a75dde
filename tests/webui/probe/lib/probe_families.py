"""Checks of what differs between families, inside the real webui. Each returns plain values; the tests judge them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from modules import call_queue, devices, prompt_parser, shared
from probe_checks import everything, make
from torch import nn

from lora_lab.host.base import Conditioning
from lora_lab.host.webui import host
from lora_lab.network import files
from lora_lab.network.adapter import Adapter
from lora_lab.network.reach import WIDEST
from lora_lab.network.sites import find_sites
from lora_lab.network.sizes import Size
from lora_lab.training import objective
from lora_lab.training.step import Measure, denoising_losses

sys.path.append(str(Path(__file__).resolve().parents[3] / "host"))
from fingerprint import differences


def conditioning(caption: str, width: int = 96, height: int = 64) -> dict[str, float]:
    """Largest differences between what our calls tell the UNet and what the webui's pipeline does, and of answers."""
    sd_model = shared.sd_model
    prompt = prompt_parser.SdConditioning([caption], width=width, height=height)
    chosen = shared.opts.emphasis
    with call_queue.queue_lock, torch.no_grad(), devices.autocast():
        shared.opts.data["emphasis"] = "No norm"
        try:
            theirs = sd_model.get_learned_conditioning(prompt)
        finally:
            shared.opts.data["emphasis"] = chosen
    x, when = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(3)), torch.tensor([700])
    with host().lease("training") as model, torch.no_grad():
        ours = model.encode_tokens(model.tokenize([caption], 225))
        sizes = torch.tensor([[height, width, 0, 0, height, width]])
        ours = Conditioning(ours.context, ours.pooled, None if ours.pooled is None else sizes)
        predicted = model.predict(x, when, ours)
        wrapped = theirs if isinstance(theirs, dict) else {"c_crossattn": [theirs]}
        answer = sd_model.apply_model(x, when, wrapped)
    states = theirs["crossattn"] if isinstance(theirs, dict) else theirs
    return {
        "context": float((ours.context - states).abs().max()),
        "size": float(states.abs().mean()),
        "unet": float((predicted - answer).abs().max() / answer.abs().max()),
        "tokens": ours.context.shape[1],
    }


def latents() -> dict[str, Any]:
    """Our latents are the mean of what the webui's VAE draws from, scaled; and back."""
    pixels = torch.rand((1, 3, 64, 64), generator=torch.Generator().manual_seed(3)) * 2 - 1
    with host().lease("training") as model, torch.no_grad():
        mean = model.encode_pixels(pixels)
        drawn = torch.stack([model.encode_pixels(pixels, torch.Generator().manual_seed(n)) for n in range(40)]).mean(0)
        back = model.decode_latents(mean)
    with call_queue.queue_lock, torch.no_grad():
        decoded = shared.sd_model.decode_first_stage(mean).clamp(-1, 1)
    return {
        "scale": model.latent_scale,
        "spread": float((drawn - mean).abs().mean()),
        "back": float((back - decoded).abs().max()),
        "prediction": model.info.prediction_type,
        "family": model.info.family.value,
    }


def picture_with_adapter(path: str, **changes: Any) -> dict[str, Any]:
    """A picture of ours with the LoRA of a file hung on the live model, and what is left behind."""
    before = everything()
    with host().lease("pictures") as model:
        sites = find_sites(model.unet, model.text_encoders, model.info.family, model.layout, reach=WIDEST)
        adapter = Adapter.from_tensors(sites, files.read(Path(path)).tensors)
        with adapter.attached():
            done = make(model, **{k: tuple(v) if isinstance(v, list) else v for k, v in changes.items()})
    pixels = np.asarray(done.images[0].convert("RGB")).tobytes().hex()
    return {"pixels": pixels, "sites": len(sites), "left": differences(before, everything())}


def matched(lora: str) -> dict[str, int]:
    """How many layers of the live model the webui's own extension has found for a LoRA that a picture has used."""
    network = next(found for found in sys.modules["networks"].loaded_networks if found.name == lora)
    kinds = [type(module.sd_module).__name__ for module in network.modules.values()]
    return {kind: kinds.count(kind) for kind in set(kinds)}


def steps_leave_nothing() -> dict[str, Any]:
    """A backward through UNet and text encoders with a fresh adapter: what differs afterwards, what got gradients."""
    before = everything()
    with host().lease("training") as model:
        sites = find_sites(model.unet, model.text_encoders, model.info.family, model.layout)
        adapter = Adapter.create(sites, sizes=Size(2, 2.0), generator=torch.Generator().manual_seed(1))
        with adapter.attached(), adapter.training():
            told = model.encode_tokens(model.tokenize(["1girl, saber (fate)", ""]))
            sizes = None if told.pooled is None else torch.tensor([[64, 64, 0, 0, 64, 64]] * 2)
            x = torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(2))
            draw = objective.Draw(torch.randn(x.shape), torch.tensor([100, 800]))
            how = Measure(model.alphas_cumprod)
            denoising_losses(model, x, draw, Conditioning(told.context, told.pooled, sizes), how).mean().backward()
        reached: dict[str, int] = {}
        for piece in adapter.pieces:
            some = any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in piece.parameters)
            reached[piece.site.part] = reached.get(piece.site.part, 0) + some
        opened = [m for root in model.text_encoders for m in root.modules() if isinstance(m, nn.MultiheadAttention)]
        still = sum("forward" in vars(module) for module in opened)
    return {"left": differences(before, everything()), "reached": reached, "open": still}
