"""``lora-lab extract BASE TUNED... -o OUT``"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lora_lab.cli import toolbox
from lora_lab.cli.output import Output

EXAMPLE = "lora-lab extract sd15.safetensors tuned.safetensors -o lora.safetensors --rank sv_fro=0.9 --max-rank 64"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The checkpoints, the ranks, and which layers."""
    parser.add_argument("base", type=Path, metavar="BASE", help="the checkpoint that the LoRA is to be used on")
    parser.add_argument("tuned", nargs="+", metavar="TUNED", help="checkpoints that the LoRA is to turn it into")
    toolbox.add_output(parser, "the LoRA to write")
    toolbox.add_ranks(parser)
    parser.add_argument("--convs", action="store_true", help="residual blocks and samplers too (a LoCon)")
    parser.add_argument("--outside", action="store_true", help="input, output and embedding layers too")
    parser.add_argument("--norms", action="store_true", help="norms too, whole")
    parser.add_argument("--biases", action="store_true", help="biases too, whole (the webui does not read them)")
    parser.add_argument("--precision", choices=("fp16", "bf16", "float"), default="fp16", help="default fp16")


def run(args: argparse.Namespace, output: Output) -> dict[str, Any]:
    """Extract from each pair."""
    from lora_lab.surgery.extract import ExtractRequest, extract

    rank = args.rank or (None if args.max_size or args.max_error is not None else "32")
    how = toolbox.compression(args, rank, args.precision)
    tuned = toolbox.inputs(args.tuned)
    outcomes = []
    for source, out in zip(tuned, toolbox.places(args.out, tuned), strict=True):
        request = ExtractRequest(
            args.base, source, out, how, args.convs, args.outside, args.norms, args.biases, args.force, args.dry_run
        )
        outcomes.append(extract(request, toolbox.following(output, source.name)))
    return toolbox.report(output, outcomes)
