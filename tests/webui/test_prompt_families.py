"""Block weights in prompts on SDXL and SD2, whose second text encoder has query, key and value in one matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file  # noqa: E402

from lora_lab.families import BASE, Family  # noqa: E402
from lora_lab.network import names  # noqa: E402
from lora_lab.network.blocks import block_names  # noqa: E402
from tests.webui.test_families import family, servers  # noqa: E402, F401 - fixtures
from tests.webui.test_prompt import by_hand, make, picture  # noqa: E402

if TYPE_CHECKING:
    from tests.webui.server import Webui

pytestmark = pytest.mark.slow

WEIGHTS = {BASE: 0.5, "IN04": 0.25, "IN08": 0.1, "M00": 0.75, "OUT01": 0.3, "OUT05": 0.2}
SHORT = {"steps": 2}


def put_lora(webui: Webui, kind: Family) -> str:
    """A LoRA on every linear layer of UNet and text encoders, in kohya's names."""
    weights = load_file(webui.data / "models" / "Stable-diffusion" / f"tiny_{kind.value}.safetensors")
    generator, found = torch.Generator().manual_seed(1), {}
    for key, weight in weights.items():
        for name, (rows, columns) in sites(key, weight, kind).items():
            found[f"{name}.lora_down.weight"] = torch.randn((2, columns), generator=generator) / columns**0.5
            found[f"{name}.lora_up.weight"] = torch.randn((rows, 2), generator=generator) * 0.05
            found[f"{name}.alpha"] = torch.tensor(2.0)
    assert sum(name.startswith("lora_te") for name in found) > 100
    save_file(found, webui.data / "models" / "Lora" / f"every_{kind.value}.safetensors", {"ss_network_dim": "2"})
    webui.post("/sdapi/v1/refresh-loras")
    return f"every_{kind.value}"


def sites(key: str, weight: torch.Tensor, kind: Family) -> dict[str, tuple[int, int]]:
    """Names on disk of a weight's layers, and their sizes."""
    first, second = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."
    openclip = second if kind is Family.SDXL else "cond_stage_model.model."
    part = "text_encoder_2" if kind is Family.SDXL else "text_encoder"
    path = key.removesuffix(".weight")
    if weight.dim() != 2 or "token_embedding" in key or "positional" in key:
        return {}
    if key.startswith("model.diffusion_model.") and key.endswith(".weight") and "transformer_blocks" in key:
        name = names.disk_name(path.removeprefix("model.diffusion_model."), "unet", kind, "ldm")
    elif kind is Family.SDXL and key.startswith(first):
        name = names.disk_name(path.removeprefix(first), "text_encoder", kind, "ldm")
    elif key.startswith(openclip) and key.endswith("in_proj_weight"):
        base = key.removeprefix(openclip).removesuffix("in_proj_weight")
        found = (names.disk_name(f"{base}{one}_proj", part, kind, "ldm") for one in "qkv")
        return {name: (weight.shape[0] // 3, weight.shape[1]) for name in found if name}
    elif key.startswith(openclip):
        name = names.disk_name(path.removeprefix(openclip), part, kind, "ldm")
    else:
        return {}
    return {name: (weight.shape[0], weight.shape[1])} if name else {}


def test_a_family(family: str, servers: Webui) -> None:  # noqa: F811
    kind = Family(family)
    name = put_lora(servers, kind)
    plain, whole = picture(servers, "", **SHORT), picture(servers, f"<lora:{name}:1>", **SHORT)
    assert np.abs(whole - plain).mean() > 0.5
    assert (picture(servers, f"<lora:{name}:1:lbw=ALL>", **SHORT) == whole).all()
    assert (picture(servers, f"<lora:{name}:1:lbw=NONE>", **SHORT) == plain).all()
    values = ",".join(f"{WEIGHTS.get(block, 1.0):g}" for block in block_names(kind))
    part = picture(servers, f"<lora:{name}:1:lbw={values}>", **SHORT)
    by_hand(servers, name, WEIGHTS, f"baked_{family}")
    assert np.abs(picture(servers, f"<lora:baked_{family}:1>", **SHORT) - part).max() <= 2
    assert np.abs(part - whole).mean() > 0.05
    # A layer of the one matrix alone: the others of it stay.
    one = picture(servers, f"<lora:{name}:1:lbwe=BASE:q_proj:0>", **SHORT)
    assert min(np.abs(one - whole).max(), np.abs(one - plain).max()) > 0
    other = Family.SD1 if kind is Family.SDXL else Family.SDXL
    with pytest.raises(RuntimeError, match=f"do not fit {family}"):
        make(servers, f"<lora:{name}:1:lbw={','.join('1' * len(block_names(other)))}>")
    assert (picture(servers, "", **SHORT) == plain).all()
