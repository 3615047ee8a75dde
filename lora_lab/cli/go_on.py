"""``--continue LORA``: the settings of a finished LoRA, to start from it."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lora_lab.cli import given
from lora_lab.cli.output import Output

if TYPE_CHECKING:
    from lora_lab.training.importing.found import SettingsFile


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The option."""
    parser.add_argument(
        "--continue", type=Path, metavar="LORA", dest="go_on",
        help="start from this LoRA, with the settings of its metadata where SETTINGS and --set say nothing; "
        "give train_data_dir",
    )  # fmt: skip


def read(lora: Path, args: argparse.Namespace, output: Output) -> SettingsFile:
    """The settings of the LoRA, those of the file over them, ``--set`` over both, and the LoRA as the start.

    Raises:
        SettingsError: the LoRA tells nothing of its training, or a setting is wrong.
    """
    from lora_lab.training.settings import presets
    from lora_lab.training.start_files import following

    found = given.read(lora, args, output)
    said = set(given.changes(args.changes))
    if args.settings:
        mine = given.read(args.settings[0], args, output)
        said |= set(mine.values)
        found = replace(mine, settings=presets.over(mine.settings, found, but=mine.values))
    start = {"network_weights": str(lora.resolve()), "dim_from_weights": True}
    if "output_name" not in said:
        start["output_name"] = following(found.settings.output_name or lora.stem)
    return replace(found, settings=found.settings.replace(**start))
