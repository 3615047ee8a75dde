"""Axes for the webui's own X/Y/Z plot: a preset, blocks, the strength, or the file of a prompt's first LoRA.

Its script keeps them in a list of `AxisOption`, which extensions add to before the page is built.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from modules import scripts

from lora_lab.errors import SettingsError
from lora_lab.host.webui_checkpoint import family_of, live_model
from lora_lab.host.webui_restore import lora_extension

if TYPE_CHECKING:
    from lora_lab.families import Family

SCRIPT = "xyz_grid.py"
PREFIX = "[LoRA Lab] "


class PromptAxes(Protocol):
    """What the axes do to a prompt (`network.prompt_axes.PlotAxes`)."""

    def changed(self, prompt: str, axis: str, value: str) -> str: ...
    def check(self, prompt: str, family: Family | None) -> str: ...
    def presets(self, family: Family | None) -> list[str]: ...


def add_axes(axes: PromptAxes) -> None:
    """Add ours to the plot, once for each time that its script is imported."""
    plot = next((data.module for data in scripts.scripts_data if Path(data.path).name == SCRIPT), None)
    if plot is None or any(option.label.startswith(PREFIX) for option in plot.axis_options):
        return
    choices: dict[str, Callable[[], list[str]] | None] = {
        "preset": lambda: axes.presets(_family()), "block": None, "strength": None, "snapshot": _files
    }  # fmt: skip
    for axis, choose in choices.items():
        plot.axis_options.append(
            plot.AxisOption(
                PREFIX + axis.capitalize(), str, _Apply(axes, axis), format_value=_label,
                confirm=_Confirm(axes, axis), choices=choose,
            )
        )  # fmt: skip


class _Apply:
    """Change the prompts of a cell."""

    def __init__(self, axes: PromptAxes, axis: str) -> None:
        self._axes, self._axis = axes, axis

    def __call__(self, p: Any, value: str, values: Sequence[str]) -> None:  # noqa: ANN401
        p.prompt = self._axes.changed(p.prompt, self._axis, value)
        if "<lo" in (getattr(p, "hr_prompt", "") or ""):
            p.hr_prompt = self._axes.changed(p.hr_prompt, self._axis, value)


class _Confirm:
    """Say what is wrong before the first picture."""

    def __init__(self, axes: PromptAxes, axis: str) -> None:
        self._axes, self._axis = axes, axis

    def __call__(self, p: Any, values: Sequence[str]) -> None:  # noqa: ANN401
        for value in values:
            name = self._axes.check(self._axes.changed(p.prompt, self._axis, value), _family())
            if self._axis == "snapshot" and name not in _files():
                raise SettingsError(f"there is no LoRA named {name!r}", remedy="choose one of the list")


def _label(_: Any, option: Any, value: str) -> str:  # noqa: ANN401
    return f"{option.label.removeprefix(PREFIX)}: {value}"


def _family() -> Family | None:
    sd_model = live_model()
    return None if sd_model is None else family_of(sd_model)


def _files() -> list[str]:
    networks = lora_extension()
    return [] if networks is None else sorted(networks.available_networks, key=str.casefold)
