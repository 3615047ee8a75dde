"""Pictures and captions of the demo world as arrays, drawn once and kept in the scratch folder."""

from __future__ import annotations

import random
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lora_lab.demo import drawing, world

TAGS = [*world.vocabulary(), world.STYLE, world.CHARACTER]
"""What the tagger answers: the world's tags, then the new style and the new character."""
INDEX = {tag: i for i, tag in enumerate(TAGS)}


@dataclass(frozen=True)
class Pictures:
    """Arrays of n pictures."""

    pixels: np.ndarray
    """uint8 (n, 64, 64, 3), RGB."""
    truth: np.ndarray
    """uint8 (n, tags), 1 where `TAGS` holds."""


def _block(job: tuple[str, int, int]) -> tuple[np.ndarray, np.ndarray]:
    kind, seed, count = job
    r = random.Random(f"{kind} {seed}")
    make = world.variants()[kind]
    pixels = np.empty((count, world.PICTURE_SIZE, world.PICTURE_SIZE, 3), np.uint8)
    truth = np.zeros((count, len(TAGS)), np.uint8)
    for i in range(count):
        a = make(r)
        pixels[i] = np.asarray(drawing.draw(a, r.randrange(2**31), world.PICTURE_SIZE))
        truth[i, [INDEX[t] for t in world.tags(a)]] = 1
        truth[i, INDEX[world.CHARACTER]] = kind == "character"
    return pixels, truth


def pictures(folder: Path, kind: str, count: int, seed: int = 0) -> Pictures:
    """Draw `count` pictures of a kind (`base`, `character`, `style`), or load them if they were drawn before."""
    file = folder / f"{kind}-{seed}-{count}.npz"
    if not file.is_file():
        step = 500
        jobs = [(kind, seed * 1_000_003 + i, min(step, count - i)) for i in range(0, count, step)]
        with ProcessPoolExecutor(2) as pool:
            blocks = list(pool.map(_block, jobs))
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(file, pixels=np.concatenate([b[0] for b in blocks]), truth=np.concatenate([b[1] for b in blocks]))
    with np.load(file) as stored:
        return Pictures(stored["pixels"], stored["truth"])
