"""Options of kohya's scripts that are no setting of ours: translated into others, or left out, each with the reason.

An option that becomes a setting needs no line here any more: settings are looked up first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType


def _by_name(groups: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """``("a b", why)`` to ``{"a": why, "b": why}``."""
    return MappingProxyType({name: why for names, why in groups for name in names.split()})


TRANSLATED = _by_name((
    ("use_8bit_adam", "becomes optimizer_type AdamW8bit"),
    ("use_lion_optimizer", "becomes optimizer_type Lion"),
    ("network_module network_args", "their options become settings of the same names"),
    ("pretrained_model_name_or_path", "the checkpoint: --checkpoint on the command line, the loaded one in the tab"),
    ("config_file", "the file itself is read; the command line wins over it, as in kohya's scripts"),
    ("save_model_as", "safetensors is what is written; ckpt and pt are pickles, which a loader has to run"),
    ("xformers sdpa mem_eff_attn", "the loaded model's own attention trains too, xformers or sdpa among them"),
    ("no_half_vae", "the host's VAE encodes as the host runs it; a picture that becomes NaN is told of"),
))  # fmt: skip
"""What is not lost, though there is no setting of that name."""

_HUB = "files stay on this machine; upload the finished LoRA yourself"
_WANDB = "the log is TensorBoard's and the tab's own; no other service is told"
_CARDS = "an option of DeepSpeed or DDP for large models; a LoRA's optimizer fits on one card"
_STATE = "a state of kohya's cannot be read here; continue from the LoRA itself, or resume a run of LoRA Lab"
_LOADING = "pictures are loaded before their step by threads of this process; there is nothing to set"
_EPOCHS = "how often a snapshot is kept is said by save_every_n_epochs and save_every_n_steps"
_YET = "LoRA Lab does not have it yet"

LEFT_OUT = _by_name((
    ("tokenizer_cache_dir", "the tokenizer is part of LoRA Lab or of the webui; nothing is downloaded"),
    ("huggingface_repo_id huggingface_repo_type huggingface_path_in_repo huggingface_token "
     "huggingface_repo_visibility save_state_to_huggingface resume_from_huggingface async_upload", _HUB),
    ("log_with log_prefix log_tracker_name wandb_run_name log_tracker_config wandb_api_key log_config", _WANDB),
    ("deepspeed zero_stage offload_optimizer_device offload_optimizer_nvme_path offload_param_device "
     "offload_param_nvme_path zero3_init_flag zero3_save_16bit_model fp16_master_weights_and_gradients "
     "ddp_timeout ddp_gradient_as_bucket_view ddp_static_graph", _CARDS),
    ("save_state save_state_on_train_end resume save_last_n_epochs_state save_last_n_steps_state "
     "initial_epoch initial_step skip_until_initial_step", _STATE),
    ("max_data_loader_n_workers persistent_data_loader_workers", _LOADING),
    ("torch_compile dynamo_backend", "the live model is used as the host runs it and is not compiled anew"),
    ("lowram highvram disable_mmap_load_safetensors", "about loading a second model; the loaded one is trained on"),
    ("console_log_level console_log_file console_log_simple", "about kohya's console"),
    ("output_config", "it writes a settings file and ends: lora-lab settings FILE --export does that"),
    ("debug_dataset", "it shows pictures and trains nothing: the panel Dataset shows them"),
    ("dataset_class", "it would run code that a settings file names"),
    ("cache_info", "what is known of the pictures is kept without being asked"),
    ("skip_cache_check", "a kept latent is always checked against its picture, which costs next to nothing"),
    ("no_metadata", "the file's metadata is how its settings are found again; lora-lab inspect --remove takes it out"),
    ("metadata_title metadata_author metadata_description metadata_license metadata_tags metadata_usage_hint "
     "metadata_thumbnail metadata_merged_from metadata_trigger_phrase metadata_preprocessor "
     "metadata_is_negative_embedding", "lora-lab inspect --set writes it into the finished file"),
    ("vae", "the VAE is the host's: choose it in the webui, or bake it into the checkpoint"),
    ("save_n_epoch_ratio", _EPOCHS),
    ("save_last_n_epochs save_last_n_steps", "no file of yours is deleted; delete snapshots that you do not want"),
    ("cpu_offload_checkpointing", "an experiment of kohya's; gradient_checkpointing alone is here"),
    ("fused_backward_pass full_fp16 full_bf16 fp8_base fp8_base_unet", _YET),
    ("network_weights dim_from_weights base_weights base_weights_multiplier scale_weight_norms", _YET),
))  # fmt: skip
"""Why an option is not taken over; sentences without their full stop."""

BETTER = MappingProxyType({
    "network_weights": "a file of another family or rank is refused before the start; untrained parts stay in the file",
    "base_weights": "no weight of the checkpoint changes, and they are gone at the end",
    "fused_backward_pass": "with every optimizer that steps each tensor alone, not Adafactor only",
    "seed": "noise is keyed by item, so pictures made between steps change nothing",
    "enable_bucket": "the buckets are drawn as a chart before the start",
    "lr_scheduler": "the curve is drawn before the start",
    "sample_prompts": "the prompts themselves, no file is needed",
    "optimizer_args": "a name that the optimizer does not have is refused before the start",
    "max_train_epochs": "steps and time are told before the start",
    "reg_data_dir": "an empty folder means none, and what it does to an epoch is told before the start",
    "cache_latents_to_disk": "kept in our data folder, and made again when the picture was changed",
    "noise_offset_random_strength": "one draw for each picture instead of one for the batch",
    "mixed_precision": "auto takes what the live model runs in",
})
"""Settings that do more than kohya's option of the same name."""
