"""What the checks know of a picture's pixels: a few numbers, measured once in threads and kept. numpy, no torch."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_lab.dataset import pictures
from lora_lab.dataset.problems import Problem, told

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    Grey = NDArray[np.float32]

LONGEST = 384
"""Pixels of the longest side at which pictures are measured."""
VERSION = 1
"""Of the numbers' meaning; kept ones of another version are measured anew."""
THREADS = min(8, os.cpu_count() or 1)
KEPT = "measures.json"

Listen = Callable[[str, int, int], None]
"""Stage, done, total; raises `Interrupted` to stop."""


@dataclass(frozen=True)
class Measures:
    """One picture's numbers."""

    fingerprint: str
    """128 bits as hex: is each cell of a 9 x 8 (and an 8 x 9) grey picture brighter than the next? (dHash)."""
    colours: tuple[int, ...]
    """Mean colours of 4 x 4 fields, RGB 0..255: two pictures with one fingerprint may differ in them."""
    sharpness: float
    """Strongest edges (99.5 % of the Laplacian) over the range of brightness; about 0.3 and more is sharp."""
    brightness: float
    """Mean, 0..255."""
    contrast: float
    """Standard deviation of the brightness, 0..127."""
    bars: tuple[float, float, float, float]
    """Share of the height or width that is a bar of one colour: left, top, right, bottom."""


def measure_all(paths: Sequence[Path], folder: Path | None, listen: Listen | None = None) -> dict[Path, Measures]:
    """Measure pictures, or read what was kept of those that have not changed. Broken ones are left out.

    Args:
        paths: pictures that `read_header` found good.
        folder: where the numbers are kept; None keeps none.
        listen: told of progress; what it raises ends the work, and what is measured stays.
    """
    kept = _read(folder)
    marks = {path: _mark(path) for path in paths}
    found = {path: kept[mark] for path, mark in marks.items() if mark in kept}
    fresh = [path for path in paths if path not in found]
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            for done, (path, measured) in enumerate(zip(fresh, pool.map(_measured, fresh), strict=True), 1):
                if measured is not None:
                    found[path] = measured
                if listen is not None and (done % 16 == 0 or done == len(fresh)):
                    listen("looking at the pictures", done, len(fresh))
    finally:
        if fresh and folder is not None:
            _write(folder, kept | {marks[path]: measured for path, measured in found.items()})
    return found


def measure(picture: Image.Image) -> Measures:
    """The numbers of a picture in RGB, as `pictures.small` gives it."""
    grey = np.asarray(picture.convert("L"), np.float32)
    low, high = np.percentile(grey, (1, 99))
    return Measures(
        fingerprint=_fingerprint(picture),
        colours=tuple(int(v) for v in np.asarray(picture.resize((4, 4), BOX)).reshape(-1)),
        sharpness=round(float(np.percentile(_laplacian(grey), 99.5) / max(8.0, float(high - low))), 4),
        brightness=round(float(grey.mean()), 1),
        contrast=round(float(grey.std()), 1),
        bars=_bars(np.asarray(picture, np.int16)),
    )


BOX = 4
"""Pillow's area average; its name moved between versions."""


def _measured(path: Path) -> Measures | None:
    try:
        return measure(pictures.small(path, LONGEST))
    except OSError:
        return None


def _fingerprint(picture: Image.Image) -> str:
    wide = np.asarray(picture.convert("L").resize((9, 8), BOX), np.int16)
    high = np.asarray(picture.convert("L").resize((8, 9), BOX), np.int16)
    bits = np.concatenate([(np.diff(wide, axis=1) > 0).reshape(-1), (np.diff(high, axis=0) > 0).reshape(-1)])
    return np.packbits(bits).tobytes().hex()


def _laplacian(grey: Grey) -> Grey:
    """Absolute value of the four-neighbour Laplacian, without the border; a tiny picture has none."""
    if min(grey.shape) < 3:
        return np.zeros(1, np.float32)
    inner = 4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    found: Grey = np.abs(inner) / 4
    return found


def _bars(rgb: NDArray[np.int16]) -> tuple[float, float, float, float]:
    """Left, top, right, bottom."""
    turned = rgb.transpose(1, 0, 2)
    left, right = _bar(turned), _bar(turned[::-1])
    return left, _bar(rgb), right, _bar(rgb[::-1])


def _bar(rows: NDArray[np.int16]) -> float:
    """Share of the rows, from the first on, that are a bar: of one colour, and ended by an edge along the whole of it.

    A plain background is of one colour too, but what ends it is the subject, which is narrower than the picture.
    """
    colour = np.median(rows[0], axis=0)
    away = np.abs(rows - colour).max(axis=2)
    plain = (away <= 6).mean(axis=1) >= 0.99
    count = int(len(rows) if plain.all() else np.argmin(plain))
    if count in (0, len(rows)):
        return 0.0
    # JPEG softens the edge over a few rows.
    beyond = away[min(count + 2, len(rows) - 1)]
    return round(count / len(rows), 3) if float((beyond > 12).mean()) >= 0.85 else 0.0


def _mark(path: Path) -> str:
    """Changes with the file."""
    try:
        about = path.stat()
    except OSError:
        return ""
    return f"{about.st_size}-{about.st_mtime_ns}-{told(path.absolute())}"


def _read(folder: Path | None) -> dict[str, Measures]:
    if folder is None:
        return {}
    try:
        values: Any = json.loads((folder / KEPT).read_text(encoding="utf-8"))
        if values["version"] != VERSION:
            return {}
        return {mark: _restored(numbers) for mark, numbers in values["pictures"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}  # a cache: what cannot be read is measured again


def _restored(numbers: dict[str, Any]) -> Measures:
    left, top, right, bottom = numbers["bars"]
    return Measures(**{**numbers, "colours": tuple(numbers["colours"]), "bars": (left, top, right, bottom)})


def _write(folder: Path, kept: dict[str, Measures]) -> None:
    values = {"version": VERSION, "pictures": {mark: asdict(numbers) for mark, numbers in kept.items() if mark}}
    part = folder / f".{KEPT}.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(values), encoding="utf-8")
        os.replace(part, folder / KEPT)
    except OSError:
        return  # only slower next time


def unreadable(paths: Sequence[Path], measured: dict[Path, Measures]) -> list[Problem]:
    """Pictures whose header is good and whose pixels are not."""
    remedy = "replace it, or take it out of the folder"
    why = "its pixels cannot be decoded"
    return [Problem(told(p), "broken-picture", why, remedy, "error") for p in paths if p not in measured]
