"""An export as text: quoting that holds for blanks, quotation marks, signs and every alphabet."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from lora_lab import __version__
from lora_lab.errors import OutputError
from lora_lab.training.exporting.options import Export, Target, export
from lora_lab.training.settings import TrainSettings
from lora_lab.training.settings.settings_file import toml_value, write_text

FORMATS = {"toml": ".toml", "bash": ".sh", "ps1": ".ps1"}
"""Name -> ending of the file."""

PROMPTS = "-prompts.txt"
"""Behind the file's name: the prompts, for which kohya's scripts want a file."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SAFE = re.compile(r"[A-Za-z0-9_./:,=+@%-]+\Z", re.ASCII)
_POWERSHELL_QUOTES = re.compile("[\"`$\u201c\u201d\u201e]")
_SINGLE_QUOTES = "\u2018\u2019\u201a\u201b"


def write(settings: TrainSettings, form: str, path: Path, target: Target, *, force: bool = False) -> Export:
    """Write a run for kohya's scripts, and its prompts beside it.

    Args:
        settings: of the run.
        form: ``toml``, ``bash`` or ``ps1``.
        path: the file.
        target: checkpoint, family, and what the host would fill in.
        force: write over files that are there.

    Raises:
        OutputError: there is such a file, or the place cannot be written to.
    """
    prompts = path.with_name(path.stem + PROMPTS)
    made = export(settings, target, str(prompts))
    for place in (path, prompts) if made.prompts else (path,):
        if place.exists() and not force:
            raise OutputError("the file exists already", file=place, remedy="choose another name, or --force")
    if made.prompts:
        write_text(made.prompts + "\n", prompts)
    write_text(text(made, form), path)
    return made


def text(made: Export, form: str) -> str:
    """The file's content."""
    return {"toml": toml, "bash": bash, "ps1": powershell}[form](made)


def toml(made: Export) -> str:
    """For ``train_network.py --config_file``."""
    lines = [f"{name} = {toml_value(value)}" for name, value in made.options.items()]
    return "\n".join([*_head(made, f"accelerate launch {made.script} --config_file=THIS_FILE"), *lines]) + "\n"


def bash(made: Export) -> str:
    """A script for bash."""
    head = ["#!/usr/bin/env bash", *_head(made, "run it in the folder of kohya's sd-scripts")]
    return "\n".join(head) + "\n" + " \\\n  ".join(_command(made, quoted_for_bash)) + "\n"


def powershell(made: Export) -> str:
    """A script for PowerShell; its first character tells Windows' PowerShell that the file is UTF-8."""
    head = _head(made, "run it in the folder of kohya's sd-scripts")
    return "\ufeff" + "\n".join(head) + "\n" + " `\n  ".join(_command(made, quoted_for_powershell)) + "\n"


def _head(made: Export, how: str) -> list[str]:
    said = [f"Made by LoRA Lab {__version__} for kohya's {made.script}: {how}", *made.lacking]
    return [f"# {_CONTROL.sub(' ', line)}" for line in said]


def _command(made: Export, quoted: object) -> Iterator[str]:
    assert callable(quoted)
    yield f"accelerate launch --num_cpu_threads_per_process 1 {made.script}"
    for name, value in made.options.items():
        if value is True:
            yield f"--{name}"
        elif isinstance(value, list):
            yield " ".join([f"--{name}", *(quoted(str(part)) for part in value)])
        else:
            yield f"--{name}={quoted(str(value))}"


def quoted_for_bash(value: str) -> str:
    """In single quotation marks; with control characters as ``$'...'``."""
    if _SAFE.match(value):
        return value
    if not _CONTROL.search(value):
        return "'" + value.replace("'", "'\\''") + "'"
    plain = value.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", plain) + "'"


def quoted_for_powershell(value: str) -> str:
    """In single quotation marks, doubled inside; in double ones where a character needs it."""
    if _SAFE.match(value) and not value.startswith("@"):
        return value
    if not _CONTROL.search(value) and not any(mark in value for mark in _SINGLE_QUOTES):
        return "'" + value.replace("'", "''") + "'"
    plain = _POWERSHELL_QUOTES.sub(lambda found: "`" + found[0], value)
    plain = plain.replace("\n", "`n").replace("\t", "`t").replace("\r", "`r").replace("\0", "`0")
    return '"' + _CONTROL.sub(" ", plain) + '"'
