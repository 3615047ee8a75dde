"""One text of a run that may be shared: settings, versions, events and any traceback, without a person's paths.

Of a path that lies in the program or its libraries the part below `lora_lab` or `site-packages` is kept; of the
folders that the settings name, a word for each; of any other path, its last part. No torch here.
"""

from __future__ import annotations

import json
import platform
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lora_lab import __version__
from lora_lab.errors import LoraLabError

FILE = "report.txt"
MODULES = ("torch", "numpy", "transformers", "diffusers", "gradio", "safetensors")
MOST_STEPS = 40
"""Steps that are told: the first and the last, and some between."""
MOST_LOG = 20_000
"""Characters of the log's end."""
TAIL = r"[^\s\"'<>|:*?,;()\[\]{}]*"
PATH = re.compile(rf"(?:\b[A-Za-z]:(?:\\\\|\\|/)|\\\\+(?=\w)|(?<![\w.<>/~])~?/(?=[\w.])){TAIL}")
"""A path with a drive, of another machine, or from the root; of one with blanks, the piece before the first."""
PLACE = re.compile(rf"(<\w+>)([\\/]{TAIL})")
"""Behind a known folder."""
KEPT = re.compile(r"(?:^|[\\/])((?:lora_lab|site-packages|modules|extensions-builtin)[\\/].*)$")


def write(folder: Path) -> Path | None:
    """Write the report into the run's folder; None when it cannot be written, which does no harm."""
    try:
        (folder / FILE).write_text(text(folder), encoding="utf-8")
    except OSError:
        return None
    return folder / FILE


def text(folder: Path) -> str:
    """The report of a run's folder, from what there is of it."""
    settings = _settings(folder)
    places = _places(folder, settings)
    lines = [f"run {folder.name}", versions(), "", "settings", json.dumps(settings, indent=1, ensure_ascii=False)]
    lines += ["", "events", *_events(folder / "events.jsonl")]
    if log := _read(folder / "log.txt"):
        lines += ["", "log", log[-MOST_LOG:]]
    return without_paths("\n".join(lines) + "\n", places)


def versions() -> str:
    """Of what runs here."""
    there = (f"{name} {getattr(sys.modules.get(name), '__version__', '-')}" for name in MODULES)
    machine = f"{platform.system()} {platform.release()} {platform.machine()}"
    return f"lora_lab {__version__}, Python {sys.version.split()[0]}, {machine}, {', '.join(there)}"


def without_paths(told: str, places: Mapping[str, str]) -> str:
    """The text with a person's paths taken out.

    Args:
        told: any text.
        places: path -> the word for it; the longest first, whatever their order here.
    """
    for path, word in sorted(places.items(), key=lambda item: -len(item[0])):
        for form in {path, path.replace("\\", "\\\\"), path.replace("\\", "/")}:
            told = told.replace(form, word)
    told = PATH.sub(lambda match: _short("<path>", match[0]), told)
    return PLACE.sub(lambda match: _short(match[1], match[2]), told)


def _short(place: str, path: str) -> str:
    """What is kept of a path below a place."""
    inner = KEPT.search(path)
    if inner is not None:
        return ".../" + inner[1].replace("\\", "/")
    last = re.split(r"[\\/]+", path.rstrip("\\/"))[-1]
    return f"{place}/{last}" if last else place


def _settings(folder: Path) -> dict[str, Any]:
    from lora_lab.training.settings import settings_file

    try:
        return settings_file.read(folder / "settings.json").settings.to_mapping(changed_only=True)
    except LoraLabError:
        return {}


def _places(folder: Path, settings: Mapping[str, Any]) -> dict[str, str]:
    """Paths that are known, with the word for each."""
    found = {str(folder): "<run>", str(folder.parent.parent): "<data>", str(Path.home()): "<home>"}
    for name, value in settings.items():
        values = value if isinstance(value, list) else [value]
        for one in values:
            if isinstance(one, str) and len(one) > 3 and re.match(r"[\\/~]|[A-Za-z]:[\\/]", one):
                found[one] = f"<{name}>"
    return {path: word for path, word in found.items() if len(path) > 3}


def _events(path: Path) -> Iterator[str]:
    """The lines of the events, steps thinned out."""
    lines = _read(path).splitlines()
    steps = [number for number, line in enumerate(lines) if '"StepDone"' in line[:60]]
    left_out = set(steps) - {*steps[:: max(1, len(steps) // MOST_STEPS)], *steps[-3:]}
    yield from (line for number, line in enumerate(lines) if number not in left_out)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
