"""``lora-lab split DYLORA -o OUT --ranks 4,8``"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lora_lab.cli import toolbox
from lora_lab.cli.output import Output
from lora_lab.errors import SettingsError

EXAMPLE = "lora-lab split dylora.safetensors -o mika.safetensors --ranks 4,8,16"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The file and the ranks."""
    parser.add_argument("lora", type=Path, metavar="DYLORA", help="a DyLoRA, whose leading parts are LoRAs too")
    toolbox.add_output(parser, "the name that ranks are put behind, OUT-0004.safetensors")
    parser.add_argument("--ranks", required=True, metavar="N,N,...", help="the ranks wanted")
    parser.add_argument(
        "--alpha", choices=("auto", "trained", "keep"), default="auto",
        help="trained: alpha * sqrt(rank / whole rank), as kohya's DyLoRA trains it; keep: as it is; auto: by the file",
    )  # fmt: skip


def run(args: argparse.Namespace, output: Output) -> dict[str, Any]:
    """Split."""
    from lora_lab.surgery.split import SplitRequest, split

    try:
        ranks = tuple(int(word) for word in args.ranks.split(","))
    except ValueError:
        raise SettingsError(f"'{args.ranks}' is no list of ranks", remedy="write 4,8,16") from None
    out = args.out / args.lora.name if args.out.is_dir() else args.out
    request = SplitRequest(args.lora, ranks, out, args.alpha, args.force, args.dry_run)
    return toolbox.report(output, split(request, toolbox.following(output, args.lora.name)))
