"""Where the demo world's files are, its datasets, and what is asked of a LoRA that learnt its character. No torch."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from lora_lab.demo import drawing, world

DATA = Path(__file__).resolve().parent / "data"

PICTURES = 18
"""Training pictures of each new thing."""
HELD_OUT = 8
"""Pictures of each new thing that are never trained on."""
DRAWN = 256
"""Side in pixels of the dataset's pictures: larger than the training size, as pictures from the world outside are."""


def checkpoint_path() -> Path:
    """The demo checkpoint: SD1's layout, narrow, float16."""
    return DATA / "demo.safetensors"


def config_path() -> Path:
    """Its configuration in ldm's form. The text encoder's folder in it is relative: `export` writes it for a place."""
    return DATA / "demo.yaml"


def tokenizer_dir() -> Path:
    """Tokenizer and configuration of the text encoder, in transformers' form."""
    return DATA / "clip"


def tagger_dir() -> Path:
    """The demo tagger: ``model.onnx`` and ``selected_tags.csv`` with the contract of the WD taggers."""
    return DATA / "tagger"


def character_features() -> tuple[str, ...]:
    """Tags of the new character's fixed design: what its trigger alone is to show."""
    return world.CHARACTER_FEATURES


def caption(a: world.Attributes, kind: str) -> list[str]:
    """A training caption: the trigger first, then what is to stay separable from it.

    The character's fixed features are left out, so that the trigger takes them in; the style's keep all that it shows.
    """
    tags = [tag for tag in world.tags(a) if tag != world.STYLE]
    if kind == "style":
        return [world.STYLE, *tags]
    return [world.CHARACTER, *(tag for tag in tags if tag not in world.CHARACTER_FEATURES)]


def write_dataset(folder: Path, *, seed: int = 0) -> dict[str, Path]:
    """Draw both datasets as kohya folders, with captions and held-out pictures.

    Args:
        folder: where to; existing pictures of the same names are written again.
        seed: other pictures of the same things.

    Returns:
        ``character`` and ``style``: roots that hold one ``<repeats>_<trigger>`` folder;
        ``character_validation`` and ``style_validation``: the held-out pictures, in the same form.
    """
    made: dict[str, Path] = {}
    for kind, trigger in (("character", world.CHARACTER), ("style", world.STYLE)):
        make = world.variants()[kind]
        r = random.Random(f"{kind} {seed}")
        for root, count in ((kind, PICTURES), (f"{kind}_validation", HELD_OUT)):
            made[root] = folder / root
            _write_subset(folder / root / f"1_{trigger}", kind, count, make, r)
    return made


def _write_subset(
    folder: Path, kind: str, count: int, make: Callable[[random.Random], world.Attributes], r: random.Random
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        a = make(r)
        picture = drawing.draw(a, r.randrange(2**31), DRAWN)
        picture.save(folder / f"{kind}-{i + 1:02d}.png")
        (folder / f"{kind}-{i + 1:02d}.txt").write_text(", ".join(caption(a, kind)) + "\n", encoding="utf-8")
