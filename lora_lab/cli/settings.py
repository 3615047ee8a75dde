"""``lora-lab settings [FILE]``"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_lab.cli import given
from lora_lab.cli.output import Output
from lora_lab.errors import UserError

if TYPE_CHECKING:
    from lora_lab.training.importing.found import SettingsFile

EXAMPLE = "lora-lab settings train.ps1 --export toml mika.toml"

FORMATS = ("toml", "bash", "ps1", "ours")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The file, and what to do with it."""
    parser.add_argument("file", type=Path, metavar="FILE", nargs="?", help=given.HELP)
    given.add_arguments(parser)
    text = "write the run for kohya's scripts (toml, bash, ps1), or as ours"
    parser.add_argument("--export", nargs=2, metavar=("FORMAT", "TO"), help=text)
    parser.add_argument("--checkpoint", metavar="FILE", help="with --export: the checkpoint (default: what FILE names)")
    parser.add_argument("--family", choices=("sd1", "sd2", "sdxl"), default="sd1", help="with --export: its family")
    parser.add_argument("--v-prediction", action="store_true", help="with --export: the checkpoint predicts v")
    parser.add_argument("--save-preset", metavar="NAME", help="keep the settings as a preset: no dataset, no names")
    parser.add_argument("--delete-preset", metavar="NAME", help="delete a preset")
    parser.add_argument("--force", action="store_true", help="write over what is there")


def run(args: argparse.Namespace, output: Output) -> dict[str, Any]:
    """Tell what a file holds, and write it as asked; without a file, list the presets."""
    from lora_lab.training.settings import presets

    folder = given.data_dir(args)
    if args.delete_preset:
        presets.delete(args.delete_preset, folder)
        output.line(f"deleted: {args.delete_preset}")
    if args.file is None:
        if args.export or args.save_preset:
            raise UserError("there is no settings file", remedy="give one")
        found_names = presets.names(folder)
        output.line("presets: " + (", ".join(found_names) or "none"))
        return {"presets": found_names}
    found = given.read(args.file, args, output)
    values: dict[str, Any] = {
        "origin": found.origin, "checkpoint": found.checkpoint,
        "settings": found.settings.to_mapping(changed_only=True),
        "left_out": [{"name": n, "why": why} for names, why in found.by_reason() for n in names],
        "refused": [item.name for item in found.refused], "remarks": list(found.remarks),
    }  # fmt: skip
    if not (args.export or args.save_preset):
        _tell(found, output)
    if args.export:
        values["out"] = str(_export(found, args, output))
    if args.save_preset:
        path = presets.save(found.settings, args.save_preset, folder, force=args.force)
        output.line(f"preset: {path}")
        values["preset"] = str(path)
    return values


def _tell(found: SettingsFile, output: Output) -> None:
    """The settings that are not as in a new run, and what was not taken."""
    output.line(f"{found.origin}" + (f", for {found.checkpoint}" if found.checkpoint else ""))
    for name, value in found.settings.to_mapping(changed_only=True).items():
        output.line(f"  {name} = {value!r}")
    from lora_lab.training.importing.found import listed

    for names, why in found.by_reason():
        output.line(f"not taken: {listed(names)}: {why}")


def _export(found: SettingsFile, args: argparse.Namespace, output: Output) -> Path:
    """Write the file.

    Raises:
        UserError: there is no such format.
        OutputError: it cannot be written.
    """
    from lora_lab.errors import OutputError
    from lora_lab.families import Family
    from lora_lab.training.exporting import texts
    from lora_lab.training.exporting.options import Target
    from lora_lab.training.settings import settings_file

    form, path = args.export[0], Path(args.export[1])
    if form not in FORMATS:
        raise UserError(f"there is no format {form!r}", remedy=f"use one of {', '.join(FORMATS)}")
    given.check_taken(found, args.file)
    if form == "ours":
        if path.exists() and not args.force:
            raise OutputError("the file exists already", file=path, remedy="choose another name, or --force")
        settings_file.write(found.settings, path)
    else:
        target = Target(args.checkpoint or found.checkpoint, Family(args.family), args.v_prediction)
        for text in texts.write(found.settings, form, path, target, force=args.force).lacking:
            output.warn(f"note: {text}.")
    output.line(f"written: {path}")
    return path
