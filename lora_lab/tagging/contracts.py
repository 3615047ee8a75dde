"""What a tagger's net wants to be fed, read from its files: where they are, layout, side, range of the numbers.

    list beside the model   input                           output          source
    selected_tags.csv       (b, side, side, 3) BGR 0..255   probabilities   cards of SmilingWolf's wd taggers
    tag_mapping.json        (b, 3, side, side) BGR -1..1    logits          how kohya's tagging script feeds them

A csv beside a net in the other layout is fed the same numbers in that layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_lab.tagging.tags import TaggerError

MODEL, TAGS = "model.onnx", "selected_tags.csv"
LISTS = (TAGS, "tags-selected.csv", "tag_mapping.json")
"""Names of lists of tags, the usual one first."""


@dataclass(frozen=True)
class Contract:
    """How pixels become the net's input, and its output probabilities."""

    side: int
    """Of the square input in pixels."""
    channels_first: bool
    """(b, 3, side, side) instead of (b, side, side, 3)."""
    scale: float
    shift: float
    """A pixel 0..255 becomes ``pixel * scale + shift``."""
    logits: bool
    """Does the output still need a sigmoid?"""
    batch: int | None
    """The only batch size that the net takes; None for any."""


def find_files(path: Path) -> tuple[Path, Path]:
    """The model and the list of tags of a tagger.

    Args:
        path: a folder with both, or an ``.onnx`` file with a list beside it, which may have the same name.

    Raises:
        TaggerError: one of them is missing, or the folder cannot be read.
    """
    try:
        if path.suffix.lower() == ".onnx" and path.is_file():
            return path, _list_beside(path)
        models = sorted(p for p in path.iterdir() if p.suffix.lower() == ".onnx" and p.is_file())
    except OSError as error:
        what = "there is no such folder" if not path.exists() else f"the folder cannot be read ({error.strerror})"
        raise TaggerError(what, file=path, remedy="choose the folder of a WD tagger") from error
    usual = [p for p in models if p.name == MODEL] or models
    if len(usual) > 1:
        raise TaggerError(f"there are {len(usual)} models", file=path, remedy="choose one of the .onnx files") from None
    if not usual:
        what = f"there is no {MODEL}"
        raise TaggerError(what, file=path, remedy="choose the folder of a WD tagger, or download it again")
    return usual[0], _list_beside(usual[0])


def _list_beside(model: Path) -> Path:
    names = [model.stem + ".csv", *LISTS]
    found = next((model.with_name(name) for name in names if model.with_name(name).is_file()), None)
    if found is None:
        raise TaggerError(f"there is no {TAGS} beside the model", file=model, remedy="download it again")
    return found


def read_contract(inputs: Sequence[Any], model: Path, tags: Path) -> Contract:
    """The contract of a session.

    Args:
        inputs: of the session, with `shape`.
        model: for the error.
        tags: the list of tags, whose kind tells the range of the numbers.

    Raises:
        TaggerError: it is no tagger of these kinds.
    """
    shapes = [tuple(i.shape) for i in inputs]
    shape: tuple[Any, ...] = shapes[0] if len(shapes) == 1 and len(shapes[0]) == 4 else (None,) * 4
    for channels_first, sides in ((False, shape[1:3]), (True, shape[2:4])):
        channels = shape[1:2] if channels_first else shape[3:4]
        if channels == (3,) and isinstance(sides[0], int) and sides[0] == sides[1] > 0:
            mapped = tags.suffix.lower() == ".json"
            scale, shift = (1 / 127.5, -1.0) if mapped else (1.0, 0.0)
            batch = shape[0] if isinstance(shape[0], int) and shape[0] > 0 else None
            return Contract(sides[0], channels_first, scale, shift, mapped, batch)
    remedy = "take one whose input is (batch, side, side, 3), such as the wd taggers"
    raise TaggerError(f"the model is no WD tagger, its inputs are {shapes}", file=model, remedy=remedy)
