"""The word that calls what a LoRA was trained on, read off its captions."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from lora_lab.dataset.captions import split_tags
from lora_lab.dataset.folders import read_root
from lora_lab.errors import DatasetError
from lora_lab.training.settings import TrainSettings


def trigger_of(settings: TrainSettings) -> str:
    """The first tag of all captions if it is the same everywhere, else none.

    A folder's name stands in for a missing caption. A dataset of several concepts has several triggers: none is
    proposed then.
    """
    if settings.dataset_config or settings.in_json:
        return ""  # their captions are not looked for below a folder
    return _first_tag(settings.train_data_dir, settings.caption_extension, settings.caption_prefix)


@lru_cache(maxsize=32)
def _first_tag(folder: str, extension: str, prefix: str) -> str:
    """Read once: the tab asks at every step, and the captions may be many."""
    if not folder:
        return ""
    try:
        subsets, _ = read_root(Path(folder), extension)
    except DatasetError:
        return ""  # moved away since the run began
    captions = [f"{prefix} {p.caption}" for subset in subsets for p in subset.pictures]
    first = {next(iter(split_tags(caption)), "") for caption in captions}
    return first.pop() if len(first) == 1 else ""
