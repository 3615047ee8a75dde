"""The word that calls what a LoRA was trained on, read off its captions."""

from __future__ import annotations

from pathlib import Path

from lora_lab.dataset.captions import split_tags
from lora_lab.dataset.folders import read_root
from lora_lab.errors import DatasetError
from lora_lab.training.settings import TrainSettings


def trigger_of(settings: TrainSettings) -> str:
    """The first tag of all captions if it is the same everywhere (a folder's name stands in for missing ones), else none.

    A dataset of several concepts has several triggers: then none is proposed.
    """
    if not settings.train_data_dir:
        return ""
    try:
        subsets, _ = read_root(Path(settings.train_data_dir), settings.caption_extension)
    except DatasetError:
        return ""  # moved away since the run began
    captions = [settings.caption_prefix + " " + p.caption for subset in subsets for p in subset.pictures]
    first = {next(iter(split_tags(caption)), "") for caption in captions}
    return first.pop() if len(first) == 1 else ""
