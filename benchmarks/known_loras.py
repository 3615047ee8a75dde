"""LoRAs of which the truth is known, trained on the demo checkpoint, for the tests of `lora_lab.testing`.

    python -m benchmarks.known_loras FOLDER [--only concept-out ...]

`concept-out` and `concept-mid` hold the demo's new character in OUT03-OUT05 or in M00 alone; every other block carries
a piece of a LoRA that was trained on ordinary pictures of the demo world, made as large as a block of the concept, so
that the norms tell nothing. `right`, `hot` and `cold` are the demo's LoRA at its own rates, eight times and an eighth
of them, with snapshots on the way. Those in tests/testing/loras/ were made by this (seed 1).
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from lora_lab.demo import assets, drawing, world
from lora_lab.families import Family
from lora_lab.host.choose import standalone_host
from lora_lab.network.blocks import block_names
from lora_lab.training import jobs
from lora_lab.training.settings import TrainSettings
from lora_lab.workflow.demo import SETTINGS

if TYPE_CHECKING:
    from torch import Tensor

    from lora_lab.host.base import Host

CONCEPTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"concept-out": ("OUT03", "OUT04", "OUT05"), "concept-mid": ("M00",)}
)
RATES: Mapping[str, float] = MappingProxyType({"right": 1.0, "hot": 8.0, "cold": 1 / 8})


def train(host: Host, folder: Path, name: str, data: Path, **changes: Any) -> Path:  # noqa: ANN401 - settings
    """One run on the demo's settings.

    Raises:
        LoraLabError: what the run ended with.
    """
    values = {**SETTINGS, "train_data_dir": str(data), "output_dir": str(folder), "output_name": name, **changes}
    run = jobs.queue().start(TrainSettings.from_mapping(values), host)
    ended = run.wait().ended
    if run.error is not None:
        raise run.error
    assert ended is not None
    assert ended.lora is not None
    print(json.dumps({"lora": str(ended.lora), "seconds": round(ended.seconds), "steps": ended.step}), flush=True)
    return ended.lora


def ordinary(folder: Path, count: int = 18) -> Path:
    """Pictures of anybody in the demo world, with true captions."""
    r = random.Random("ordinary")
    place = folder / "ordinary" / "1_anybody"
    place.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        a = world.sample(r)
        drawing.draw(a, r.randrange(2**31), assets.DRAWN).save(place / f"{i:02d}.png")
        (place / f"{i:02d}.txt").write_text(", ".join(world.tags(a)) + "\n", encoding="utf-8")
    return place.parent


def with_unrelated(concept: Path, other: Path, blocks: tuple[str, ...], out: Path) -> None:
    """The concept in its blocks, the other LoRA in all others, each block as large as a block of the concept."""
    import torch

    from lora_lab.network import files

    ours, theirs = files.read(concept).tensors, files.read(other).tensors
    size = sum(norms(ours)[block] for block in blocks) / len(blocks)
    found = dict(ours)
    measured = norms(theirs)
    for key, tensor in theirs.items():
        block = block_of(key)
        if block not in blocks:
            found[key] = tensor * (size / measured[block]) if key.endswith("lora_up.weight") else tensor
    files.write(out, {key: tensor.to(torch.float16) for key, tensor in found.items()}, {}, overwrite=True)


def block_of(key: str) -> str:
    """Of a tensor's name."""
    from lora_lab.network.blocks import block_of_name

    return block_of_name(key.partition(".")[0], Family.SD1)


def norms(tensors: Mapping[str, Tensor]) -> dict[str, float]:
    """By block, of the delta."""
    from lora_lab.network.inspect import delta_norm_squared
    from lora_lab.network.lora_file import by_site

    found: dict[str, float] = {}
    for site, held in by_site(tensors).items():
        found[block_of(site)] = found.get(block_of(site), 0.0) + (delta_norm_squared(held) or 0.0)
    return {block: squared**0.5 for block, squared in found.items()}


def main() -> int:
    """Train them; the exit status is 1 if one failed."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path)
    options.add_argument("--only", nargs="+", choices=[*CONCEPTS, *RATES], default=[*CONCEPTS, *RATES])
    asked = options.parse_args()
    folder = asked.folder.resolve()
    data = assets.write_dataset(folder / "dataset")
    host = standalone_host(data_dir=folder / "data", lora_dir=folder)
    unet = {"network_train_unet_only": True, "validate_every_n_epochs": 1000}
    for name, blocks in CONCEPTS.items():
        if name in asked.only:
            rest = [block for block in block_names(Family.SD1)[1:] if block not in blocks]
            sizes = {"network_dim": 4, "network_alpha": 4, "unet_lr": 6e-3}
            concept = train(host, folder, f"{name}-alone", data["character"], train_blocks=blocks, **unet, **sizes)
            small = {"network_dim": 1, "network_alpha": 1, "max_train_epochs": 30, "train_blocks": tuple(rest)}
            other = train(host, folder, f"{name}-other", ordinary(folder), **unet, **small)
            with_unrelated(concept, other, blocks, folder / f"{name}.safetensors")
    for name, factor in RATES.items():
        if name in asked.only:
            rates = {key: SETTINGS[key] * factor for key in ("unet_lr", "text_encoder_lr")}
            train(host, folder, name, data["character"], save_every_n_epochs=20, **rates)
    return 0


if __name__ == "__main__":
    sys.exit(main())
