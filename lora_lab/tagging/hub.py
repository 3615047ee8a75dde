"""Taggers from the hub, when a person asks for one: size first, resumable, stopped at any moment.

huggingface_hub does the work, in a process of its own: that can be stopped (what has come stays for the next try), and
no setting of the host's own downloads is touched. The package is optional (``pip install 'lora_lab[hub]'``).
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from lora_lab.errors import Interrupted, OutputError, UserError
from lora_lab.tagging.known import FILES

ROOM_LEFT = 200_000_000
"""Bytes that a download leaves free on the disk."""
PAUSE = 0.3
"""Seconds between two looks at how much has come."""
TIMEOUT = 20
"""Seconds that the hub has to answer."""
FETCH = """
import sys
from huggingface_hub import hf_hub_download
repository, folder, *names = sys.argv[1:]
for name in names:
    hf_hub_download(repository, name, local_dir=folder)
"""
SIZES = """
import json, sys
from huggingface_hub import HfApi
info = HfApi().model_info(sys.argv[1], files_metadata=True, timeout=float(sys.argv[2]))
print(json.dumps({"sizes": {f.rfilename: f.size for f in info.siblings}}))
"""
OFFLINE = ("ConnectionError", "ConnectError", "Timeout", "OfflineMode", "LocalEntryNotFound", "Connection refused")
ABSENT = ("RepositoryNotFound", "EntryNotFound", "GatedRepo", "401 ", "404 ")


class HubError(UserError):
    """A tagger that cannot be had from the hub."""


@dataclass(frozen=True)
class Download:
    """What would be downloaded."""

    repository: str
    """``owner/name``"""
    files: tuple[str, ...]
    size: int
    """Bytes of all files together."""

    @property
    def name(self) -> str:
        """Of the folder it goes to."""
        return self.repository.rpartition("/")[2]


Listen = Callable[[int, int], None]
"""Told how many bytes are there, of how many; what it raises ends the download."""


def look_up(repository: str, files: Sequence[str] = FILES, *, stop: Callable[[], bool] | None = None) -> Download:
    """Ask the hub how large a tagger is. Nothing is downloaded.

    Args:
        repository: ``owner/name``.
        files: what is needed of it.
        stop: asked several times a second.

    Raises:
        HubError: huggingface_hub is not installed, the hub cannot be reached, or has no such files.
        Interrupted: `stop` said so.
    """
    if repository.count("/") != 1 or repository.startswith("-"):
        raise HubError(f"{repository!r} is no repository of the hub", remedy="write it as owner/name")
    answer = _process(SIZES, [repository, str(TIMEOUT)], repository, stop, None)
    sizes = json.loads(answer.strip().split("\n")[-1])["sizes"]
    missing = [name for name in files if sizes.get(name) is None]
    if missing:
        raise HubError(f"{repository} has no {missing[0]}", remedy="choose a tagger that comes as ONNX")
    return Download(repository, tuple(files), sum(int(sizes[name]) for name in files))


def download(
    wanted: Download, folder: Path, *, listen: Listen | None = None, stop: Callable[[], bool] | None = None
) -> Path:
    """Download a tagger, or go on with one that was broken off.

    Args:
        wanted: from `look_up`.
        folder: of all our taggers; the tagger gets a folder of its own in it.
        listen: called several times a second.
        stop: asked several times a second.

    Returns:
        The tagger's folder.

    Raises:
        HubError: the hub cannot be reached, or breaks off. What has come is kept.
        Interrupted: `stop` said so. What has come is kept.
        OutputError: the folder cannot be written to, or the disk has no room.
    """
    target = folder / wanted.name
    try:
        target.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(target).free
    except OSError as error:
        what = f"the tagger cannot be kept here ({error.strerror})"
        raise OutputError(what, file=target, remedy="check its rights, or choose another folder") from error
    if free < wanted.size - _bytes_in(target) + ROOM_LEFT:
        what = f"{wanted.name} has {wanted.size / 1e6:,.0f} MB and the disk {free / 1e6:,.0f} MB left"
        raise OutputError(what, file=target, remedy="make room, or take a smaller tagger")

    def told() -> None:
        if listen is not None:
            listen(min(wanted.size, _bytes_in(target)), wanted.size)

    _process(FETCH, [wanted.repository, str(target), *wanted.files], wanted.repository, stop, told)
    missing = [name for name in wanted.files if not (target / name).is_file()]
    if missing:
        raise HubError(f"{missing[0]} did not come", file=target, remedy="download it again: what has come is kept")
    told()
    return target


def _process(
    code: str, words: list[str], repository: str, stop: Callable[[], bool] | None, tick: Callable[[], None] | None
) -> str:
    """Run huggingface_hub apart; gives what it printed."""
    if importlib.util.find_spec("huggingface_hub") is None:
        remedy = "install it: pip install huggingface_hub; or put model.onnx and selected_tags.csv into a folder"
        raise HubError("downloading needs the package huggingface_hub", remedy=remedy)
    quiet = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *words], stdout=out, stderr=err, stdin=subprocess.DEVNULL,
            env={**os.environ, **quiet},
        )  # fmt: skip
        try:
            while process.poll() is None:
                if stop is not None and stop():
                    raise Interrupted("the download was stopped; what has come is kept")
                if tick is not None:
                    tick()
                time.sleep(PAUSE)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        if process.returncode:
            raise _failure(_text(err), repository)
        return _text(out)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")


def _failure(printed: str, repository: str) -> HubError:
    if any(word in printed for word in ABSENT):
        return HubError(f"the hub has no {repository} for everybody", remedy="check its name")
    again = "try again later: what has come is kept; or put model.onnx and selected_tags.csv into a folder yourself"
    if any(word in printed for word in OFFLINE):
        return HubError(f"the hub cannot be reached, so {repository} cannot be downloaded", remedy=again)
    lines = [line for line in printed.strip().split("\n") if line.strip()] or ["no reason given"]
    return HubError(f"{repository} cannot be downloaded: {lines[-1].strip().rstrip('.')}", remedy=again)


def _bytes_in(folder: Path) -> int:
    """Of all files, the unfinished ones of huggingface_hub among them."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(place, name)).st_size
            except OSError:
                continue  # it was renamed just now
    return total
