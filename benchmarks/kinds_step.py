"""The side of `benchmarks.kinds` that runs the bare networks, ours, or lycoris-lora's own modules.

    python -m benchmarks.kinds_step --who bare|ours|lycoris --weights FILE --kind loha --batch 1 --rank 16 --clock cpu
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.children import serve
from benchmarks.kinds_world import Inputs, give_weights, make_inputs, text_config

PRESET = "attn-mlp"
"""Of LyCORIS: the layers at which its kinds are compared; LoRA and LoCon are at kohya's LierLa and C3Lier."""


def make_networks(weights: Path) -> tuple[nn.Module, nn.Module]:
    """diffusers' UNet and transformers' text encoder, both on the shared weights."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device("meta"):
        unet: nn.Module = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8)
        text: nn.Module = CLIPTextModel(CLIPTextConfig(**text_config()))
    give_weights(weights, unet, text)
    return unet, text


def forward(unet: nn.Module, text: nn.Module, inputs: Inputs) -> Tensor:
    """The loss of a batch."""
    states = text(inputs.ids)[0]
    return nn.functional.mse_loss(unet(inputs.latents, inputs.timesteps, states).sample, inputs.target)


def stepper(unet: nn.Module, text: nn.Module, inputs: Inputs, trained: Sequence[nn.Parameter]) -> Callable[[], float]:
    """Forward, backward, AdamW over what is trained."""
    optimizer = torch.optim.AdamW(list(trained), lr=1e-4) if trained else None

    def step() -> float:
        loss = forward(unet, text, inputs)
        loss.backward()  # type: ignore[no-untyped-call]
        if optimizer is not None:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    return step


def bare(unet: nn.Module, text: nn.Module, inputs: Inputs) -> Callable[[], float]:
    """To the same activations, with nothing trained: what the text encoder's first layer is given wants a gradient."""

    def wants_gradient(module: nn.Module, given: object, output: Tensor) -> Tensor:
        return output.detach().requires_grad_()

    embeddings = next(m for n, m in text.named_modules() if n.endswith("embeddings"))
    embeddings.register_forward_hook(wants_gradient)
    inputs.latents.requires_grad_()
    return stepper(unet, text, inputs, ())


def ours(unet: nn.Module, text: nn.Module, inputs: Inputs, kind: str, rank: int) -> tuple[Callable[[], float], int]:
    """Our adapter, attached for each step as in a turn of training; and its number of sites."""
    from lora_lab.families import Family
    from lora_lab.network.adapter import Adapter
    from lora_lab.network.reach import C3LIER, LIERLA, PRESETS
    from lora_lab.network.recipe import Recipe
    from lora_lab.network.sites import find_sites
    from lora_lab.network.sizes import Size

    reach = {"lora": LIERLA, "locon": C3LIER}.get(kind, PRESETS[PRESET])
    sites = find_sites(unet, (text,), Family.SD1, "diffusers", reach=reach)
    generator = torch.Generator().manual_seed(2)
    adapter = Adapter.create(sites, sizes=Size(rank, float(rank)), how=Recipe(algo=kind), generator=generator)
    step = stepper(unet, text, inputs, adapter.parameters())

    def attached() -> float:
        with ExitStack() as stack:
            stack.enter_context(adapter.attached())
            stack.enter_context(adapter.training(lean=True))
            return step()

    return attached, len(sites)


def lycoris(unet: nn.Module, text: nn.Module, inputs: Inputs, kind: str, rank: int) -> tuple[Callable[[], float], int]:
    """lycoris-lora's own modules, at the same layers."""
    from lycoris.kohya import create_network  # type: ignore[import-not-found]

    network = create_network(
        1.0, rank, float(rank), None, text, unet, algo=kind, conv_dim=rank, conv_alpha=rank, preset=PRESET
    )
    network.apply_to(text, unet, True, True)
    network.train()
    modules = [*network.unet_loras, *network.text_encoder_loras]
    return stepper(unet, text, inputs, [p for m in modules for p in m.parameters()]), len(modules)


def main() -> None:
    """Build one candidate and serve steps."""
    options = argparse.ArgumentParser(description=__doc__)
    for name in ("who", "weights", "kind", "clock"):
        options.add_argument(f"--{name}", required=True)
    for name in ("batch", "rank", "threads"):
        options.add_argument(f"--{name}", type=int, required=True)
    asked = options.parse_args()
    torch.set_num_threads(asked.threads)
    unet, text = make_networks(Path(asked.weights))
    inputs = make_inputs(asked.batch)
    if asked.who == "bare":
        return serve(bare(unet, text, inputs), asked.clock, {"modules": 0})
    make = ours if asked.who == "ours" else lycoris
    step, count = make(unet, text, inputs, asked.kind, asked.rank)
    serve(step, asked.clock, {"modules": count})


if __name__ == "__main__":
    main()
