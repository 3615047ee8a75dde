"""Which host: the one place where one of the two is imported."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lora_lab.families import PredictionType
    from lora_lab.host.base import Host


def webui_host() -> Host:
    """The running webui, always the same host; only inside its process."""
    from lora_lab.host.webui import host

    return host()


def standalone_host(
    checkpoint: Path | None = None, *, data_dir: Path | None = None, lora_dir: Path | None = None, clip_skip: int = 1,
    prediction_type: PredictionType | None = None,
) -> Host:  # fmt: skip
    """A checkpoint file as host; None takes the demo checkpoint. The other arguments: see `StandaloneHost`.

    Raises:
        CheckpointError: it cannot be loaded, or a package that standalone needs is missing.
    """
    from lora_lab.errors import CheckpointError

    try:
        from lora_lab.host import standalone
    except ImportError as error:
        remedy = "pip install 'lora_lab[standalone]'"
        raise CheckpointError(f"standalone needs the package {error.name}", remedy=remedy) from error
    from lora_lab.demo import assets

    tokenizer = assets.tokenizer_dir() if checkpoint is None else None
    return standalone.StandaloneHost(
        checkpoint or assets.checkpoint_path(),
        data_dir=data_dir or default_data_dir(),
        lora_dir=lora_dir,
        tokenizer=tokenizer,
        clip_skip=clip_skip,
        prediction_type=prediction_type,
    )


def default_data_dir() -> Path:
    """Where projects, runs and caches go without a webui: ``LORA_LAB_DATA``, or ``lora-lab-data`` where we started."""
    return Path(os.environ.get("LORA_LAB_DATA") or "lora-lab-data").resolve()
