"""What is written into a LoRA file beside its numbers: kohya's ``ss_*`` keys and Stability's ``modelspec``.

All values are texts, as kohya's scripts write them: ``None`` and ``True`` for Python's, objects as JSON. The hashes
(``sshs_*``) are put in by `network.files.write`. Two equal runs differ in session id, times and date only.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lora_lab import __version__
from lora_lab.families import Family
from lora_lab.training.learning.block_rules import block_args
from lora_lab.training.learning.optimizer_kinds import given_args, kind_of
from lora_lab.training.plan import Plan
from lora_lab.training.settings import TrainSettings, network_words

if TYPE_CHECKING:
    from lora_lab.host.base import CheckpointInfo


@dataclass(frozen=True)
class DatasetFacts:
    """What the file tells of the pictures."""

    train_images: int
    """Repeats counted."""
    reg_images: int
    validation_images: int
    batches_per_epoch: int
    dirs: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Folder's name to ``{"n_repeats": 10, "img_count": 20}``."""
    reg_dirs: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    tag_frequency: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Folder's name to tag in lower case to number of captions with it, repeats not counted."""
    bucket_info: Mapping[str, Any] | None = None
    """``{"buckets": {"0": {"resolution": [w, h], "count": n}}, "mean_img_ar_error": x}``."""
    datasets: list[dict[str, Any]] | None = None
    """What kohya calls ss_datasets; None where no dataset_config names them."""


@dataclass(frozen=True)
class RunFacts:
    """What is known when the run begins."""

    session_id: int
    started_at: float
    """Seconds since 1970."""
    clip_skip: int
    precision: str
    """no, fp16 or bf16."""
    optimizer: str
    """Class with its module, e.g. ``torch.optim.adamw.AdamW``."""
    full_hash: str | None = None
    """sha256 of the checkpoint, if the host knows it."""
    processes: int = 1
    """That trained together."""


@dataclass(frozen=True)
class Origin:
    """Where an adapter comes from: all that its metadata is made of."""

    settings: TrainSettings
    plan: Plan
    checkpoint: CheckpointInfo
    dataset: DatasetFacts
    run: RunFacts

    @property
    def vae(self) -> str:
        """Changes when latents would be others."""
        bits = " in 32 bits" if self.settings.no_half_vae else ""
        return f"{self.checkpoint.vae_name or ''} {self.checkpoint.identity}{bits}"

    def metadata(self, epoch: int, step: int, now: float | None = None) -> dict[str, str]:
        """The metadata of a file saved after `step` steps in `epoch` (both 1-based)."""
        finished = time.time() if now is None else now
        values = {
            **self._run_values(epoch, step, finished),
            **self._model_values(),
            **self._learning_values(),
            **self._loss_values(),
            **self._dataset_values(),
        }
        texts = {f"ss_{name}": _text(value) for name, value in values.items()}
        return {**texts, **{f"modelspec.{name}": value for name, value in self._modelspec(finished).items()}}

    def _run_values(self, epoch: int, step: int, finished: float) -> dict[str, Any]:
        s, plan, run = self.settings, self.plan, self.run
        return {
            "session_id": run.session_id,
            "training_started_at": run.started_at,
            "training_finished_at": finished,
            "output_name": s.output_name,
            "training_comment": s.training_comment or None,
            "sd_scripts_commit_hash": None,
            "lora_lab_version": __version__,
            "seed": plan.seed,
            "epoch": epoch,
            "num_epochs": plan.epochs,
            "steps": step,
            "max_train_steps": plan.steps,
            "num_batches_per_epoch": plan.batches_per_epoch,
            "lowram": s.lowram,
            "cache_latents": s.cache_latents or s.cache_latents_to_disk,
            "full_fp16": s.full_fp16,
            "fp8_base": s.fp8_base,
            "fp8_base_unet": s.fp8_base_unet,
            "mixed_precision": run.precision,
            "gradient_checkpointing": s.gradient_checkpointing,
            "gradient_accumulation_steps": s.gradient_accumulation_steps,
        }

    def _model_values(self) -> dict[str, Any]:
        info, s = self.checkpoint, self.settings
        values = {
            "sd_model_name": info.name,
            "sd_model_hash": info.short_hash,
            "new_sd_model_hash": info.sha256 or self.run.full_hash,
            "v2": info.family is Family.SD2,
            "base_model_version": base_model_version(info),
            "network_module": network_words.module(s),
            "network_dim": s.network_dim,
            "network_alpha": s.network_alpha or float(s.network_dim),
            "network_dropout": s.network_dropout or None,
            **({"network_args": arguments} if (arguments := {**network_words.arguments(s), **block_args(s)}) else {}),
            "clip_skip": self.run.clip_skip if info.family is Family.SD1 else None,
            "max_token_length": s.max_token_length,
        }
        if info.vae_name:
            values["vae_name"] = info.vae_name
        return values

    def _learning_values(self) -> dict[str, Any]:
        s = self.settings
        arguments = given_args(s.optimizer_type, s.optimizer_args)
        listed = ",".join(f"{name}={value}" for name, value in arguments.items())
        rates = {group.name: group.learning_rate for group in self.plan.groups}
        usual = rates.get("unet", rates.get("text_encoder"))
        first = usual if s.learning_rate is None else s.learning_rate
        scheduler = s.lr_scheduler
        if kind_of(s.optimizer_type).relative(arguments):  # kohya keeps the rate there, and nowhere else
            rates, first, scheduler = {}, None, f"adafactor:{first}"
        return {
            "learning_rate": first,
            "unet_lr": rates.get("unet"),
            "text_encoder_lr": _text_rates(rates),
            "optimizer": self.run.optimizer + (f"({listed})" if listed else ""),
            "lr_scheduler": scheduler,
            "lr_scheduler_num_cycles": s.lr_scheduler_num_cycles,
            "lr_warmup_steps": self.plan.warmup_steps,
            "max_grad_norm": s.max_grad_norm,
            "scale_weight_norms": s.scale_weight_norms,
        }

    def _loss_values(self) -> dict[str, Any]:
        s = self.settings
        return {
            "noise_offset": s.noise_offset or None,
            "noise_offset_random_strength": s.noise_offset_random_strength,
            "adaptive_noise_scale": s.adaptive_noise_scale,
            "multires_noise_iterations": s.multires_noise_iterations,
            "multires_noise_discount": s.multires_noise_discount,
            "ip_noise_gamma": s.ip_noise_gamma,
            "ip_noise_gamma_random_strength": s.ip_noise_gamma_random_strength,
            "zero_terminal_snr": s.zero_terminal_snr,
            "min_snr_gamma": s.min_snr_gamma or None,
            "debiased_estimation": s.debiased_estimation_loss,
            "loss_type": s.loss_type,
            "huber_schedule": s.huber_schedule,
            "huber_scale": s.huber_scale,
            "huber_c": s.huber_c,
            "prior_loss_weight": s.prior_loss_weight,
            "validation_seed": s.validation_seed,
            "validation_split": s.validation_split,
            "max_validation_steps": s.max_validation_steps,
            "validate_every_n_epochs": s.validate_every_n_epochs if self.dataset.validation_images else None,
            "validate_every_n_steps": s.validate_every_n_steps,
        }

    def _dataset_values(self) -> dict[str, Any]:
        s, data = self.settings, self.dataset
        values = {
            "num_train_images": data.train_images,
            "num_reg_images": data.reg_images,
            "num_validation_images": data.validation_images,
            "dataset_dirs": data.dirs,
            "tag_frequency": data.tag_frequency,
            "caption_dropout_rate": s.caption_dropout_rate,
            "caption_dropout_every_n_epochs": s.caption_dropout_every_n_epochs,
            "caption_tag_dropout_rate": s.caption_tag_dropout_rate,
            "face_crop_aug_range": s.face_crop_aug_range or None,
            "resize_interpolation": s.resize_interpolation or None,
        }
        return {**values, **(self._folder_values() if data.datasets is None else {"datasets": data.datasets})}

    def _folder_values(self) -> dict[str, Any]:
        """What stands in ss_datasets where there is a dataset_config."""
        s, data = self.settings, self.dataset
        return {
            "reg_dataset_dirs": data.reg_dirs,
            "bucket_info": data.bucket_info,
            "batch_size_per_device": s.train_batch_size,
            "total_batch_size": s.train_batch_size * self.run.processes * s.gradient_accumulation_steps,
            "resolution": s.resolution,
            "color_aug": s.color_aug,
            "flip_aug": s.flip_aug,
            "random_crop": s.random_crop,
            "shuffle_caption": s.shuffle_caption,
            "enable_bucket": s.enable_bucket,
            "bucket_no_upscale": s.bucket_no_upscale,
            "min_bucket_reso": s.min_bucket_reso,
            "max_bucket_reso": s.max_bucket_reso,
            "keep_tokens": s.keep_tokens,
        }

    def _modelspec(self, finished: float) -> dict[str, str]:
        """Stability AI's model metadata standard, version 1.0.1."""
        s, info = self.settings, self.checkpoint
        width, height = s.resolution
        spec = {
            "sai_model_spec": "1.0.1",
            "architecture": f"{ARCHITECTURES[base_model_version(info)]}/lora",
            "implementation": IMPLEMENTATIONS[info.family],
            "title": s.output_name,
            "date": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(finished)),
            "resolution": f"{width}x{height}",
            "prediction_type": "v" if info.prediction_type == "v_prediction" else "epsilon",
        }
        if info.family is Family.SD1:
            spec["encoder_layer"] = str(self.run.clip_skip)
        if s.training_comment:
            spec["description"] = s.training_comment
        return spec


ARCHITECTURES = {
    "sd_v1": "stable-diffusion-v1",
    "sd_v2": "stable-diffusion-v2-512",
    "sd_v2_v": "stable-diffusion-v2-768-v",
    "sdxl_base_v1-0": "stable-diffusion-xl-v1-base",
}
SGM = "https://github.com/Stability-AI/generative-models"
IMPLEMENTATIONS = {Family.SD1: "diffusers", Family.SD2: "diffusers", Family.SDXL: SGM}


def base_model_version(info: CheckpointInfo) -> str:
    """kohya's name of the family."""
    if info.family is Family.SD2:
        return "sd_v2_v" if info.prediction_type == "v_prediction" else "sd_v2"
    return {Family.SD1: "sd_v1", Family.SDXL: "sdxl_base_v1-0"}[info.family]


def _text_rates(rates: Mapping[str, float]) -> float | list[float] | None:
    """kohya's way: one rate, or a list where SDXL's second text encoder has its own."""
    if "text_encoder_2" not in rates:
        return rates.get("text_encoder")
    return [rates.get("text_encoder", 0.0), rates["text_encoder_2"]]


def _text(value: Any) -> str:  # noqa: ANN401 - whatever a setting holds
    """kohya's way of writing a value."""
    if isinstance(value, (Mapping, list)):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, tuple):
        return "(" + ", ".join(map(str, value)) + ")"
    return str(value)


def new_session_id() -> int:
    """kohya's ss_session_id: a random 32-bit number that tells two runs apart."""
    return random.SystemRandom().randint(0, 2**32 - 1)
