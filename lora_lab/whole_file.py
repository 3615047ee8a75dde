"""Text files of ours, written whole or not at all. No torch."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from lora_lab.errors import OutputError


def write_whole(path: Path, text: str, what: str, *, make_folder: bool = True) -> None:
    """Write `text` as UTF-8 under another name, have it on the disk, and rename it.

    Args:
        path: the file; one that is there is replaced.
        text: line ends are kept as they are.
        what: what cannot be written, for the sentence of an error: "the recipe".
        make_folder: make the folder where it is missing; a place that a person typed should rather be an error.

    Raises:
        OutputError: no right, no room, a folder of that name; what was there is untouched, and nothing is left over.
    """
    part = path.with_name(f".{path.name[:80]}.{os.getpid()}.part")
    try:
        if make_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        remedy = "check the folder's rights and the room on the disk, or choose another folder"
        raise OutputError(f"{what} cannot be written ({error.strerror or error})", file=path, remedy=remedy) from error
