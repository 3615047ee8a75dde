"""Settings files in the panel Train, the handlers called with what a page would hold."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lora_lab.errors import SettingsError
from lora_lab.training import settings_file
from lora_lab.training.settings import TrainSettings
from lora_lab.ui import train_files, train_panel
from tests.ui.shown import Tab


def load(shown: Tab, path: Path) -> dict[Any, Any]:
    w = shown.panels.train
    return train_files.load({w.files.load: SimpleNamespace(name=str(path))}, w.files, w.fields)


def save(shown: Tab, **typed: Any) -> str:
    w = shown.panels.train
    return str(train_files.save(shown.train(**typed), w.files, w.fields, shown.context)[w.files.told])


def folder(shown: Tab) -> Path:
    return shown.context.host.paths().data_dir / "settings"


def test_what_is_saved_is_what_is_loaded(shown: Tab) -> None:
    told = save(shown, output_name="mika", unet_lr="2.5e-05", sample_prompts="a\nb", cache_latents=False)
    path = folder(shown) / "mika.json"
    assert str(path) in told
    changes = load(shown, path)
    shown_again = train_panel.read(shown.values | changes, shown.panels.train)
    assert shown_again == settings_file.read(path).settings
    assert (shown_again.unet_lr, shown_again.sample_prompts) == (2.5e-5, "a\nb")
    assert "The form shows the settings of mika.json." in changes[shown.panels.train.files.told]


def test_a_form_that_is_not_complete_is_saved_and_nothing_is_written_over(shown: Tab) -> None:
    for _ in range(3):
        save(shown)
    assert sorted(p.name for p in folder(shown).iterdir()) == ["settings-2.json", "settings-3.json", "settings.json"]


@pytest.mark.parametrize("name", ["../mika", "a/b", "con:", "mika."])
def test_a_name_that_is_no_file_name_is_refused(shown: Tab, name: str) -> None:
    with pytest.raises(SettingsError, match="no file name"):
        save(shown, output_name=name)
    assert not folder(shown).exists()


def test_a_wrong_value_is_refused(shown: Tab) -> None:
    with pytest.raises(SettingsError, match="network_dim is 'many'"):
        save(shown, network_dim="many")


def test_kohyas_file_is_read_and_what_has_no_setting_is_told(shown: Tab, tmp_path: Path) -> None:
    path = tmp_path / "kohya.toml"
    path.write_text("network_dim = 12\nwandb_api_key = 'x'\n[more]\noutput_name = 'rin'\n", encoding="utf-8")
    changes = load(shown, path)
    w = shown.panels.train
    assert (changes[w.fields.widgets["network_dim"]], changes[w.fields.widgets["output_name"]]) == ("12", "rin")
    assert "Not taken over from the file: wandb_api_key." in changes[w.files.told]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("lora_lab = 1\nnetwork_dims = 4", "did you mean network_dim"),
        ("lora_lab = 9", "update LoRA Lab"),
        ("<html>", "no valid TOML or JSON"),
        ("network_dim = 0", "give 1 or more"),
    ],
)
def test_a_file_that_is_none_leaves_the_form(shown: Tab, tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "upload" / "mine.toml"
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=why) as caught:
        load(shown, path)
    assert "(mine.toml)" in str(caught.value), "not the path of the page's own copy"


def test_every_setting_has_a_place_in_the_form(shown: Tab) -> None:
    assert set(shown.panels.train.fields.widgets) == {spec.name for spec in TrainSettings.specs()}
