"""``lora-lab caption DIR OPERATION``: what would change is shown; ``--apply`` writes it."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_lab.cli.output import Output
from lora_lab.errors import CheckpointError, SettingsError
from lora_lab.tagging.operations import OPERATIONS, Operation, Option, from_texts

if TYPE_CHECKING:
    from lora_lab.dataset.history import Done
    from lora_lab.tagging.recipe import Recipe
    from lora_lab.workflow.caption_values import Change
    from lora_lab.workflow.captions import CaptionProject

EXAMPLE = 'lora-lab caption pictures consolidate "boots, red footwear, red boots" "red boots" --filter "NOT untagged"'
DEMO = "demo"
FIELD = "field_"
ACTS = ("recipe", "undo", "redo", "history", "restore", "to_utf8", "in_json", "out_json", "table")
"""What can be done instead of an operation, one at a time."""

SWITCHES = {
    "--apply": "write; without it changes are only shown",
    "--dry-run": "show only, which is the default",
    "--replace": "--out-json and --save-recipe may replace a file",
    "--recursive": "in all folders below DIR, whatever their names",
}
METAVARS = {"number": "N", "tags": "TAGS", "pairs": "OLD=NEW", "text": "TEXT"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folder, the operation with its options, and what can be done instead."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="holds <repeats>_<name> folders, or pictures")
    _add_shared(parser)
    other = parser.add_argument_group("instead of an operation")
    other.add_argument(
        "--recipe", type=Path, metavar="FILE", help="the operations of a recipe file, one after the other"
    )
    other.add_argument("--undo", action="store_true", help="take the last step back, at once")
    other.add_argument("--redo", action="store_true", help="do the step again that was taken back last, at once")
    other.add_argument("--history", action="store_true", help="what was done, the newest first")
    other.add_argument(
        "--restore", type=int, metavar="ID", help="the captions as after a step of --history; 0: as found"
    )
    other.add_argument("--table", action="store_true", help="all tags with their counts")
    other.add_argument("--to-utf8", action="store_true", help="store Latin-1, UTF-16 and BOM files as plain UTF-8")
    other.add_argument(
        "--in-json", type=Path, metavar="FILE", help="take captions from kohya's metadata (meta_cap.json)"
    )
    other.add_argument("--out-json", type=Path, metavar="FILE", help="write captions as kohya's metadata, at once")
    operations = parser.add_subparsers(dest="operation", metavar="OPERATION", title="operations")
    for name, kind in OPERATIONS.items():
        sub = operations.add_parser(name, help=_first_sentence(kind.about), description=kind.about, allow_abbrev=False)
        for option in kind.options():
            _add_option(sub, option)
        _add_shared(sub, behind=True)
        sub.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="one line of JSON")


def _add_shared(parser: argparse.ArgumentParser, *, behind: bool = False) -> None:
    """What may stand before and behind the operation. Behind it, what is not given leaves what stood before."""

    def default(value: Any) -> Any:  # noqa: ANN401 - argparse's
        return argparse.SUPPRESS if behind else value

    add = parser.add_argument
    where = 'only these captions, e.g. "1girl AND NOT (hat OR folder:2_b)"'
    add("--filter", default=default(""), metavar="WHERE", help=where)
    for flag, text in SWITCHES.items():
        add(flag, action="store_true", default=default(False), help=text)
    add("--save-recipe", type=Path, default=default(None), metavar="FILE", help="keep the operation as a recipe file")
    text = "ending of the caption files (default .txt)"
    add("--caption-extension", default=default(".txt"), metavar="EXT", help=text)
    text = f"counts tokens: a CLIP tokenizer's folder, or {DEMO} (default: SD's, if installed)"
    add("--tokenizer", default=default(None), metavar="DIR", help=text)
    text = "for the history (default LORA_LAB_DATA, or lora-lab-data here)"
    add("--data-dir", type=Path, default=default(None), metavar="DIR", help=text)


def _add_option(parser: argparse.ArgumentParser, option: Option) -> None:
    """An operation's field; one that is not given keeps the dataclass's default."""
    help_text = option.help.replace("%", "%%")
    if option.default not in (None, (), ""):
        help_text += f" (default {option.default})"
    more: dict[str, Any] = {"help": help_text, "default": argparse.SUPPRESS}
    if option.kind == "choice":
        more["choices"] = option.choices
    elif option.kind in METAVARS and not option.leading:
        more["metavar"] = METAVARS[option.kind]
    if option.leading:
        if option.default is not None:
            more["nargs"] = "?"
        parser.add_argument(FIELD + option.name, metavar=option.name.upper(), **more)
    elif option.kind == "switch":
        parser.add_argument(_flag(option), dest=FIELD + option.name, action=argparse.BooleanOptionalAction, **more)
    else:
        parser.add_argument(_flag(option), dest=FIELD + option.name, **more)


def _flag(option: Option) -> str:
    return "--" + option.name.replace("_", "-")


def run(args: argparse.Namespace, output: Output) -> dict[str, Any]:
    """Show, or do.

    Raises:
        SettingsError: nothing to do is given, or two things, or --apply with --dry-run.
    """
    from lora_lab.host.choose import default_data_dir
    from lora_lab.workflow.caption_help import kept_scores, lazy_counter
    from lora_lab.workflow.captions import CaptionProject

    _check(args)
    data = args.data_dir or default_data_dir()
    project = CaptionProject.open(args.folder, data, args.caption_extension, recursive=args.recursive)
    project.counter = lazy_counter(lambda: _tokenizer(args.tokenizer))
    _warn(project, output)
    if args.history:
        return _history(project, output)
    if args.table:
        return _table(project, args.filter, output)
    if args.out_json:
        return _out_json(project, args, output)
    if args.undo or args.redo:
        return _stepped(project, project.undo() if args.undo else project.redo(), output)
    recipe = _recipe(args)
    if recipe is not None and any("scores" in step.operation.needs for step in recipe.steps):
        project.scores = kept_scores(project, data)
    changes, label = _changes(project, args, recipe, output)
    return _show_or_apply(project, changes, label, args, output)


def _warn(project: CaptionProject, output: Output) -> None:
    """The first of each kind of trouble, and how many there are."""
    kinds: dict[tuple[str, str], list[str]] = {}
    for problem in project.problems:
        kinds.setdefault((problem.why.partition(":")[0], problem.remedy), []).append(problem.file)
    for (why, remedy), files in kinds.items():
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        output.warn(f"{files[0]}{more}: {why}; {remedy}")


def _check(args: argparse.Namespace) -> None:
    given = [name for name in ACTS if getattr(args, name) is not None and getattr(args, name) is not False]
    given += [args.operation] if args.operation else []
    if len(given) != 1:
        what = f"{' and '.join(given)} cannot be done at once" if given else "nothing to do is given"
        raise SettingsError(
            what, remedy="give one operation, such as trigger-first, or one of the options instead of it"
        )
    if args.apply and args.dry_run:
        raise SettingsError("--apply and --dry-run say opposite things", remedy="leave one of them out")
    if args.dry_run and (args.undo or args.redo or args.out_json):
        what = "--dry-run does not go with what is done at once"
        raise SettingsError(what, remedy="look at --history first, or use --restore, which only shows")
    if args.save_recipe and not args.operation:
        raise SettingsError("--save-recipe has no operation to save", remedy="give one")


def _recipe(args: argparse.Namespace) -> Recipe | None:
    from lora_lab.tagging.recipe import Recipe, Step, read_recipe, write_recipe

    if args.recipe:
        return read_recipe(args.recipe)
    if not args.operation:
        return None
    operation = _operation(args)
    if args.save_recipe:
        write_recipe(args.save_recipe, [Step(operation, args.filter)], replace=args.replace)
    return Recipe.of(operation)


def _operation(args: argparse.Namespace) -> Operation:
    given = {name[len(FIELD) :]: value for name, value in vars(args).items() if name.startswith(FIELD)}
    return from_texts(args.operation, given)


def _changes(
    project: CaptionProject, args: argparse.Namespace, recipe: Recipe | None, output: Output
) -> tuple[list[Change], str]:
    """What would change, and its name in the history."""
    if recipe is not None:
        label = f"recipe {args.recipe.name}" if args.recipe else recipe.told()
        return project.preview(recipe, args.filter), label + (f" [{args.filter}]" if args.filter else "")
    files = set(project.find(args.filter))
    if args.in_json:
        changes, unknown = project.preview_json(args.in_json)
        if unknown:
            output.warn(f"{len(unknown)} of its entries belong to no picture here, or to several: {unknown[0]}")
        label = f"captions from {args.in_json.name}"
    elif args.to_utf8:
        changes, label = project.preview_conversion(), "to UTF-8"
    else:
        changes, label = project.preview_restore(args.restore), f"restored: point {args.restore}"
    return [change for change in changes if change.file in files], label


def _show_or_apply(
    project: CaptionProject, changes: list[Change], label: str, args: argparse.Namespace, output: Output
) -> dict[str, Any]:
    total = len(project.captions)
    for change in changes:
        _show(change, output)
    step, began = None, time.monotonic()
    if args.apply and changes:
        step = project.apply(changes, label, restores=args.restore).step.id
        output.line(f"{len(changes)} of {total} captions written; --undo takes it back")
    elif changes:
        output.line(f"{len(changes)} of {total} captions would change: --apply writes them")
    else:
        output.line(f"none of {total} captions would change")
    return {
        "captions": total, "changed": len(changes), "written": len(changes) if step is not None else 0, "step": step,
        "label": label, "seconds": round(time.monotonic() - began, 3), "changes": [c.to_json() for c in changes],
    }  # fmt: skip


def _show(change: Change, output: Output) -> None:
    before, after = ", ".join(change.before), ", ".join(change.after)
    output.line(change.file + (f" ({change.converts} becomes UTF-8)" if change.converts else ""))
    if before != after:
        output.line(f"  - {before}")
        output.line(f"  + {after}")


def _stepped(project: CaptionProject, done: Done, output: Output) -> dict[str, Any]:
    word = "taken back" if done.step.kind == "undo" else "done again"
    output.line(f"{word}: {done.step.label} ({len(done.files)} captions)")
    for file in done.kept:
        output.warn(f"{file}: left as it is, another program has changed it since")
    return {
        "captions": len(project.captions), "changed": len(done.files), "written": len(done.files), "step": done.step.id,
        "label": done.step.label, "files": list(done.files), "kept": list(done.kept),
    }  # fmt: skip


def _history(project: CaptionProject, output: Output) -> dict[str, Any]:
    points = project.history()
    if not points:
        output.line("nothing was done to these captions yet")
    for p in points:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(p.time))
        state = {"done": "", "undone": " (taken back)", "noted": ""}[p.state]
        kind = "" if p.kind in ("edit", "found") else f"{p.kind}: "
        output.line(f"{p.id:5}  {when}  {p.files:5} captions  {kind}{p.label}{state}")
    return {"captions": len(project.captions), "history": [p.to_json() for p in points]}


def _table(project: CaptionProject, where: str, output: Output) -> dict[str, Any]:
    rows = project.table(project.find(where))
    for row in rows:
        output.line(f"{row.count:6}  {row.share:4.0%}  {row.tag}")
    tags = [{"tag": row.tag, "count": row.count, "share": round(row.share, 4)} for row in rows]
    return {"captions": len(project.captions), "tags": tags}


def _out_json(project: CaptionProject, args: argparse.Namespace, output: Output) -> dict[str, Any]:
    written = project.write_json(args.out_json, replace=args.replace)
    output.line(f"{written} captions written to {args.out_json}")
    return {"captions": len(project.captions), "written": written, "out": str(args.out_json)}


def _tokenizer(wanted: str | None) -> Path:
    """The folder of the tokenizer.

    Raises:
        SettingsError: none is installed.
    """
    from lora_lab.demo import assets
    from lora_lab.host.standalone_clip import full_size_folder

    if wanted:
        return assets.tokenizer_dir() if wanted == DEMO else Path(wanted)
    try:
        return full_size_folder()
    except CheckpointError as error:
        remedy = f"give --tokenizer with the folder of one, or {DEMO}, or limit the number of tags"
        raise SettingsError("tokens cannot be counted: SD's tokenizer is not installed", remedy=remedy) from error


def _first_sentence(text: str) -> str:
    return text.partition(". ")[0].partition(": ")[0].rstrip(".").replace("%", "%%")
