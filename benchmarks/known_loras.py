"""LoRAs of which the truth is known, trained on the demo checkpoint, for the tests of `lora_lab.testing`.

    python -m benchmarks.known_loras FOLDER [--only concept-out ...]

`concept-out` and `concept-mid` hold the demo's new character in OUT03-OUT05 or in M00 alone. The first finds about half
of its features (the bare checkpoint 12 %); in the middle, which is a single pixel at 64 px, it cannot be learnt (15 %),
nor can a plain background: without M00's whole output the pictures change by 0.04 of 255.
`right`, `hot` and `cold` are the demo's LoRA at its own rates, eight times and an eighth of them, with snapshots on the
way. tests/testing/loras/concept-out.safetensors was made by this and by
`lora-lab resize concept-out.safetensors --max-size 190KB --precision fp16`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from lora_lab.demo import assets
from lora_lab.host.choose import standalone_host
from lora_lab.training import jobs
from lora_lab.training.settings import TrainSettings
from lora_lab.workflow.demo import SETTINGS

if TYPE_CHECKING:
    from lora_lab.host.base import Host

CONCEPTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"concept-out": ("OUT03", "OUT04", "OUT05"), "concept-mid": ("M00",)}
)
CONCEPT: Mapping[str, Any] = MappingProxyType(
    {
        "algo": "locon", "network_dim": 8, "network_alpha": 8, "conv_dim": 8, "conv_alpha": 8, "unet_lr": 1e-2,
        "max_train_epochs": 150, "network_train_unet_only": True, "validate_every_n_epochs": 1000,
    }
)  # fmt: skip
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


def main() -> int:
    """Train them; the exit status is 1 if one failed."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path)
    options.add_argument("--only", nargs="+", choices=[*CONCEPTS, *RATES], default=[*CONCEPTS, *RATES])
    asked = options.parse_args()
    folder = asked.folder.resolve()
    data = assets.write_dataset(folder / "dataset")
    host = standalone_host(data_dir=folder / "data", lora_dir=folder)
    for name, blocks in CONCEPTS.items():
        if name in asked.only:
            train(host, folder, name, data["character"], train_blocks=blocks, **CONCEPT)
    for name, factor in RATES.items():
        if name in asked.only:
            rates = {key: SETTINGS[key] * factor for key in ("unet_lr", "text_encoder_lr")}
            train(host, folder, name, data["character"], save_every_n_epochs=20, **rates)
    return 0


if __name__ == "__main__":
    sys.exit(main())
