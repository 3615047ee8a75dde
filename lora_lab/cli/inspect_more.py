"""The parts of ``inspect`` that compare, look deeper, or edit metadata."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lora_lab.cli import toolbox
from lora_lab.cli.output import Output
from lora_lab.errors import SettingsError


def run(args: argparse.Namespace, path: Path, output: Output) -> dict[str, Any]:
    """Edit first, so that what is told is what is there; then compare and look deeper."""
    values: dict[str, Any] = {}
    if args.set or args.remove:
        values["edited"] = _edit(args, path, output)
    if args.card:
        values["card"] = _card(args, path)
    if args.preview:
        values["preview"] = _preview(args, path, output)
    if args.compare:
        values["difference"] = _compare(args, path, output)
    if args.spectrum:
        values["spectrum"] = _spectrum(args, path, output)
    if args.csv:
        values["csv"] = _csv(args, path, output)
    if args.tokens is not None:
        values["tokens"] = _tokens(args, path, output)
    elif args.words or args.tokenizer:
        raise SettingsError("--words and --tokenizer have no effect without --tokens", remedy="leave them out")
    return values


def _tokens(args: argparse.Namespace, path: Path, output: Output) -> list[dict[str, Any]]:
    from lora_lab.host.standalone_clip import folder_for
    from lora_lab.surgery.tokens import token_changes, vocabulary_size
    from lora_lab.tagging.tokens import TokenCounter, readable, vocabulary

    if args.tokens < 1:
        raise SettingsError(f"--tokens {args.tokens} makes no sense", remedy="give how many to tell, such as 20")
    if not args.base:
        raise SettingsError("--tokens needs the checkpoint", remedy="give it as --base")
    folder = args.tokenizer or folder_for(vocabulary_size(args.base))
    words = vocabulary(folder)
    numbers = {word: number for number, word in enumerate(words)}
    wanted = [numbers[piece] for piece in TokenCounter(folder).pieces(args.words or "") if piece in numbers]
    progress = toolbox.following(output, "tokens")
    found = token_changes(path, args.base, [readable(word) for word in words], wanted, progress)[: args.tokens]
    for one in found:
        output.line(f"  {one.token:6} {one.word:20} {one.change:.5f}")
    return [{"token": one.token, "word": one.word, "change": one.change} for one in found]


def _csv(args: argparse.Namespace, path: Path, output: Output) -> str:
    from lora_lab.surgery import tables

    tables.write(args.csv, tables.of_sites(path), force=args.force)
    output.line(f"table: {args.csv}")
    return str(args.csv)


def _edit(args: argparse.Namespace, path: Path, output: Output) -> list[str]:
    from lora_lab.surgery.edit import edit_metadata
    from lora_lab.surgery.metadata import parse_items

    edited = edit_metadata(path, parse_items(args.set), args.remove, dry_run=args.dry_run)
    for key in edited.changed:
        output.line(f"{key}: {edited.before.get(key, '-')} -> {edited.after.get(key, '-')}")
    return edited.changed


def _card(args: argparse.Namespace, path: Path) -> dict[str, Any]:
    from lora_lab.surgery.edit import edit_card
    from lora_lab.surgery.metadata import parse_items

    return edit_card(path, parse_items(args.card), dry_run=args.dry_run)


def _preview(args: argparse.Namespace, path: Path, output: Output) -> str:
    from lora_lab.surgery.edit import set_preview

    target = set_preview(path, args.preview, force=args.force, dry_run=args.dry_run)
    output.line(f"preview: {target}")
    return str(target)


def _compare(args: argparse.Namespace, path: Path, output: Output) -> dict[str, Any]:
    from lora_lab.surgery.look import compare

    found = compare(path, args.compare, toolbox.following(output, "compare"))
    output.line(f"differs by {found.distance:.2%} of its norm, cosine {found.cosine:.4f}")
    output.line(f"sites only here {len(found.only_a)}, only there {len(found.only_b)}")
    for block, share in found.blocks.items():
        output.line(f"  {block:6} {share:.2%}")
    return found.to_json()


def _spectrum(args: argparse.Namespace, path: Path, output: Output) -> list[dict[str, Any]]:
    from lora_lab.surgery.look import spectra

    found = spectra(path, args.base, toolbox.following(output, "spectrum"))
    for one in found:
        largest = " ".join(f"{s:.3g}" for s in one.s[:5])
        output.line(
            f"{one.site}: rank {one.rank}, effective {one.effective_rank:.1f}, 99 % in {one.rank_99}, S {largest}"
        )
    return [
        {"site": s.site, "block": s.block, "rank": s.rank, "norm": s.norm, "effective_rank": s.effective_rank,
         "rank_99": s.rank_99, "s": list(s.s)}
        for s in found
    ]  # fmt: skip
