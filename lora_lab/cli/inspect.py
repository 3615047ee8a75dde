"""``lora-lab inspect LORA``"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lora_lab.cli.output import Output

EXAMPLE = "lora-lab inspect mika.safetensors"
SHOWN = (
    "ss_output_name", "ss_sd_model_name", "ss_network_module", "ss_num_train_images", "ss_steps", "ss_epoch",
    "ss_optimizer", "ss_unet_lr", "ss_text_encoder_lr", "ss_clip_skip", "ss_training_comment",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The file."""
    parser.add_argument("lora", type=Path, metavar="LORA", help="a .safetensors file")
    parser.add_argument("--spectrum", action="store_true", help="effective rank and largest singular values by site")
    parser.add_argument("--compare", type=Path, metavar="OTHER", help="what this file and another one differ in")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=TEXT", help="write a metadata entry: "
                        "title, author, description, trigger, tags, license, usage, comment, or any key")  # fmt: skip
    parser.add_argument("--remove", action="append", default=[], metavar="NAME", help="take a metadata entry out")
    parser.add_argument("--card", action="append", default=[], metavar="NAME=TEXT", help="write the webui's card: "
                        "trigger, negative, weight, notes, description")  # fmt: skip
    parser.add_argument("--base", type=Path, metavar="CHECKPOINT", help="with --spectrum: for DoRA, IA3, OFT, GLoRA")
    parser.add_argument("--dry-run", action="store_true", help="tell what would change, write nothing")


def run(args: argparse.Namespace, output: Output) -> dict[str, Any]:
    """Read and tell."""
    from lora_lab.cli import inspect_more
    from lora_lab.network.inspect import inspect

    more = inspect_more.run(args, output)
    report = inspect(args.lora)
    family = report.family.value if report.family else "unknown family"
    ranks = ", ".join(f"{rank} ({count})" for rank, count in report.rank.items()) or "none"
    alphas = ", ".join(f"{alpha:g}" for alpha in report.alpha) or "none"
    output.line(f"{report.kind} for {family}: {report.sites} sites, rank {ranks}, alpha {alphas}")
    most = max(report.norms_by_block.values(), default=0.0) or 1.0
    for block, norm in report.norms_by_block.items():
        output.line(f"  {block:6} {'█' * round(30 * norm / most):30} {norm:.4g}")
    for name in SHOWN:
        if name in report.metadata:
            output.line(f"  {name.removeprefix('ss_'):18} {report.metadata[name]}")
    for problem in report.problems:
        output.warn(f"problem: {problem}")
    return {**report.to_json(), **more}
