"""Preview prompts: kohya's lines of ``text --n negative --w 512 --d 1`` to requests for the host. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from lora_lab.errors import SettingsError

if TYPE_CHECKING:
    from lora_lab.training.settings import TrainSettings

SAMPLERS = MappingProxyType(
    {"ddim": "DDIM", "euler": "Euler", "euler_a": "Euler a", "dpmsolver++": "DPM++ 2M", "unipc": "UniPC"}
)
"""kohya's names to the webui's."""


@dataclass(frozen=True)
class PreviewPrompt:
    """One line of sample_prompts."""

    prompt: str
    negative: str = ""
    width: int = 512
    height: int = 512
    seed: int = 1
    steps: int = 20
    cfg_scale: float = 7.0
    sampler: str = "Euler a"


def parse_prompts(settings: TrainSettings) -> tuple[PreviewPrompt, ...]:
    """The lines of sample_prompts; empty lines and those that begin with # are left out.

    Raises:
        SettingsError: an unknown ``--`` option, or a value that is no number.
    """
    lines = (line.strip() for line in settings.sample_prompts.splitlines())
    return tuple(parse_line(line, settings) for line in lines if line and not line.startswith("#"))


def parse_line(line: str, settings: TrainSettings) -> PreviewPrompt:
    """One line: the prompt, then options ``--n`` negative, ``--w --h`` size, ``--d`` seed, ``--s`` steps, ``--l`` cfg,
    ``--ss`` sampler."""
    prompt, *options = f" {line}".split(" --")
    words: dict[str, str] = {}
    for option in options:
        name, _, value = option.partition(" ")
        words[name] = value.strip()
    wrong = sorted(set(words) - {"n", "w", "h", "d", "s", "l", "ss"})
    if wrong:
        remedy = "use --n, --w, --h, --d, --s, --l or --ss"
        raise SettingsError(f"sample_prompts has an option --{wrong[0]}", remedy=remedy)
    width, height = settings.resolution
    sampler = words.get("ss", settings.sample_sampler)
    if sampler not in SAMPLERS:
        raise SettingsError(f"sample_prompts asks for the sampler {sampler!r}", remedy=f"use {', '.join(SAMPLERS)}")
    return PreviewPrompt(
        prompt=prompt.strip(),
        negative=words.get("n", ""),
        width=_side(words, "w", width),
        height=_side(words, "h", height),
        seed=_whole(words, "d", settings.seed or 1, 0),
        steps=_whole(words, "s", 20, 1),
        cfg_scale=_number(words, "l", 7.0),
        sampler=SAMPLERS[sampler],
    )


def _number(words: dict[str, str], name: str, default: float) -> float:
    try:
        return float(words.get(name, default))
    except ValueError:
        raise SettingsError(f"sample_prompts has --{name} {words[name]!r}", remedy="give a number") from None


def _whole(words: dict[str, str], name: str, default: int, low: int) -> int:
    number = _number(words, name, default)
    if not number.is_integer() or number < low:
        raise SettingsError(f"sample_prompts has --{name} {words[name]!r}", remedy=f"give a whole number from {low}")
    return int(number)


def _side(words: dict[str, str], name: str, default: int) -> int:
    """Multiples of 8, rounded down as the webui does."""
    return max(8, _whole(words, name, default, 8) // 8 * 8)
