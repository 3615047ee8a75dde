"""What the verbs that work on files share: inputs and globs, where outputs go, rank arguments, and the report.

No torch here: the rooms are imported when a verb works.
"""

from __future__ import annotations

import argparse
import glob
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_lab.cli.output import Output
from lora_lab.errors import OutputError, SettingsError

if TYPE_CHECKING:
    from lora_lab.surgery.compress import Compression
    from lora_lab.surgery.outcome import Outcome, Progress
    from lora_lab.surgery.uses import AdapterUse

UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "B": 1, "": 1}


def add_output(parser: argparse.ArgumentParser, what: str = "the file to write") -> None:
    """`--out`, `--force` and `--dry-run`."""
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT", help=f"{what}; a folder for several")
    parser.add_argument("--force", action="store_true", help="overwrite a file of that name")
    parser.add_argument("--dry-run", action="store_true", help="compute and tell everything, write nothing")


def add_ranks(parser: argparse.ArgumentParser, several: bool = False) -> None:
    """The arguments that :func:`compression` reads."""
    parser.add_argument(
        "--rank", action="append" if several else "store", metavar="RANK|RULE",
        help="a rank, or a rule: sv_ratio=N, sv_fro=SHARE, sv_cumulative=SHARE, ratio=SHARE, threshold=S, error=SHARE"
        + ("; give it several times for several files" if several else ""),
    )  # fmt: skip
    parser.add_argument("--conv-rank", metavar="RANK|RULE", help="for 3x3 convolutions (default: as --rank)")
    parser.add_argument(
        "--block-rank", action="append", default=[], metavar="BLOCK=RANK", help="for one block, OUT03=16; repeatable"
    )
    parser.add_argument("--max-rank", type=int, help="no site gets more than this")
    parser.add_argument("--max-size", metavar="SIZE", help="share the ranks out for a file of at most this, e.g. 50MB")
    parser.add_argument("--max-error", type=float, help="the smallest file that loses at most this share, 0..1")


def compression(args: argparse.Namespace, rank: str | None, dtype: str | None) -> Compression:
    """The arguments of :func:`add_ranks` as ranks and precision.

    Raises:
        SettingsError: something that cannot be read or makes no sense.
    """
    from lora_lab.surgery.compress import Compression
    from lora_lab.surgery.precision import precision
    from lora_lab.surgery.ranks import RankRule, parse

    shared = args.max_size is not None or args.max_error is not None
    rule = parse(rank, args.max_rank) if rank else None
    if rule is None and shared and args.max_rank:
        rule = RankRule("fixed", args.max_rank)
    blocks = {}
    for text in args.block_rank:
        block, equals, value = text.partition("=")
        if not equals:
            raise SettingsError(f"'{text}' names no block and rank", remedy="write OUT03=16")
        blocks[block.strip().upper()] = parse(value, args.max_rank)
    conv = parse(args.conv_rank, args.max_rank) if args.conv_rank else None
    size = None if args.max_size is None else parse_size(args.max_size)
    return Compression(rule, conv, blocks, size, args.max_error, precision(dtype or "fp16"))


def parse_size(text: str) -> int:
    """`50MB` in bytes.

    Raises:
        SettingsError: no number with a unit.
    """
    number = text.strip().upper()
    unit = next((unit for unit in UNITS if unit and number.endswith(unit)), "")
    try:
        size = int(float(number.removesuffix(unit)) * UNITS[unit])
    except (ValueError, OverflowError):
        raise SettingsError(f"'{text}' is no file size", remedy="write 50MB") from None
    if size <= 0:
        raise SettingsError(f"'{text}' is no file size", remedy="write 50MB")
    return size


def inputs(patterns: Sequence[str]) -> list[Path]:
    """Files of names and globs, each once, in the order given.

    Raises:
        SettingsError: a glob that matches nothing.
    """
    found: list[Path] = []
    for pattern in patterns:
        if not Path(pattern).exists() and any(sign in pattern for sign in "*?["):
            matches = [Path(name) for name in sorted(glob.glob(pattern, recursive=True))]
            if not matches:
                raise SettingsError(f"nothing matches '{pattern}'", remedy="check the pattern")
        else:
            matches = [Path(pattern)]
        found += [path for path in matches if path not in found]
    return found


def add_uses(parser: argparse.ArgumentParser, nargs: str) -> None:
    """The arguments that :func:`uses` reads."""
    parser.add_argument(
        "loras", nargs=nargs, metavar="LORA[:STRENGTH...]",
        help="a file or glob, and behind colons 0.8, unet=1, te=0.5, blocks (OUT03=0, IN=0.5), lbw= with 17, 26, 12 or "
        "20 numbers or a preset (OUTD; x=0.2 for one with X), lbwe= with a name (ATTNDEEPOFF) or, at the end, rules "
        "for single layers (IN05-OUT05:attn:0)",
    )  # fmt: skip
    parser.add_argument(
        "--presets", type=Path, action="append", default=[], metavar="FILE",
        help="an lbwpresets.txt or elempresets.txt, whose names lbw= and lbwe= then know; repeatable",
    )  # fmt: skip


def uses(args: argparse.Namespace) -> tuple[AdapterUse, ...]:
    """Adapters with their strengths; a name may be a glob, whose strengths are each file's.

    Raises:
        SettingsError: a piece that cannot be read, or a glob that matches nothing.
    """
    from lora_lab.surgery.uses import Names, parse_use

    names = Names.of_files(args.presets)
    parsed = [parse_use(text, names) for text in args.loras]
    return tuple(replace(use, path=path) for use in parsed for path in inputs([str(use.path)]))


def places(out: Path, sources: Sequence[Path], suffixes: Sequence[str] = ("",)) -> list[Path]:
    """Where each output goes: ``out`` itself for one, else files in the folder ``out`` named after their sources.

    Raises:
        OutputError: several outputs and ``out`` is no folder, or two would have one name.
    """
    if len(sources) * len(suffixes) == 1 and not out.is_dir():
        return [out]
    if not out.is_dir():
        raise OutputError("several files need a folder", file=out, remedy="create it, or give one input")
    names = [out / f"{source.stem}{suffix}.safetensors" for source in sources for suffix in suffixes]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise OutputError("two outputs would have this name", file=twice, remedy="give them one by one")
    return names


def following(output: Output, stage: str) -> Progress:
    """A progress that draws the bar."""

    def told(done: int, of: int, what: str) -> None:
        """As surgery calls it."""
        output.progress(stage, done, of, what)

    return told


def report(output: Output, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Tell what was made; the keys of the first file, and all of them under `files` where there are several."""
    for outcome in outcomes:
        name = str(outcome.out) if outcome.out else "dry run, nothing is written"
        output.line(f"{name}: {outcome.size / 1e6:.1f} MB, error {outcome.error:.3%}, {outcome.seconds:.1f} s")
        for block, part in outcome.blocks.items():
            output.line(f"  {block:5} {part.sites:4} sites  norm {part.norm2**0.5:10.4g}  error {part.error:.3%}")
        for note in outcome.notes:
            output.warn(f"note: {note}")
    values = [outcome.to_json() for outcome in outcomes]
    return values[0] if len(values) == 1 else {**values[0], "files": values}
