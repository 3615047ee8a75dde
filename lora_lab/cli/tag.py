"""``lora-lab tag DIR``"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from lora_lab.cli.output import Output
from lora_lab.errors import SettingsError
from lora_lab.tagging.write_modes import WRITE_MODES

if TYPE_CHECKING:
    from lora_lab.tagging.choose import Choice
    from lora_lab.tagging.find import FoundTagger

EXAMPLE = "lora-lab tag pictures --model wd-swinv2-tagger-v3 --general-threshold 0.3 --write if-empty"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folder, the taggers, what is chosen, and what becomes of the captions."""
    from lora_lab.tagging.combine import How

    parser.add_argument(
        "folder", type=Path, nargs="?", metavar="DIR", help="holds <repeats>_<name> folders, or pictures"
    )
    taggers = parser.add_argument_group("taggers")
    taggers.add_argument(
        "--model", action="append", metavar="NAME", help="a name of --models, or a tagger's folder; again for several"
    )
    taggers.add_argument("--combine", choices=get_args(How), default="mean", help="several taggers (default mean)")
    taggers.add_argument(
        "--models", action="store_true", help="list the taggers on this machine and those of the hub, and end"
    )
    taggers.add_argument(
        "--download",
        action="append",
        default=[],
        metavar="NAME",
        help="get a tagger first: owner/name, or a name of --models",
    )
    taggers.add_argument("--device", choices=("auto", "cpu"), default="auto", help="cpu leaves the graphics card alone")
    taggers.add_argument("--batch", type=int, default=0, help="pictures at a time (default: what fits the model)")
    taggers.add_argument("--threads", type=int, default=0, help="of the CPU for the model (default: all)")
    choice = parser.add_argument_group("which tags")
    _add_choice(choice)
    _add_form(choice)
    captions = parser.add_argument_group("captions")
    modes = "; ".join(f"{word}: {about}" for word, about in WRITE_MODES.items()) + " (default if-empty)"
    captions.add_argument("--write", choices=list(WRITE_MODES), default="if-empty", help=modes)
    captions.add_argument("--caption-extension", default=".txt", help="ending of the caption files (default .txt)")
    captions.add_argument("--recursive", action="store_true", help="in all folders below DIR, whatever their names")
    captions.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="for probabilities and history (default LORA_LAB_DATA, or lora-lab-data here)",
    )


def _add_choice(group: argparse._ArgumentGroup) -> None:
    from lora_lab.tagging.choose import Choice, Ratings

    plain = Choice()
    group.add_argument(
        "--general-threshold",
        default=plain.general_threshold,
        help="probability from which a tag is taken (default %(default)s)",
        type=float,
        metavar="P",
    )
    group.add_argument(
        "--character-threshold",
        default=plain.character_threshold,
        help="the same for characters (default %(default)s)",
        type=float,
        metavar="P",
    )
    group.add_argument("--use-card", action="store_true", help="take the general threshold from the model's card")
    group.add_argument("--mcut", action="store_true", help="a threshold for each picture, in its largest gap")
    group.add_argument("--threshold", action="append", default=[], metavar="TAG=P", help="a threshold for one tag")
    group.add_argument(
        "--rating", choices=get_args(Ratings), default=plain.ratings, help="where the rating goes (default no)"
    )
    group.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="TAG",
        help="never this tag; * and ? stand for letters, re: is a regular expression",
    )
    group.add_argument("--replace", action="append", default=[], metavar="TAG=NEW", help="another word for a tag")


def _add_form(group: argparse._ArgumentGroup) -> None:
    from lora_lab.tagging.choose import Choice, Order

    plain = Choice()
    group.add_argument("--underscores", action="store_true", help="long_hair instead of long hair")
    group.add_argument(
        "--escape", action="store_true", help="a backslash before brackets: for prompts, not for training"
    )
    group.add_argument(
        "--max-tags", type=int, default=plain.max_tags, metavar="N", help="at most so many (default: all)"
    )
    group.add_argument(
        "--min-share",
        default=plain.min_share,
        help="leave out tags found in less than this share of the pictures",
        type=float,
        metavar="P",
    )
    group.add_argument("--order", choices=get_args(Order), default=plain.order, help="default score")
    group.add_argument("--characters-first", action="store_true", help="names of characters before other tags")


def run(args: argparse.Namespace, output: Output) -> dict[str, Any]:
    """Tag, and write captions.

    Raises:
        SettingsError: no folder, or an option out of range.
    """
    from lora_lab.host.choose import default_data_dir
    from lora_lab.workflow import tagging

    data = args.data_dir or default_data_dir()
    if min(args.batch, args.threads) < 0:
        raise SettingsError("--batch and --threads are no numbers below 0", remedy="leave them out for the defaults")
    if args.models:
        return _list(data, output)
    choice = _choice(args)
    for name in args.download:
        _download(name, data / tagging.TAGGERS, output)
    if args.folder is None:
        if args.download:
            return {"downloaded": args.download}
        raise SettingsError("no folder is given", remedy="say which: lora-lab tag DIR")
    taggers = _taggers(args.model or args.download, data, output)
    return _tag(args, choice, taggers, output)


def _tag(args: argparse.Namespace, choice: Choice, taggers: list[FoundTagger], output: Output) -> dict[str, Any]:
    """Look, choose, write, tell."""
    from lora_lab.host.choose import default_data_dir
    from lora_lab.tagging.batches import Batching
    from lora_lab.workflow import tag_captions, tagging
    from lora_lab.workflow.captions import CaptionProject

    data = args.data_dir or default_data_dir()
    began = time.monotonic()
    project = CaptionProject.open(args.folder, data, args.caption_extension, recursive=args.recursive)
    looking = tagging.Looking(Batching(args.batch), args.device, args.threads)
    store = tagging.project_store(args.folder, data)
    seen = tagging.look(tag_captions.pictures_of(project), taggers, store, output.progress, looking)
    chosen = seen.choose(choice, args.combine)
    tags = dict(zip(seen.pictures, chosen, strict=True))
    changes = tag_captions.propose_tags(project, tags, args.write, seen.vocabulary)
    if changes:
        project.apply(changes, f"tagged with {', '.join(tagger.name for tagger in seen.taggers)} ({args.write})")
    problems = [*seen.problems, *project.problems]
    for note in seen.notes:
        output.warn(note)
    for problem in problems:
        output.line(f"{problem.severity}: {problem.file}: {problem.why}; {problem.remedy}")
    result = {
        "images": len(seen.pictures),
        "tags": sum(map(len, chosen)),
        "seconds": round(time.monotonic() - began, 2),
        "written": len(changes),
        "different_tags": len({tag for found in chosen for tag in found}),
        "computed": seen.computed,
        "models": [tagger.name for tagger in seen.taggers],
        "problems": [problem.to_json() for problem in problems],
    }
    output.line("{images} pictures, {tags} tags, {written} captions written in {seconds} s".format(**result))
    return result


def _choice(args: argparse.Namespace) -> Choice:
    from lora_lab.tagging.choose import Choice

    try:
        per_tag = tuple((tag, float(value)) for tag, value in map(_pair, args.threshold))
    except ValueError as error:
        raise SettingsError("--threshold needs a number", remedy="write it as 'long hair=0.5'") from error
    choice = Choice(
        args.general_threshold, args.character_threshold, args.use_card, args.mcut, per_tag, args.rating,
        tuple(args.exclude), tuple(map(_pair, args.replace)), args.underscores, args.escape, args.max_tags,
        args.min_share, args.order, args.characters_first,
    )  # fmt: skip
    choice.check()
    return choice


def _pair(text: str) -> tuple[str, str]:
    """``TAG=VALUE``; the last ``=`` parts them, as tags such as ``=_=`` have some."""
    tag, mark, value = text.rpartition("=")
    if not mark or not tag.strip():
        raise SettingsError(f"{text!r} is no TAG=VALUE", remedy="write it with an equals sign")
    return tag, value


def _taggers(wanted: list[str], data: Path, output: Output) -> list[FoundTagger]:
    """By name or folder; without a word the first on this machine."""
    from lora_lab.tagging.find import open_place
    from lora_lab.workflow import tagging

    local = tagging.taggers_in(data)
    if not wanted:
        if len(local) == 1:
            output.warn("only the demo's tagger is here, which knows the demo world alone: see lora-lab tag --models")
        return local[:1]
    by_name = {tagger.name: tagger for tagger in local}
    found = []
    for word in wanted:
        name = word.rpartition("/")[2]
        if name not in by_name and not Path(word).exists():
            raise SettingsError(
                f"there is no tagger {word!r} here", remedy="see lora-lab tag --models, or give a folder"
            )
        found.append(open_place(Path(word)) if Path(word).exists() and word not in by_name else by_name[name])
    return found


def _list(data: Path, output: Output) -> dict[str, Any]:
    from lora_lab.tagging.known import KNOWN
    from lora_lab.workflow import tagging

    local = tagging.taggers_in(data)
    for tagger in local:
        card = f", card's threshold {tagger.card}" if tagger.card else ""
        output.line(f"{tagger.name}{card}: {tagger.path}")
    names = {tagger.name for tagger in local}
    for known in KNOWN.values():
        if known.name not in names:
            output.line(f"{known.name} (to download): {known.about}")
    return {
        "here": [{"name": t.name, "path": str(t.path), "card": t.card} for t in local],
        "hub": [{"name": k.name, "repository": k.repository, "card": k.card} for k in KNOWN.values()],
    }


def _download(name: str, folder: Path, output: Output) -> None:
    from lora_lab.tagging import hub
    from lora_lab.tagging.known import KNOWN

    wanted = hub.look_up(KNOWN[name].repository if name in KNOWN else name)
    output.line(f"{wanted.repository}: {wanted.size / 1e6:,.0f} MB")
    hub.download(wanted, folder, listen=lambda done, total: output.progress(f"getting {wanted.name}", done, total))
