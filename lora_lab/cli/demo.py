"""``lora-lab demo``"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lora_lab.cli.follow import Follow
from lora_lab.cli.output import Output, clock
from lora_lab.errors import Interrupted

EXAMPLE = "lora-lab demo --out my-demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to."""
    parser.add_argument("--out", type=Path, default=Path("lora-lab-demo"), help="folder for the LoRA and its pictures")
    parser.add_argument(
        "--export", type=Path, metavar="DIR",
        help="only write the demo checkpoint, its yaml and tokenizer, the tagger and the datasets to a folder",
    )  # fmt: skip


def run(args: argparse.Namespace, output: Output) -> dict[str, Any]:
    """Train and show; or export."""
    if args.export:
        from lora_lab.demo.export import export

        made = export(args.export)
        output.line("\n".join(f"{name:22} {path}" for name, path in made.items()))
        return {name: str(path) for name, path in made.items()}
    from lora_lab.host.choose import standalone_host
    from lora_lab.workflow.demo import run_demo

    folder = args.out.resolve()
    output.line("loading the demo checkpoint ...")
    result = run_demo(standalone_host(data_dir=folder / "data", lora_dir=folder), folder, Follow(output))
    output.line(f"LoRA                 {result.lora}")
    output.line(f"before and after     {result.grid}")
    if result.val_loss_first is not None and result.val_loss_last is not None:
        output.line(f"held-out loss        {result.val_loss_first:.5f} -> {result.val_loss_last:.5f}")
    output.line(f"the character        {result.concept_before:.0%} -> {result.concept_after:.0%} of its features")
    output.line(f"time                 {clock(result.seconds)}")
    if result.stopped_by:
        output.status = Interrupted.exit_status
    return result.to_json()
