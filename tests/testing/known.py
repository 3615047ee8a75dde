"""LoRAs of which the truth is known.

`loras/concept-*.safetensors` were trained by `benchmarks.known_loras` and made smaller by `lora-lab resize`; that of
M00 on another checkpoint (tools/demo_checkpoint/middle.py), which `loras/through-middle.safetensors` makes of the
demo's.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lora_lab.demo.export import export
from lora_lab.network import files
from lora_lab.network.adapter import Adapter
from lora_lab.network.inspect import inspect
from lora_lab.network.sites import find_sites
from lora_lab.network.sizes import Size
from lora_lab.surgery.into_checkpoint import MergeRequest, merge_into_checkpoint
from lora_lab.surgery.uses import AdapterUse

if TYPE_CHECKING:
    from lora_lab.host.base import Host

LORAS = Path(__file__).parent / "loras"
CONCEPT = LORAS / "concept-out.safetensors"
OUT, MID = ("OUT03", "OUT04", "OUT05"), ("M00",)
BLOCKS = ("IN02", "IN05", "M00", *OUT, "OUT07", "OUT09", "OUT11")
"""Of the 16, to be quick; all of them carry something."""


def mixed(host: Host, concept: Path, true: tuple[str, ...], out: Path) -> Path:
    """The concept, and in all other blocks random directions whose norm is the concept's."""
    kept = files.read(concept).tensors
    with host.lease("pictures") as model:
        sites = find_sites(model.unet, model.text_encoders, model.info.family, model.layout)
    others = [site for site in sites if site.part == "unet" and site.block not in true]
    generator = torch.Generator().manual_seed(0)
    noise = Adapter.create(others, sizes=Size(1, 1.0), generator=generator)
    with torch.no_grad():
        for piece in noise.pieces:
            piece.parameters[1].normal_(0, 1, generator=generator)
    files.write(out, noise.to_tensors(), {})
    sizes = [sum(n**2 for n in inspect(path).norms_by_block.values()) ** 0.5 for path in (concept, out)]
    held = {
        name: tensor * (sizes[0] / sizes[1]) if name.endswith("lora_up.weight") else tensor
        for name, tensor in noise.to_tensors().items()
    }
    files.write(out, {**held, **kept}, {}, overwrite=True)
    return out


def with_a_middle(folder: Path) -> Path:
    """The demo checkpoint that listens to M00."""
    made = export(folder)
    out = folder / "middle.safetensors"
    merge_into_checkpoint(MergeRequest(made["checkpoint"], (AdapterUse(LORAS / "through-middle.safetensors"),), out))
    made["config"].rename(out.with_suffix(".yaml"))
    return out
