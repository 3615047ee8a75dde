"""``lora-lab convert LORA... -o OUT --layout diffusers``"""

from __future__ import annotations

import argparse
from typing import Any

from lora_lab.cli import toolbox
from lora_lab.cli.output import Output

EXAMPLE = "lora-lab convert peft.safetensors -o kohya.safetensors --layout kohya --precision fp16"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The adapters, the layout and the precision."""
    parser.add_argument("loras", nargs="+", metavar="LORA", help="adapters by any maker's names")
    toolbox.add_output(parser)
    parser.add_argument(
        "--layout", choices=("kohya", "diffusers", "kohya-diffusers"), default="kohya",
        help="kohya (default), diffusers (peft's names, alpha folded), kohya-diffusers (SDXL too by diffusers' names)",
    )  # fmt: skip
    parser.add_argument("--fold-alpha", action="store_true", help="put the scale into lora_up: alpha is the rank")
    parser.add_argument("--precision", choices=("fp16", "bf16", "float"), help="default: as the input")


def run(args: argparse.Namespace, output: Output) -> dict[str, Any]:
    """Convert each."""
    from lora_lab.surgery.convert import ConvertRequest, convert
    from lora_lab.surgery.precision import precision

    dtype = precision(args.precision) if args.precision else None
    sources = toolbox.inputs(args.loras)
    outcomes = []
    for source, out in zip(sources, toolbox.places(args.out, sources), strict=True):
        request = ConvertRequest(source, out, args.layout, dtype, args.fold_alpha, args.force, args.dry_run)
        outcomes.append(convert(request, toolbox.following(output, source.name)))
    return toolbox.report(output, outcomes)
