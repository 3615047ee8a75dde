"""One table, tested both ways: each setting has a widget, and what is shown is what is read."""

from __future__ import annotations

from typing import Any

import pytest

from lora_lab.errors import SettingsError
from lora_lab.training.settings import TrainSettings
from lora_lab.ui import train_panel
from lora_lab.ui.fields import from_widget, rows, to_widget
from tests.ui.shown import Tab

hypothesis = pytest.importorskip("hypothesis", reason="hypothesis is not installed")
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

OTHER: dict[str, Any] = {
    "train_data_dir": "C:\\pictures\\mika", "output_name": "mika <v2>", "resolution": (512, 768), "keep_tokens": 3,
    "network_alpha": 7.5, "max_train_epochs": 12, "max_train_steps": None, "unet_lr": 1e-4, "text_encoder_lr": 0.0,
    "learning_rate": None, "optimizer_type": "Prodigy", "optimizer_args": ("weight_decay=0.01", "betas=0.9, 0.99"),
    "lr_warmup_steps": 0.1, "seed": 2**32 - 1, "max_token_length": 225, "shuffle_caption": False, "flip_aug": True,
    "sample_prompts": "mika, hat --d 1\n\nmika --w 512", "clip_skip": 2, "save_every_n_epochs": 1,
}  # fmt: skip


@pytest.mark.parametrize("settings", [TrainSettings(), TrainSettings.from_mapping(OTHER)], ids=["defaults", "others"])
def test_show_then_read_gives_the_same_settings_and_leaves_no_widget_over(shown: Tab, settings: TrainSettings) -> None:
    widgets = shown.panels.train
    changes = train_panel.show(settings, widgets)
    assert set(changes) == widgets.fields.all
    assert train_panel.read(changes, widgets) == settings


def test_each_setting_has_one_widget_that_starts_at_its_default(shown: Tab) -> None:
    widgets = shown.panels.train
    assert set(widgets.fields.widgets) == {spec.name for spec in TrainSettings.specs()}
    assert train_panel.read(shown.values, widgets) == TrainSettings()


def test_each_group_of_the_table_has_a_place_in_the_form() -> None:
    folded = {spec.group for spec in TrainSettings.specs() if spec.name not in train_panel.FIRST}
    assert folded == set(train_panel.GROUPS)


def test_help_of_the_table_stands_at_the_widget(shown: Tab) -> None:
    for name, widget in shown.panels.train.fields.widgets.items():
        assert widget.info == TrainSettings.spec(name).help
        assert widget.elem_id == f"lora_lab_train_{name}"


@given(st.floats(0, 1, allow_nan=False))
def test_a_rate_is_shown_without_rounding(value: float) -> None:
    spec = TrainSettings.spec("noise_offset")
    settings = TrainSettings.from_mapping({"noise_offset": from_widget(spec, to_widget(spec, value))})
    assert settings.noise_offset == value


def test_options_in_one_line_are_taken_apart() -> None:
    spec = TrainSettings.spec("optimizer_args")
    assert from_widget(spec, "weight_decay=0.01 d_coef=2\nbetas=0.9, 0.99") == [
        "weight_decay=0.01", "d_coef=2", "betas=0.9, 0.99",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "typed"), [("network_dim", "0"), ("network_dim", "3.5"), ("unet_lr", "fast"), ("train_batch_size", "")]
)
def test_a_wrong_number_is_refused_in_the_tables_words(shown: Tab, name: str, typed: str) -> None:
    with pytest.raises(SettingsError, match=name):
        train_panel.read(shown.train(**{name: typed}), shown.panels.train)


def test_rows_keep_the_order_and_lose_none() -> None:
    specs = [TrainSettings.spec(name) for name in train_panel.FIRST]
    found = [spec for row in rows(specs, 3) for spec in row]
    assert sorted(s.name for s in found) == sorted(s.name for s in specs)
    assert max(len(row) for row in rows(specs, 3)) <= 3
