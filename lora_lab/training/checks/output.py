"""What is trained on, the name of the LoRA, and the pictures on the way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lora_lab.errors import SettingsError
from lora_lab.training.previews import parse_prompts
from lora_lab.training.settings import TrainSettings

FORBIDDEN_IN_NAMES = frozenset('<>:"/\\|?*')
DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{name}{n}" for name in ("COM", "LPT") for n in range(1, 10))}
"""What Windows takes for a device, with any ending."""


def check(settings: TrainSettings) -> None:
    """Pictures and a name are needed; the prompts must be readable."""
    if not settings.train_data_dir and not settings.dataset_config and not settings.in_json:
        raise SettingsError("no pictures are chosen", remedy="set train_data_dir to the folder of your dataset")
    if not settings.output_name:
        raise SettingsError("the LoRA has no name", remedy="set output_name")
    check_name(settings.output_name)
    parse_prompts(settings)


def check_name(name: str) -> None:
    """The name of a file, without its ending, that every system takes.

    Raises:
        SettingsError: it is none.
    """
    if name.split(".")[0].upper() in DEVICES:
        raise SettingsError(f"output_name {name!r} is a device for Windows", remedy="choose another name")
    bad = sorted(c for c in set(name) if c in FORBIDDEN_IN_NAMES or ord(c) < 32)
    if bad or name != Path(name).name or name.strip(". ") != name:
        remedy = "use letters, digits, - and _"
        raise SettingsError(f"output_name {name!r} is no file name on every system", remedy=remedy)


def warnings(s: TrainSettings) -> Iterator[str]:
    """Pictures on the way that nobody makes."""
    often = s.sample_every_n_epochs or s.save_every_n_epochs or s.sample_every_n_steps
    if s.sample_prompts.strip() and not often:
        yield "sample_prompts are drawn at the end only, since neither sample_ nor save_every_n_epochs is set"
    if s.sample_every_n_epochs and s.sample_every_n_steps:
        yield "sample_every_n_steps has no effect, since sample_every_n_epochs is set"
    if not s.sample_prompts.strip() and (s.sample_every_n_epochs or s.sample_every_n_steps or s.sample_at_first):
        yield "no pictures are made on the way, since sample_prompts is empty"
