"""Widgets from the table of settings, and the way back: what is shown is what is read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from lora_lab.training.settings import TrainSettings
from lora_lab.training.settings.fields import FieldSpec
from lora_lab.ui.words import number, tag


@dataclass(frozen=True)
class Fields:
    """The widgets of a form, by the name of their setting."""

    widgets: dict[str, Any]

    @property
    def all(self) -> set[Any]:
        """As a handler's inputs."""
        return set(self.widgets.values())

    def raw(self, values: Mapping[Any, Any]) -> dict[str, Any]:
        """Name -> what `TrainSettings.from_mapping` reads, from what the page holds."""
        return {name: from_widget(TrainSettings.spec(name), values[w]) for name, w in self.widgets.items()}

    def show(self, settings: TrainSettings, only: Iterable[str] | None = None) -> dict[Any, Any]:
        """Widget -> its new value; the inverse of `raw`.

        Args:
            settings: to be shown.
            only: names of the settings to show, all when None.
        """
        names = self.widgets if only is None else only
        return {self.widgets[n]: to_widget(TrainSettings.spec(n), getattr(settings, n)) for n in names}


def build_fields(
    panel: str, names: Sequence[str], columns: int = 3, *, start: TrainSettings | None = None
) -> Fields:
    """Widgets for these settings, `columns` in a row; switches and long texts keep rows of their own.

    Args:
        panel: for the elem_ids, ``lora_lab_<panel>_<setting>``.
        names: settings in the order of the form.
        columns: at full width; a narrow window wraps them (style.css).
        start: what they begin with; None for the defaults.
    """
    begin = start or TrainSettings()
    widgets: dict[str, Any] = {}
    specs = [TrainSettings.spec(name) for name in names]
    for row in rows(specs, columns):
        with gr.Row(elem_classes=["lora-lab-row", f"lora-lab-{shape(row[0])}"]):
            widgets |= {spec.name: widget(panel, spec, getattr(begin, spec.name)) for spec in row}
    return Fields(widgets)


def shape(spec: FieldSpec) -> str:
    """Fields of one shape stand in a row together: `wide`, `switch` or `short`."""
    if spec.kind in ("folder", "lines", "paths"):
        return "wide"
    return "switch" if spec.kind == "bool" else "short"


def rows(specs: Sequence[FieldSpec], columns: int) -> list[list[FieldSpec]]:
    """Cut a list of settings into rows of one shape: wide ones alone, then short ones, then switches."""
    found: list[list[FieldSpec]] = []
    for kind, width in (("wide", 1), ("short", columns), ("switch", columns)):
        same = [spec for spec in specs if shape(spec) == kind]
        found += [same[i : i + width] for i in range(0, len(same), width)]
    return found


def widget(panel: str, spec: FieldSpec, value: Any) -> Any:  # noqa: ANN401 - a gradio component
    """The widget of one setting.

    Numbers are typed into text boxes: an empty one has a meaning of its own, 1e-4 stays 1e-4, and a wrong one is told
    in the words of the settings table instead of being rounded.
    """
    given = {
        "label": spec.name,
        "info": spec.help,
        "value": to_widget(spec, value),
        "elem_id": f"lora_lab_{panel}_{spec.name}",
        "elem_classes": ["lora-lab-field", f"lora-lab-kind-{spec.kind}"],
        "interactive": True,
    }
    if spec.kind == "bool":
        made = gr.Checkbox(**given)
    elif spec.choices:
        made = gr.Dropdown(choices=list(spec.choices), allow_custom_value=spec.open, **given)
    elif spec.kind in ("lines", "list", "paths"):
        made = gr.Textbox(lines=3 if spec.kind == "lines" else 1, max_lines=12, **given)
    else:
        made = gr.Textbox(max_lines=1, placeholder=placeholder(spec), **given)
    made.do_not_save_to_config = True
    return made


def placeholder(spec: FieldSpec) -> str:
    """What an empty box is."""
    if spec.kind == "folder":
        return "path of a folder"
    return "empty" if spec.optional else ""


def hints(panel: str, names: Iterable[str], tips: Mapping[str, str] | None = None) -> str:
    """A hidden element from which our JavaScript takes the tooltips.

    Args:
        panel: of the settings' elem_ids.
        names: settings: their unit, cost, and how kohya's default differs.
        tips: for widgets that are no settings, by elem_id without ``lora_lab_`` (see `lora_lab.ui.tips`).
    """
    texts = {f"lora_lab_{panel}_{name}": TrainSettings.spec(name).text for name in names}
    texts |= {f"lora_lab_{name}": text for name, text in (tips or {}).items()}
    return tag("span", "", "lora-lab-hints", data_hints=json.dumps(texts, ensure_ascii=False))


def to_widget(spec: FieldSpec, value: Any) -> Any:  # noqa: ANN401 - a setting's value
    """A setting's value as its widget shows it."""
    if spec.kind == "bool":
        return bool(value)
    if value is None:
        return ""
    if spec.kind == "size":
        return str(value[0]) if value[0] == value[1] else f"{value[0]},{value[1]}"
    if spec.kind in ("list", "paths"):
        return "\n".join(value)
    if spec.kind in ("int", "float"):
        return number(value)
    return str(value)


def from_widget(spec: FieldSpec, shown: Any) -> Any:  # noqa: ANN401 - a widget's value
    """What a widget holds, as `values.parse` reads it."""
    if spec.kind == "list" and isinstance(shown, str):
        # One option per line; also several in a line, where each begins with name=.
        return [piece for line in shown.splitlines() for piece in re.split(r"\s+(?=\w+=)", line.strip()) if piece]
    if spec.kind == "folder" and isinstance(shown, str):
        return shown.strip().strip('"')
    return "" if shown is None else shown
