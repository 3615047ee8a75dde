"""Where the project of a dataset is kept: probabilities, history, settings. Never beside the pictures."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

PROJECTS = "projects"


def project_folder(dataset: Path, data_dir: Path) -> Path:
    """A folder for a dataset, named after it and told apart by its whole path. It is not made here.

    Args:
        dataset: the folder that a person opened.
        data_dir: the host's data folder.
    """
    place = os.fsencode(dataset.resolve())
    word = re.sub(r"[^\w-]+", "_", dataset.resolve().name)[:40] or "dataset"
    return data_dir / PROJECTS / f"{word}-{hashlib.sha256(place).hexdigest()[:12]}"
