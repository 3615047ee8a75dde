"""The finer points of choosing tags from probabilities, a fold of auto-tagging; and how typed values are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import gradio as gr

from lora_lab.errors import SettingsError
from lora_lab.tagging.choose import Choice, Order, Ratings
from lora_lab.ui.edge import Values


@dataclass(frozen=True)
class FinerWidgets:
    """All that is read."""

    order: gr.Dropdown
    ratings: gr.Radio
    min_share: gr.Slider
    per_tag: gr.Textbox
    characters_first: gr.Checkbox
    escape: gr.Checkbox

    @property
    def all(self) -> set[Any]:
        """As a handler's inputs."""
        return {self.order, self.ratings, self.min_share, self.per_tag, self.characters_first, self.escape}

    def read(self, values: Values) -> dict[str, Any]:
        """As fields of a `Choice`.

        Raises:
            SettingsError: a threshold of a tag is no number.
        """
        return {
            "order": values[self.order], "ratings": values[self.ratings], "min_share": float(values[self.min_share]),
            "per_tag": thresholds(str(values[self.per_tag] or "")), "escape": bool(values[self.escape]),
            "characters_first": bool(values[self.characters_first]),
        }  # fmt: skip


def build() -> FinerWidgets:
    """Layout."""
    usual = Choice()
    with gr.Accordion("More about which tags", open=False, elem_id="lora_lab_autotag_finer"):
        with gr.Row():
            order = gr.Dropdown(
                list(get_args(Order)), value=usual.order, label="order", elem_id="lora_lab_autotag_order",
                info="the first tags count most where captions are cut",
            )  # fmt: skip
            ratings = gr.Radio(
                list(get_args(Ratings)), value=usual.ratings, label="rating", elem_id="lora_lab_autotag_ratings"
            )
        with gr.Row():
            min_share = gr.Slider(
                0, 0.5, usual.min_share, step=0.01, label="least share of the pictures",
                info="rarer tags are left out", elem_id="lora_lab_autotag_min_share",
            )  # fmt: skip
            per_tag = gr.Textbox(
                label="thresholds of single tags", placeholder="blush=0.6; hat=0.2", elem_id="lora_lab_autotag_per_tag"
            )
        with gr.Row():
            first = gr.Checkbox(False, label="characters first", elem_id="lora_lab_autotag_characters_first")
            escape = gr.Checkbox(
                False, label="escape brackets (for prompts, never for training)", elem_id="lora_lab_autotag_escape"
            )
    return FinerWidgets(order, ratings, min_share, per_tag, first, escape)


def thresholds(text: str) -> tuple[tuple[str, float], ...]:
    """``blush=0.6; hat=0.2``

    Raises:
        SettingsError: a piece is not of that form.
    """
    found = []
    for piece in (p.strip() for p in text.split(";")):
        tag, sign, number = piece.rpartition("=")
        if not piece:
            continue
        try:
            found.append((tag.strip(), float(number)))
        except ValueError:
            sign = ""
        if not sign or not tag.strip():
            raise SettingsError(f"{piece!r} is no threshold of a tag", remedy="write tag=0.5, parted by ;")
    return tuple(found)
