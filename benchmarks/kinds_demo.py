"""Each kind of adapter trained for the demo's length on the demo world: does it learn the new character?

    python -m benchmarks.kinds_demo [--kinds lora loha ...] [--seeds 1] [--json]

The demo's own settings, pictures and score; only the kind differs, and for those that act by other means than two
factors the rate (told in the table). A run takes the demo's minutes, and its line is printed when it has ended.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lora_lab.demo import assets, world
from lora_lab.host.base import Host
from lora_lab.host.choose import standalone_host
from lora_lab.training import jobs
from lora_lab.training.settings import TrainSettings
from lora_lab.workflow.demo import SETTINGS, look


@dataclass(frozen=True)
class Kind:
    """A row of the table."""

    settings: Mapping[str, Any]
    rate: float = 1.0
    """Times the demo's rates."""


def _kind(rate: float = 1.0, **settings: Any) -> Kind:  # noqa: ANN401 - settings
    return Kind(MappingProxyType(settings), rate)


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "lora": _kind(algo="lora"),
        "locon": _kind(algo="locon", conv_dim=8, conv_alpha=8),
        "loha": _kind(algo="loha"),
        "lokr": _kind(algo="lokr"),
        "ia3": _kind(algo="ia3", rate=5.0),
        "dylora": _kind(algo="dylora", block_size=4),
        "diag-oft": _kind(algo="diag-oft"),
        "boft": _kind(algo="boft"),
        "glora": _kind(algo="glora"),
        "full": _kind(algo="full", rate=0.1),
        "lora + norms": _kind(algo="lora", train_norm=True),
        "dora": _kind(algo="lora", dora_wd=True),
    }
)


def train(host: Host, folder: Path, name: str, seed: int) -> dict[str, Any]:
    """One run and its score."""
    kind = KINDS[name]
    rates = {part: SETTINGS[part] * kind.rate for part in ("unet_lr", "text_encoder_lr")}
    values = {
        **SETTINGS, **rates, **kind.settings, "seed": seed, "train_data_dir": str(folder / "character"),
        "validation_data_dir": str(folder / "character_validation"), "output_dir": str(folder / "out"),
        "output_name": f"{name.replace(' ', '_')}_{seed}",
    }  # fmt: skip
    run = jobs.queue().start(TrainSettings.from_mapping(values), host)
    ended = run.wait().ended
    if ended is None or ended.lora is None or run.error is not None:
        return {"kind": name, "seed": seed, "error": str(run.error)}
    concept, _ = look(host, ended.lora, lambda event: None)
    return {
        "kind": name, "seed": seed, "rate": kind.rate, "concept": round(concept, 3), "val_loss": ended.val_loss_last,
        "seconds": round(ended.seconds), "kb": ended.lora.stat().st_size // 1024,
    }  # fmt: skip


def main() -> int:
    """Train them one after the other; the exit status is 1 if one failed."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    options.add_argument("--seeds", type=int, nargs="+", default=[1])
    options.add_argument("--json", action="store_true", help="lines for machines")
    asked = options.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        assets.write_dataset(folder)
        host = standalone_host(data_dir=folder / "data")
        before, _ = look(host, None, lambda event: None)
        print(json.dumps({"kind": "none", "concept": round(before, 3), "trigger": world.CHARACTER}), flush=True)
        for kind in asked.kinds:
            for seed in asked.seeds:
                row = train(host, folder, kind, seed)
                failed |= "error" in row
                print(json.dumps(row) if asked.json else "  ".join(f"{k} {v}" for k, v in row.items()), flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
