"""``lora-lab inspect LORA...``"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lora_lab.cli import inspect_more, toolbox
from lora_lab.cli.output import Output
from lora_lab.errors import AdapterFileError, SettingsError

EXAMPLE = "lora-lab inspect mika.safetensors"
ONE_ONLY = ("compare", "set", "remove", "card", "preview", "csv")
"""What is about a single file."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The files."""
    parser.add_argument("loras", nargs="+", metavar="LORA", help=".safetensors files")
    parser.add_argument("--spectrum", action="store_true", help="effective rank and largest singular values by site")
    parser.add_argument("--compare", type=Path, metavar="OTHER", help="what this file and another one differ in")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=TEXT", help="write a metadata entry: "
                        "title, author, description, trigger, tags, license, usage, comment, or any key")  # fmt: skip
    parser.add_argument("--remove", action="append", default=[], metavar="NAME", help="take a metadata entry out")
    parser.add_argument("--card", action="append", default=[], metavar="NAME=TEXT", help="write the webui's card: "
                        "trigger, negative, weight, notes, description")  # fmt: skip
    parser.add_argument("--preview", type=Path, metavar="PICTURE", help="put a picture on the webui's card")
    parser.add_argument("--metadata", action="store_true", help="all metadata, as tables")
    parser.add_argument("--tokens", type=int, metavar="N", help="the N tokens whose states in the text encoder change "
                        "most (needs --base; minutes for all)")  # fmt: skip
    parser.add_argument("--words", metavar="TEXT", help="with --tokens: only the tokens of these words")
    parser.add_argument("--tokenizer", type=Path, metavar="DIR", help="with --tokens: a CLIP tokenizer's folder "
                        "(default: SD's, of an installed package)")  # fmt: skip
    parser.add_argument("--base", type=Path, metavar="CHECKPOINT", help="for --tokens, and for --spectrum of DoRA, "
                        "IA3, OFT, GLoRA")  # fmt: skip
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write kind, rank, alpha and norm of each site to a "
                        "new .csv file")  # fmt: skip
    parser.add_argument("--force", action="store_true", help="overwrite a preview picture or a .csv file")
    parser.add_argument("--dry-run", action="store_true", help="tell what would change, write nothing")


def run(args: argparse.Namespace, output: Output) -> dict[str, Any]:
    """Read and tell; the keys of the first file, and all of them under `files` where there are several."""
    paths = toolbox.inputs(args.loras)
    if len(paths) > 1 and any(getattr(args, name) for name in ONE_ONLY):
        words = ", ".join(f"--{name}" for name in ONE_ONLY)
        raise SettingsError(f"{words} are for one file", remedy="give one LoRA")
    values = []
    for path in paths:
        if len(paths) > 1:
            output.line(str(path))
        values.append({**inspect_more.run(args, path, output), **_one(args, path, output)})
    return values[0] if len(values) == 1 else {**values[0], "files": values}


def _one(args: argparse.Namespace, path: Path, output: Output) -> dict[str, Any]:
    """One file. What only one of the two readers understands is told by that one: the first reads damaged files too,
    the second every maker's names and every kind.

    Raises:
        AdapterFileError: neither understands it.
    """
    from lora_lab.network.inspect import inspect
    from lora_lab.surgery.report import look_into

    values: dict[str, Any] = {}
    problems: list[str] = []
    failed: AdapterFileError | None = None
    try:
        values = inspect(path).to_json()
        problems = values["problems"]
    except AdapterFileError as wrong:
        failed = wrong
    try:
        report = look_into(path, toolbox.following(output, path.name))
    except AdapterFileError as wrong:
        if failed is not None:
            raise failed from None
        _tell(values, {}, output)
        values["problems"] = [*problems, wrong.what]
    else:
        found = report.to_json()
        kept: dict[str, Any] = {key: values[key] for key in ("kind", "metadata") if key in values}
        values = found | kept | {"problems": list(dict.fromkeys([*problems, *report.problems]))}
        tables = report.tables if args.metadata else report.tables[:2]
        _tell(values, {table.title: table.rows for table in tables}, output)
        for site, times in report.outliers:
            output.warn(f"sticks out: {site}, {times:.1f} times the median of its part")
    for problem in values["problems"]:
        output.warn(f"problem: {problem}")
    return values


def _tell(values: dict[str, Any], tables: dict[str, Any], output: Output) -> None:
    ranks = ", ".join(f"{rank} ({count})" for rank, count in values["rank"].items()) or "none"
    alphas = ", ".join(values["alpha"]) or "none"
    family = values["family"] or "unknown family"
    output.line(f"{values['kind']} for {family}: {values['sites']} sites, rank {ranks}, alpha {alphas}")
    _bars(values["norms_by_block"], output)
    _bars(values.get("text_layers", {}), output)
    for title, rows in tables.items():
        output.line(f"  {title}")
        for name, value in rows:
            output.line(f"    {name:24} {value}")


def _bars(norms: dict[str, float], output: Output) -> None:
    most = max(norms.values(), default=0.0) or 1.0
    for name, norm in norms.items():
        output.line(f"  {name:6} {'█' * round(30 * norm / most):30} {norm:.4g}")
