"""``lora-lab resize LORA... -o OUT --rank 16``"""

from __future__ import annotations

import argparse
from typing import Any

from lora_lab.cli import toolbox
from lora_lab.cli.output import Output
from lora_lab.errors import SettingsError

EXAMPLE = "lora-lab resize big.safetensors -o smaller --rank 32 --rank 16 --rank sv_fro=0.95"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The adapters and the ranks."""
    parser.add_argument("loras", nargs="+", metavar="LORA", help="LoRA, LoCon, LoHa or LoKr files")
    toolbox.add_output(parser)
    toolbox.add_ranks(parser, several=True)
    parser.add_argument("--precision", choices=("fp16", "bf16", "float"), help="default: as the input")


def run(args: argparse.Namespace, output: Output) -> dict[str, Any]:
    """Resize each file to all ranks in one pass."""
    from lora_lab.surgery.resize import ResizeTarget, resize

    ranks: list[str | None] = list(args.rank or [])
    shared = args.max_size is not None or args.max_error is not None
    if not ranks and not shared:
        raise SettingsError("no rank is given", remedy="give --rank, --max-size or --max-error")
    hows = [toolbox.compression(args, rank, args.precision) for rank in ranks or [None]]
    suffixes = [f"-{rank.replace('=', '')}" if rank and len(ranks) > 1 else "" for rank in ranks or [None]]
    sources = toolbox.inputs(args.loras)
    places = toolbox.places(args.out, sources, suffixes)
    outcomes = []
    for number, source in enumerate(sources):
        outs = places[number * len(hows) : (number + 1) * len(hows)]
        targets = [ResizeTarget(out, how, args.precision is None) for out, how in zip(outs, hows, strict=True)]
        progress = toolbox.following(output, source.name)
        outcomes += resize(source, targets, force=args.force, dry_run=args.dry_run, progress=progress)
    return toolbox.report(output, outcomes)
