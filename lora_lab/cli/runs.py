"""``lora-lab runs``"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lora_lab.cli.output import Output, clock

EXAMPLE = "lora-lab runs --out lora-lab-data"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where they are."""
    parser.add_argument("--out", type=Path, metavar="DIR", help="data folder (default: lora-lab-data)")


def run(args: argparse.Namespace, output: Output) -> dict[str, Any]:
    """Read the runs' folders; nothing is loaded or changed."""
    from lora_lab.host.choose import default_data_dir
    from lora_lab.workflow.run_list import list_runs

    found = list_runs((args.out.resolve() if args.out else default_data_dir()) / "runs")
    for one in found:
        steps = f"step {one.step:,} of {one.steps:,}" if one.steps else "before its first step"
        loss = f", loss {one.loss:.4f}" if one.loss is not None else ""
        seconds = f", {clock(one.seconds)}" if one.seconds is not None else ""
        output.line(f"{one.id}  {one.state}, {steps}{loss}{seconds}")
        for text in (one.lora, one.error):
            if text:
                output.line(f"    {text}")
    if not found:
        output.line("no runs yet")
    return {"runs": [asdict(one) for one in found]}
