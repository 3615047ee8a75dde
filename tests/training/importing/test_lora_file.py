"""The settings of LoRA files, by their metadata: kohya's, kohya_ss', traintrain's and ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_lab.errors import SettingsError
from lora_lab.training.importing import kohya, lora_file
from lora_lab.training.importing.found import SettingsFile

KOHYAS = {
    "ss_session_id": "123", "ss_output_name": "mika", "ss_learning_rate": "0.0001", "ss_text_encoder_lr": "5e-05",
    "ss_unet_lr": "None", "ss_num_train_images": "100", "ss_num_epochs": "8", "ss_max_train_steps": "400",
    "ss_lr_warmup_steps": "40", "ss_lr_scheduler": "cosine_with_restarts", "ss_network_module": "networks.lora",
    "ss_network_dim": "64", "ss_network_alpha": "32.0", "ss_network_dropout": "None", "ss_mixed_precision": "fp16",
    "ss_clip_skip": "2", "ss_max_token_length": "225", "ss_cache_latents": "True", "ss_seed": "420",
    "ss_min_snr_gamma": "5.0", "ss_optimizer": "bitsandbytes.optim.adamw.AdamW8bit(weight_decay=0.1,betas=(0.9, 0.99))",
    "ss_batch_size_per_device": "2", "ss_total_batch_size": "2", "ss_resolution": "(512, 768)", "ss_flip_aug": "True",
    "ss_shuffle_caption": "True", "ss_enable_bucket": "True", "ss_keep_tokens": "1", "ss_tag_frequency": "{}",
    "ss_debiased_estimation": "True", "ss_sd_model_name": "base.safetensors", "sshs_model_hash": "ab",
}  # fmt: skip


def read(metadata: dict[str, str]) -> SettingsFile:
    return kohya.take(lora_file.from_metadata(metadata))


def values(found: SettingsFile, names: str) -> tuple[Any, ...]:
    return tuple(getattr(found.settings, name) for name in names.split())


def test_kohyas() -> None:
    found = read(KOHYAS)
    assert found.skipped == ()
    assert values(found, "network_dim network_alpha resolution seed clip_skip") == (64, 32, (512, 768), 420, 2)
    assert values(found, "optimizer_type optimizer_args") == ("AdamW8bit", ("weight_decay=0.1", "betas=(0.9,0.99)"))
    assert values(found, "max_train_epochs max_train_steps train_batch_size") == (8, None, 2)
    assert values(found, "learning_rate unet_lr text_encoder_lr lr_warmup_steps") == (1e-4, None, 5e-5, 40)
    assert values(found, "keep_tokens flip_aug debiased_estimation_loss") == (1, True, True)
    assert any("base.safetensors" in text for text in found.remarks)
    # What no LoRA tells is as in a new run of ours; what this one would have told is as kohya has it.
    assert values(found, "caption_extension sample_sampler") == (".txt", "euler_a")
    del KOHYAS_LESS["ss_min_snr_gamma"]
    assert read(KOHYAS_LESS).settings.min_snr_gamma == 0


KOHYAS_LESS = dict(KOHYAS)


@pytest.mark.parametrize(
    ("batches", "accumulation", "epochs", "steps"),
    [("50", "1", 8, None), ("99", "2", 8, None), ("60", "1", None, 400), ("many", "1", 8, None)],
)
def test_epochs_or_steps_whichever_was_the_choice(
    batches: str, accumulation: str, epochs: int | None, steps: int | None
) -> None:
    more = {"ss_num_batches_per_epoch": batches, "ss_gradient_accumulation_steps": accumulation}
    assert values(read({**KOHYAS, **more}), "max_train_epochs max_train_steps") == (epochs, steps)


def test_a_lycoris_of_kohya_ss_names_its_kind() -> None:
    args = '{"algo": "lokr", "conv_dim": "4", "conv_alpha": "1", "preset": "full"}'
    found = read({**KOHYAS, "ss_network_module": "lycoris.kohya", "ss_network_args": args})
    assert {"algo", "conv_dim", "preset"} <= set(found.values)
    chosen = found.settings
    assert (chosen.algo, chosen.conv_dim, chosen.conv_alpha, chosen.preset) == ("lokr", 4, 1.0, "full")


def test_traintrains() -> None:
    found = read({
        "ss_output_name": "slider", "ss_learning_rate": "0.0002", "ss_max_train_steps": "500", "ss_seed": "-1",
        "ss_lr_scheduler": "cosine", "ss_network_module": "network.lora", "ss_network_dim": "16",
        "ss_network_alpha": "8", "ss_optimizer": "adamw8bit", "ss_lr_scheduler_num_cycles": "2", "ss_v2": "False",
        "ss_base_model_version": "sd_v1", "ss_min_snr_gamma": "5", "ss_lr_step_rules": "", "ss_mixed_precision": "bf16",
    })  # fmt: skip
    assert values(found, "network_dim network_alpha max_train_steps max_train_epochs") == (16, 8, 500, None)
    assert values(found, "optimizer_type lr_scheduler lr_scheduler_num_cycles") == ("AdamW8bit", "cosine", 2)
    assert values(found, "min_snr_gamma output_name") == (5, "slider")
    assert {item.name for item in found.refused} <= {"seed"}


def test_ours_has_our_defaults_for_what_it_does_not_tell() -> None:
    found = read({"ss_lora_lab_version": "0.1.0", "ss_network_dim": "8", "ss_optimizer": "torch.optim.sgd.SGD"})
    assert values(found, "network_dim optimizer_type shuffle_caption") == (8, "SGDNesterov", True)
    assert "LoRA Lab" in found.origin


@pytest.mark.parametrize("metadata", [{}, {"format": "pt"}, {"ss_session_id": "1", "ss_tag_frequency": "{}"}])
def test_a_file_that_tells_nothing_is_refused(metadata: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="tells nothing of its training"):
        read(metadata)


@given(st.dictionaries(st.sampled_from(sorted(KOHYAS)) | st.text(max_size=8).map("ss_".__add__), st.text(max_size=20)))
def test_any_metadata_is_read_or_refused(metadata: dict[str, str]) -> None:
    read({**metadata, "ss_network_dim": "4"})


def test_only_the_head_of_the_file_is_read(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    from lora_lab.training.settings import settings_file

    path = tmp_path / "mika.safetensors"
    save_file({"a.lora_down.weight": torch.zeros(1, 2)}, path, KOHYAS)
    assert settings_file.read(path).settings.network_dim == 64
