"""Settings as a verb is given them: a file of any kind, a preset below it, ``--set`` above it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lora_lab.cli.output import Output
from lora_lab.errors import SettingsError

if TYPE_CHECKING:
    from lora_lab.training.importing.found import SettingsFile

HELP = (
    "ours (TOML, JSON), kohya's TOML, kohya_ss' JSON, a launch script (.sh, .ps1, .bat), or a LoRA whose settings "
    "are taken"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `read` looks at, besides the file itself."""
    parser.add_argument("--preset", metavar="NAME", help="what the file does not give: a saved preset, or its file")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", dest="changes", help="change a setting of the file"
    )
    text = "folder for runs, LoRAs and presets (default: lora-lab-data)"
    parser.add_argument("--out", type=Path, metavar="DIR", help=text)


def data_dir(args: argparse.Namespace) -> Path:
    """Our data folder, as ``--out`` says."""
    from lora_lab.host.choose import default_data_dir

    return args.out.resolve() if args.out else default_data_dir()


def read(path: Path, args: argparse.Namespace, output: Output) -> SettingsFile:
    """The file with ``--preset`` and ``--set`` applied; what was not taken is said on standard error.

    Raises:
        SettingsError: the file, the preset or a change is wrong.
    """
    from lora_lab.training.settings import presets, settings_file

    found = settings_file.read(path)
    for text in (found.note, *found.remarks):
        if text:
            output.warn(f"note: {text}")
    settings = found.settings
    if args.preset:
        settings = presets.over(settings, presets.load(args.preset, data_dir(args)), but=found.values)
    given = changes(args.changes)
    if given:
        settings = settings.replace(**given)
    refused = tuple(item for item in found.refused if item.name not in given)
    return replace(found, settings=settings, refused=refused, values=(*found.values, *given))


def changes(texts: Sequence[str]) -> dict[str, str]:
    """``NAME=VALUE`` as names of settings and texts.

    Raises:
        SettingsError: there is no such setting, or no value.
    """
    from lora_lab.training.settings import TrainSettings

    given: dict[str, str] = {}
    for change in texts:
        name, sign, value = change.partition("=")
        if not sign:
            raise SettingsError(f"--set {change} has no value", remedy="write it as --set NAME=VALUE")
        given[TrainSettings.spec(name.strip()).name] = value.strip()
    return given


def check_taken(found: SettingsFile, path: Path) -> None:
    """Refuse a run that would be another one than the file asks for.

    Raises:
        SettingsError: a value of the file cannot be had, and ``--set`` gives none in its place.
    """
    if found.refused:
        first, *more = found.refused
        rest = f" (and {len(more)} more)" if more else ""
        remedy = f"give another value with --set {first.name}=VALUE; lora-lab settings {path.name} tells all"
        raise SettingsError(f"the file asks for what cannot be had: {first.name}, {first.why}{rest}", remedy=remedy)


def checkpoint(found: SettingsFile, given: Path | None) -> Path | None:
    """What to train on: ``--checkpoint``, else what the file names, else None for the demo checkpoint.

    Raises:
        SettingsError: the file names a checkpoint that is not here, and ``--checkpoint`` is not given.
    """
    if given is not None or not found.checkpoint:
        return given
    named = Path(found.checkpoint)
    if not named.is_file():
        what = f"the checkpoint that the file names is not here ({found.checkpoint[:200]})"
        raise SettingsError(what, remedy="give one with --checkpoint FILE")
    return named
