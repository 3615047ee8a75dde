"""Lists of test prompts under a name, to be used again: one file of ours. No torch."""

from __future__ import annotations

import json
from pathlib import Path

from lora_lab.errors import SettingsError
from lora_lab.whole_file import write_whole

FILE = "prompt_lists.json"
LARGEST = 1 << 20
"""Bytes of the file."""


def load(data_dir: Path) -> dict[str, str]:
    """Name -> prompts, one a line; none where nothing was saved.

    Raises:
        SettingsError: the file is damaged.
    """
    path = data_dir / FILE
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError("too large")
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): str(text) for name, text in found.items()}
    except (OSError, UnicodeDecodeError, ValueError, AttributeError, RecursionError) as error:
        remedy = "mend it, or move it away to begin anew"
        raise SettingsError("the lists of prompts are damaged", file=path, remedy=remedy) from error


def save(name: str, prompts: str, data_dir: Path) -> None:
    """Keep a list; an empty one is forgotten.

    Raises:
        SettingsError: it has no name, or the file is damaged.
        OutputError: it cannot be written.
    """
    if not name.strip():
        raise SettingsError("the list of prompts has no name", remedy="give it one")
    lists = {key: text for key, text in load(data_dir).items() if key != name.strip()}
    if prompts.strip():
        lists[name.strip()] = prompts.strip()
    write_whole(data_dir / FILE, json.dumps(lists, ensure_ascii=False, indent=1), "the lists of prompts")
