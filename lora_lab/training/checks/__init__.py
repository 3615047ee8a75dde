"""Settings that do not go together, or have no effect together: refused or warned of before the start. No torch.

Each file looks at one part of the settings and has `check(settings)`, which raises, and `warnings(settings)`, which
yields sentences without their full stop; it is named in `PARTS`.
"""

from __future__ import annotations

from lora_lab.training.checks import blocks, captions, learning, memory, network, noise, output, pictures, start
from lora_lab.training.checks.output import check_name
from lora_lab.training.settings import TrainSettings

__all__ = ["check", "check_name", "warnings"]

PARTS = (output, network, start, learning, blocks, memory, noise, pictures, captions)


def check(settings: TrainSettings) -> None:
    """Refuse what cannot be run as asked. The dataset and the folders are looked at by others.

    Raises:
        SettingsError: the first thing that is wrong, in one sentence.
    """
    for part in PARTS:
        part.check(settings)


def warnings(settings: TrainSettings) -> tuple[str, ...]:
    """Sentences about what is unwise, or has no effect in this combination."""
    return tuple(f"{text}." for part in PARTS for text in part.warnings(settings))
