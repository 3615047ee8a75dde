"""Settings files in the panel Train, the handlers called with what a page would hold."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lora_lab.errors import OutputError, SettingsError
from lora_lab.training.settings import TrainSettings, presets, settings_file
from lora_lab.ui import presets_part, train_files, train_panel
from tests.ui.shown import Tab


def load(shown: Tab, path: Path) -> dict[Any, Any]:
    w = shown.panels.train
    return train_files.load({w.files.load: SimpleNamespace(name=str(path))}, w.files, w.fields, shown.context)


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
    assert "The form shows the settings of mika.json" in changes[shown.panels.train.files.told]


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
    told = changes[w.files.told]
    assert "<b>wandb_api_key</b>: the log is TensorBoard&#x27;s" in told
    assert "kohya&#x27;s options (TOML), 2 settings given" in told


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


DATA = Path(__file__).parent.parent / "training" / "data"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("guide.ps1", "a launch script (powershell)"), ("guide.sh", "does not go together with enable_bucket"),
        ("train.bat", "a launch script (batch)"), ("kohya.toml", "names the checkpoint /data/models/base.safetensors"),
        ("kohya_ss_2023_03.json", "settings of the kohya_ss GUI"), ("kohya_ss_2025.json", "lr_warmup_steps"),
    ],
)  # fmt: skip
def test_files_of_others_are_shown_and_what_became_of_their_keys_is_told(shown: Tab, name: str, says: str) -> None:
    changes = load(shown, DATA / name)
    assert says in changes[shown.panels.train.files.told]
    settings = train_panel.read(shown.values | changes, shown.panels.train)
    assert settings == settings_file.read(DATA / name).settings


def test_what_would_change_the_run_is_marked(shown: Tab, tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("xformers = true\nloss_type = 'made <b>up'\nwandb_api_key = 'x'", encoding="utf-8")
    told = load(shown, path)[shown.panels.train.files.told]
    assert told.count("lora-lab-refused") == 1
    assert "<b>up" not in told


def test_a_dataset_config_is_kept_and_the_rest_of_the_form_stays(shown: Tab) -> None:
    w = shown.panels.train
    changes = load(shown, DATA / "dataset_config.toml")
    kept = folder(shown) / "dataset_config.toml"
    assert kept.read_text(encoding="utf-8") == (DATA / "dataset_config.toml").read_text(encoding="utf-8")
    assert changes.keys() == {w.files.told, w.fields.widgets["dataset_config"]}
    assert changes[w.fields.widgets["dataset_config"]] == str(kept)


@pytest.mark.parametrize("choice", list(train_files.EXPORTS))
def test_the_form_is_exported_for_kohyas_scripts(shown: Tab, choice: str) -> None:
    w = shown.panels.train
    values = shown.train(output_name="mika", network_dim="7") | {w.files.export_as: choice}
    told = train_files.export(values, w.files, w.fields, shown.context)[w.files.told]
    path = folder(shown) / ("mika" + train_files.FORMATS[train_files.EXPORTS[choice]])
    assert str(path) in told
    assert "checkpoint is not known here" in told, "this host names no path"
    assert settings_file.read(path).settings.network_dim == 7


def test_presets_in_the_tab(shown: Tab) -> None:
    w = shown.panels.train
    p, told = w.presets, w.files.told
    typed = shown.train(network_dim="9", train_data_dir="/mika", output_name="mika") | {p.name: "nine"}
    changes = presets_part.save(typed, p, w.fields, told, shown.context)
    assert changes[p.chosen]["choices"] == ["nine"]
    with pytest.raises(OutputError, match="a preset of that name"):
        presets_part.save(typed, p, w.fields, told, shown.context)
    other = shown.train(train_data_dir="/rin", output_name="rin") | {p.chosen: "nine"}
    changes = presets_part.use(other, p, w.fields, told, shown.context)
    settings = train_panel.read(other | changes, w)
    assert (settings.network_dim, settings.train_data_dir, settings.output_name) == (9, "/rin", "rin")
    gone = presets_part.delete(other, p, told, shown.context)
    assert (gone[p.chosen]["choices"], gone[p.chosen]["value"]) == ([], None)
    with pytest.raises(SettingsError, match="no preset is chosen"):
        presets_part.use(other | {p.chosen: None}, p, w.fields, told, shown.context)


def test_a_preset_loaded_as_a_file_leaves_folders_and_names(shown: Tab, tmp_path: Path) -> None:
    path = presets.save(TrainSettings.from_mapping({"network_dim": 5, "output_name": "x"}), "five", tmp_path)
    w = shown.panels.train
    changes = load(shown, path)
    assert changes[w.fields.widgets["network_dim"]] == "5"
    assert w.fields.widgets["output_name"] not in changes
