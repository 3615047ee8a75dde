"""Finished pictures on the disk, so that a grid goes on where it was stopped and a wider one makes only what is new."""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image, PngImagePlugin

from lora_lab.errors import OutputError

PARAMETERS = "parameters"
"""The PNG text in which the webui keeps the infotext."""


class Store:
    """A folder of pictures by key."""

    def __init__(self, folder: Path) -> None:
        """
        Raises:
            OutputError: the folder cannot be made.
        """
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            what = f"the folder for the pictures cannot be made ({error.strerror})"
            raise OutputError(what, file=folder, remedy="choose another one") from error

    def path(self, key: str) -> Path:
        """Where a picture is, or would be."""
        return self.folder / f"{key}.png"

    def load(self, key: str) -> tuple[Image.Image, str] | None:
        """The picture and its infotext; None where there is none, or none that is whole."""
        try:
            with Image.open(self.path(key)) as file:
                file.load()
                return file.convert("RGB"), str(file.info.get(PARAMETERS, ""))
        except (OSError, SyntaxError, ValueError):
            return None

    def save(self, key: str, image: Image.Image, infotext: str) -> Path:
        """Write it whole or not at all.

        Raises:
            OutputError: the disk is full, or the folder is gone.
        """
        path = self.path(key)
        write_png(image, path, infotext)
        return path


def write_png(image: Image.Image, path: Path, infotext: str) -> None:
    """A PNG with the infotext inside, written whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    text = PngImagePlugin.PngInfo()
    text.add_text(PARAMETERS, infotext)
    half = path.with_name(f"{path.name}.part")
    try:
        image.save(half, format="PNG", pnginfo=text)
        os.replace(half, path)
    except OSError as error:
        half.unlink(missing_ok=True)
        what = f"the picture cannot be written ({error.strerror or error})"
        raise OutputError(what, file=path, remedy="make room, or choose another folder") from error


def file_state(path: Path) -> str:
    """What tells two versions of a file apart; empty when it is gone."""
    try:
        state = path.stat()
    except OSError:
        return ""
    return f"{path.resolve()} {state.st_size} {state.st_mtime_ns}"
