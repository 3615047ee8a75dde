"""kohya's options: each is a setting, or translated, or left out with the reason; defaults agree with the table."""

from __future__ import annotations

from typing import Any

import pytest

from lora_lab.training.importing import kohya
from lora_lab.training.importing.found import Reading
from lora_lab.training.importing.options import OPTIONS, is_default, matching
from lora_lab.training.importing.reasons import BETTER, LEFT_OUT, TRANSLATED
from lora_lab.training.settings import settings_file
from lora_lab.training.settings.fields import SAME


def test_the_table_has_both_scripts_options() -> None:
    assert len(OPTIONS) == 196
    assert {name for name, option in OPTIONS.items() if option.sdxl} == {
        "disable_mmap_load_safetensors", "cache_text_encoder_outputs", "cache_text_encoder_outputs_to_disk",
    }  # fmt: skip
    assert (OPTIONS["network_dim"].takes, OPTIONS["network_args"].takes, OPTIONS["xformers"].takes) == (
        "value", "list", "flag",
    )  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_is_a_setting_or_translated_or_left_out_with_a_reason(name: str) -> None:
    if name in kohya.names():
        return
    reason = TRANSLATED.get(name) or LEFT_OUT.get(name)
    assert reason, "no setting, and no line in reasons.py"
    assert not reason.endswith(".")


def test_reasons_are_given_for_kohyas_options_only() -> None:
    assert not (TRANSLATED.keys() | LEFT_OUT.keys() | BETTER.keys()) - OPTIONS.keys()
    assert not TRANSLATED.keys() & LEFT_OUT.keys()


NOTHING = {None, 0, "", ()}
OTHERWISE = {
    "max_train_epochs", "max_token_length", "save_precision", "optimizer_type", "min_timestep", "max_timestep",
    "output_name", "resolution", "caption_extention", "clip_skip", "network_dim",
}  # fmt: skip
"""kohya's parser says nothing or has a default in its code: 75 tokens, float, AdamW, 0, 1000, last, 1, 4; resolution
is required; the misspelt name has no default of its own."""


@pytest.mark.parametrize("name", sorted((OPTIONS.keys() & kohya.names().keys()) - OTHERWISE))
def test_what_a_file_leaves_out_is_as_kohyas_parser_has_it(name: str) -> None:
    spec = kohya.names()[name]
    settings = kohya.take(Reading()).settings
    value: Any = getattr(settings, spec.name)
    default = OPTIONS[name].default
    if name == "secondary_separator" or default in NOTHING:
        off = value in NOTHING or (spec.kohya_default == SAME and value == spec.default)
        assert off, f"{name} is {value!r} where kohya's is nothing"
    else:
        assert value == default


@pytest.mark.parametrize(
    ("name", "value", "same"),
    [
        ("xformers", False, True), ("xformers", True, False), ("huber_c", "0.1", True), ("huber_c", 0.2, False),
        ("vae", "", True), ("vae", None, True), ("zero_stage", 2, True), ("caption_separator", ",", True),
        ("caption_separator", ";", False), ("never_heard_of", False, True), ("never_heard_of", 0, False),
    ],
)  # fmt: skip
def test_what_says_nothing_is_not_told_of(name: str, value: object, same: bool) -> None:
    assert is_default(name, value) is same


def test_options_may_be_cut_short_as_argparse_allows() -> None:
    assert matching("network_di") == "network_dim"
    assert matching("network_d") == "network_d"  # two begin so
    assert matching("zzz") == "zzz"


@pytest.mark.parametrize(("switch", "name"), [("use_8bit_adam", "AdamW8bit"), ("use_lion_optimizer", "Lion")])
def test_the_old_switches_of_optimizers(switch: str, name: str) -> None:
    assert settings_file.from_values({switch: True}).settings.optimizer_type == name
    assert settings_file.from_values({switch: False, "vae": "a"}).settings.optimizer_type == "AdamW"
    both = settings_file.from_values({switch: True, "optimizer_type": "Prodigy"}).settings
    assert both.optimizer_type == "Prodigy"


def test_a_list_of_rates_is_that_of_the_two_text_encoders() -> None:
    found = settings_file.from_values({"text_encoder_lr": [1e-5, 2e-5], "network_module": "networks.lora"})
    assert (found.settings.text_encoder_lr, found.settings.text_encoder_lr2) == (1e-5, 2e-5)
    found = settings_file.from_values({"text_encoder_lr": ["1e-5", "1e-5"], "network_module": "networks.lora"})
    assert (found.settings.text_encoder_lr, found.settings.text_encoder_lr2) == (1e-5, None)
    found = settings_file.from_values({"text_encoder_lr": [1, 2, 3], "network_module": "networks.lora"})
    assert "the first two are taken" in found.remarks[0]
