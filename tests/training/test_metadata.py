"""What a LoRA file tells of its run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers", reason="diffusers is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

from lora_lab.network import files  # noqa: E402

from .running import Training, fresh_host  # noqa: E402
from .tiny import TinyHost, write_pictures  # noqa: E402


@pytest.fixture
def host(tmp_path: Path) -> TinyHost:
    return fresh_host(tmp_path)


MAY_DIFFER = {
    "ss_session_id", "ss_training_started_at", "ss_training_finished_at", "modelspec.date", "sshs_legacy_hash",
}


def test_metadata_of_equal_runs_differs_in_id_times_and_date_only(host: TinyHost) -> None:
    first = Training(host, output_dir=str(host.folder / "a"))
    second = Training(host, output_dir=str(host.folder / "b"))
    assert first.ended.lora is not None
    assert second.ended.lora is not None
    a, b = (dict(files.read(run.ended.lora).metadata) for run in (first, second))
    assert a.keys() == b.keys()
    assert {k for k in a if a[k] != b[k]} <= MAY_DIFFER
    assert a["sshs_model_hash"] == b["sshs_model_hash"] == files.model_hash(first.ended.lora)


KOHYAS = """
session_id training_started_at training_finished_at output_name training_comment seed sd_model_name
sd_model_hash new_sd_model_hash sd_scripts_commit_hash v2 base_model_version network_module network_dim
network_alpha network_dropout learning_rate unet_lr text_encoder_lr optimizer lr_scheduler lr_warmup_steps
max_grad_norm num_train_images num_reg_images num_validation_images num_batches_per_epoch num_epochs epoch
steps max_train_steps gradient_checkpointing gradient_accumulation_steps mixed_precision full_fp16 fp8_base
fp8_base_unet lowram cache_latents clip_skip max_token_length caption_dropout_rate
caption_dropout_every_n_epochs caption_tag_dropout_rate face_crop_aug_range noise_offset
noise_offset_random_strength adaptive_noise_scale multires_noise_iterations multires_noise_discount
ip_noise_gamma ip_noise_gamma_random_strength zero_terminal_snr min_snr_gamma debiased_estimation loss_type
huber_schedule huber_scale huber_c prior_loss_weight scale_weight_norms validation_seed validation_split
max_validation_steps validate_every_n_epochs validate_every_n_steps resize_interpolation tag_frequency
dataset_dirs batch_size_per_device total_batch_size resolution color_aug flip_aug random_crop shuffle_caption
enable_bucket bucket_no_upscale min_bucket_reso max_bucket_reso keep_tokens reg_dataset_dirs bucket_info
"""


def test_metadata_is_complete_and_true(host: TinyHost) -> None:
    write_pictures(host.folder / "train" / "2_rin", 1, captions=("Rin, Blue Sky",))
    write_pictures(host.folder / "reg" / "1_girl", 2, captions=("girl",))
    run = Training(
        host, reg_data_dir=str(host.folder / "reg"), training_comment="first try", unet_lr=2e-3, max_train_epochs=1,
        optimizer_args="weight_decay=0.1", min_snr_gamma=0, clip_skip=2,
    )
    assert run.ended.lora is not None
    found = files.read(run.ended.lora).metadata
    assert {f"ss_{name}" for name in KOHYAS.split()} <= found.keys()
    assert json.loads(found["ss_dataset_dirs"]) == {
        "1_mika": {"n_repeats": 1, "img_count": 4},
        "2_rin": {"n_repeats": 2, "img_count": 1},
    }
    assert json.loads(found["ss_reg_dataset_dirs"])["1_girl"]["img_count"] == 2
    tags = json.loads(found["ss_tag_frequency"])
    assert tags["1_mika"] == {"mika": 4, "red hair": 2, "hat": 2, "tail": 1}
    assert tags["2_rin"] == {"rin": 1, "blue sky": 1}
    buckets = json.loads(found["ss_bucket_info"])["buckets"]
    assert [b["resolution"] for b in buckets.values()] == [[64, 64]]
    assert found["ss_num_train_images"] == "6"
    assert found["ss_optimizer"] == "torch.optim.adamw.AdamW(weight_decay=0.1)"
    assert (found["ss_unet_lr"], found["ss_text_encoder_lr"], found["ss_learning_rate"]) == ("0.002", "0.001", "0.001")
    assert (found["ss_sd_model_name"], found["ss_sd_model_hash"]) == ("tiny.safetensors", "0badf00d")
    assert (found["ss_network_dim"], found["ss_network_alpha"]) == ("2", "1.0")
    assert found["ss_network_module"] == "networks.lora"
    assert (found["ss_base_model_version"], found["ss_v2"], found["ss_clip_skip"]) == ("sd_v1", "False", "2")
    assert (found["ss_min_snr_gamma"], found["ss_resolution"], found["ss_seed"]) == ("None", "(64, 64)", "7")
    assert found["modelspec.architecture"] == "stable-diffusion-v1/lora"
    assert (found["modelspec.title"], found["modelspec.resolution"]) == ("mika", "64x64")
