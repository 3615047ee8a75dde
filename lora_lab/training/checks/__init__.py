"""Settings that do not go together, or have no effect together: refused or warned of before the start. No torch.

Each file looks at one part of the settings and has `check(settings)`, which raises, and `warnings(settings)`, which
yields sentences; it is named in `PARTS`. What depends on the checkpoint has functions of its own. A sentence of any of
them is without its full stop, which `warnings` here adds to all.
"""

from __future__ import annotations

from lora_lab.families import Family, PredictionType
from lora_lab.training.checks import blocks, captions, learning, memory, network, noise, output, pictures, start
from lora_lab.training.checks.family import family_warnings
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


def warnings(
    settings: TrainSettings, family: Family | None = None, prediction: PredictionType | None = None
) -> tuple[str, ...]:
    """Sentences about what is unwise, or has no effect in this combination.

    Args:
        settings: of the run.
        family: of the checkpoint; None: nothing is said that depends on it.
        prediction: what it predicts; None likewise.
    """
    found = [text for part in PARTS for text in part.warnings(settings)]
    if family is not None:
        found += [*family_warnings(settings, family), *blocks.block_warnings(settings, family)]
    if prediction is not None:
        found += noise.prediction_warnings(settings, prediction)
    return tuple(f"{text}." for text in found)
