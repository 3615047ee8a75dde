"""The side of `benchmarks.kinds` that runs kohya's own network on kohya's own UNet class, in the peer's Python.

    PEER_PYTHON kinds_peer.py --peer FOLDER --weights FILE --kind lora --batch 1 --rank 16 --clock cpu

Nothing of ours is imported but the protocol. torchvision, which the peer imports and never uses here, may be missing.
"""

from __future__ import annotations

import argparse
import sys
import types
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.children import serve  # noqa: E402
from benchmarks.kinds_world import give_weights, make_inputs, text_config  # noqa: E402


def load_peer(folder: Path) -> Any:  # noqa: ANN401 - their module
    """Their network module."""
    from diffusers import AutoencoderKL  # noqa: F401 - before the stand-in below, which they would believe
    from transformers import CLIPTextModel  # noqa: F401

    try:
        import torchvision  # type: ignore[import-not-found]  # noqa: F401
    except ImportError:
        stand_in = types.ModuleType("torchvision")
        stand_in.transforms = types.ModuleType("torchvision.transforms")  # type: ignore[attr-defined]
        sys.modules |= {"torchvision": stand_in, "torchvision.transforms": stand_in.transforms}

    sys.path.insert(0, str(folder))
    import networks.lora as theirs  # type: ignore[import-not-found]

    return theirs


def main() -> None:
    """Build, apply their network, serve steps."""
    options = argparse.ArgumentParser(description=__doc__)
    for name in ("peer", "weights", "kind", "clock"):
        options.add_argument(f"--{name}", required=True)
    for name in ("batch", "rank", "threads"):
        options.add_argument(f"--{name}", type=int, required=True)
    asked = options.parse_args()
    torch.set_num_threads(asked.threads)
    theirs = load_peer(Path(asked.peer))
    from library.original_unet import UNet2DConditionModel  # type: ignore[import-not-found]
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device("meta"):
        unet: nn.Module = UNet2DConditionModel(
            sample_size=64, attention_head_dim=8, cross_attention_dim=768, use_linear_projection=False,
            upcast_attention=False,
        )  # fmt: skip
        text: nn.Module = CLIPTextModel(CLIPTextConfig(**text_config()))
    give_weights(Path(asked.weights), unet, text)
    unet.set_use_sdpa(True)  # as the users of theirs have it
    more = {"conv_dim": str(asked.rank), "conv_alpha": str(asked.rank)} if asked.kind == "locon" else {}
    network = theirs.create_network(1.0, asked.rank, float(asked.rank), None, text, unet, **more)
    network.apply_to(text, unet, True, True)
    network.prepare_grad_etc(text, unet)
    network.train()
    optimizer = torch.optim.AdamW(network.prepare_optimizer_params(5e-5, 1e-4, 1e-4)[0])
    inputs = make_inputs(asked.batch)

    def step() -> float:
        states = text(inputs.ids)[0]
        loss = nn.functional.mse_loss(unet(inputs.latents, inputs.timesteps, states).sample, inputs.target)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    serve(step, asked.clock, {"modules": len(network.text_encoder_loras) + len(network.unet_loras)})


if __name__ == "__main__":
    main()
