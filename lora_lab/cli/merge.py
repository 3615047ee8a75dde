"""``lora-lab merge LORA[:strength]... -o OUT``, ``--into CHECKPOINT``, ``--undo CHECKPOINT``"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lora_lab.cli import toolbox
from lora_lab.cli.output import Output
from lora_lab.errors import SettingsError

EXAMPLE = "lora-lab merge mika.safetensors:0.8 style.safetensors:te=0:OUT03=0 --into sd15.safetensors -o x.safetensors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The adapters with their strengths, where they go, and how."""
    toolbox.add_uses(parser, "*")
    toolbox.add_output(parser)
    parser.add_argument("--into", type=Path, metavar="CHECKPOINT", help="merge into this checkpoint")
    parser.add_argument("--undo", type=Path, metavar="CHECKPOINT", help="take the LoRAs out again, by its recipe")
    parser.add_argument("--vae", type=Path, help="with --into: bake this VAE in")
    parser.add_argument(
        "--method", choices=("concat", "add", "svd", "ties", "dare"), default="svd",
        help="how LoRAs become one LoRA: concat (exact, ranks add up), add (exact, one shared half), svd (default), "
        "ties (arXiv 2306.01708), dare (arXiv 2311.03099)",
    )  # fmt: skip
    toolbox.add_ranks(parser)
    parser.add_argument("--density", type=float, default=0.5, help="share of entries that ties and dare keep")
    parser.add_argument("--base", type=Path, metavar="CHECKPOINT", help="for DoRA, IA3, OFT and GLoRA inputs")
    parser.add_argument("--precision", choices=("fp16", "bf16", "float"), help="default: as the first input")


def run(args: argparse.Namespace, output: Output) -> dict[str, Any]:
    """One of the three ways."""
    if args.into and args.undo:
        raise SettingsError("--into and --undo exclude each other", remedy="give one of them")
    if args.vae and not args.into:
        raise SettingsError("--vae without --into has no effect", remedy="leave it out")
    return toolbox.report(output, [(_into if args.into else _undo if args.undo else _together)(args, output)])


def _into(args: argparse.Namespace, output: Output) -> Any:  # noqa: ANN401
    from lora_lab.surgery.into_checkpoint import MergeRequest, merge_into_checkpoint
    from lora_lab.surgery.precision import precision

    dtype = precision(args.precision) if args.precision else None
    request = MergeRequest(args.into, toolbox.uses(args), args.out, dtype, args.vae, args.force, args.dry_run)
    return merge_into_checkpoint(request, toolbox.following(output, "merge"))


def _undo(args: argparse.Namespace, output: Output) -> Any:  # noqa: ANN401
    from lora_lab.surgery.into_checkpoint import unmerge

    paths = tuple(toolbox.inputs(args.loras))
    progress = toolbox.following(output, "undo")
    return unmerge(args.undo, paths, args.out, force=args.force, dry_run=args.dry_run, progress=progress)


def _together(args: argparse.Namespace, output: Output) -> Any:  # noqa: ANN401
    from lora_lab.surgery.merge_adapters import MixRequest, merge_adapters

    shared = args.max_size or args.max_error is not None
    how = toolbox.compression(args, args.rank or (None if shared else "32"), args.precision)
    request = MixRequest(
        toolbox.uses(args), args.out, args.method, how, args.density, args.base, args.precision is None,
        force=args.force, dry_run=args.dry_run,
    )  # fmt: skip
    return merge_adapters(request, toolbox.following(output, "merge"))
