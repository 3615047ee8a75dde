"""``lora-lab library FOLDER [WORDS...]``"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_lab.cli import toolbox
from lora_lab.cli.output import Output

if TYPE_CHECKING:
    from lora_lab.surgery.library import LibraryEntry

EXAMPLE = "lora-lab library models/Lora family:sdxl tag:hat rank<=16"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folder, the question, and where the cache is."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="LoRA files, also in folders below it")
    parser.add_argument(
        "words", nargs="*", metavar="WORD",
        help="all must be there: a word, tag:hat, base:anime, kind:loha, family:sdxl, rank<=16; -WORD must not "
        "(put -- before the first of those)",
    )  # fmt: skip
    parser.add_argument("--prompt", metavar="TEXT", help="only the files that a prompt names as <lora:name:1>")
    parser.add_argument("--trained-on", type=Path, metavar="CHECKPOINT", help="only what was trained on it")
    parser.add_argument(
        "--full-hash", action="store_true", help="with --trained-on: by the whole file's sha256 too, which reads it"
    )
    parser.add_argument("--cache", type=Path, metavar="FILE", help="remember what was read in this .json file")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the table to a new .csv file")
    parser.add_argument("--force", action="store_true", help="overwrite the .csv file")


def run(args: argparse.Namespace, output: Output) -> dict[str, Any]:
    """Read, search, tell."""
    from lora_lab.surgery import tables
    from lora_lab.surgery.library import full_hash, in_prompt, read_library, search, trained_on

    entries = read_library(args.folder, args.cache, toolbox.following(output, "reading"))
    found = search(entries, " ".join(args.words))
    missing: list[str] = []
    if args.prompt is not None:
        found, missing = in_prompt(found, args.prompt)
    known: dict[str, str] = {}
    if args.trained_on:
        sha256 = full_hash(args.trained_on) if args.full_hash else None
        trained = trained_on(found, args.trained_on, sha256)
        known = {one.entry.name: one.by for one in trained}
        found = [one.entry for one in trained]
    for entry in found:
        by = f"  (by its {known[entry.name]})" if entry.name in known else ""
        output.line(f"{entry.name}: {_told(entry)}{by}")
    for name in missing:
        output.warn(f"no file is named {name}")
    output.line(f"{len(found)} of {len(entries)} files")
    if args.csv:
        tables.write(args.csv, tables.of_folder(found), force=args.force)
    rows = [entry.to_json() | ({"by": known[entry.name]} if entry.name in known else {}) for entry in found]
    return {"files": rows, "read": len(entries), "missing": missing}


def _told(entry: LibraryEntry) -> str:
    if entry.problem:
        return f"cannot be used: {entry.problem}"
    low, high = entry.ranks
    rank = "" if not high else f", rank {high}" if low == high else f", ranks {low} to {high}"
    base = f", on {entry.base}" if entry.base else ""
    trigger = f", trigger {entry.trigger}" if entry.trigger else ""
    return f"{entry.kind} for {entry.family}, {entry.sites} sites{rank}{base}{trigger}"
