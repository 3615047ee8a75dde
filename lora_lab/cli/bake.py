"""``lora-lab bake LORA:strength... -o OUT``"""

from __future__ import annotations

import argparse
from typing import Any

from lora_lab.cli import toolbox
from lora_lab.cli.output import Output

EXAMPLE = "lora-lab bake mika.safetensors:0.8:te=0.5:OUT03=0 -o mika-baked.safetensors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The adapters with their strengths."""
    toolbox.add_uses(parser, "+")
    toolbox.add_output(parser)
    parser.add_argument("--fold-alpha", action="store_true", help="put the scale into lora_up: alpha is the rank")
    parser.add_argument("--precision", choices=("fp16", "bf16", "float"), help="default: as the input")


def run(args: argparse.Namespace, output: Output) -> dict[str, Any]:
    """Bake each."""
    from lora_lab.surgery.bake import BakeRequest, bake
    from lora_lab.surgery.precision import precision

    uses = toolbox.uses(args)
    dtype = precision(args.precision) if args.precision else None
    outcomes = []
    for use, out in zip(uses, toolbox.places(args.out, [use.path for use in uses]), strict=True):
        request = BakeRequest(use, out, args.fold_alpha, dtype, args.force, args.dry_run)
        outcomes.append(bake(request, toolbox.following(output, use.path.name)))
    return toolbox.report(output, outcomes)
