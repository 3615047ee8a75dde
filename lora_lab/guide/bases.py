"""The guide's own settings as named bases: its table of starting settings, its easy preset, its two scripts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from lora_lab.guide.source import PRODIGY, Source, guide

DADAPT_ARGS = ("decouple=True", "weight_decay=0.01", "betas=0.9,0.999")
GUIDE_PRODIGY_ARGS = (
    "decouple=True", "weight_decay=0.01", "d_coef=2", "use_bias_correction=True", "safeguard_warmup=False",
    "betas=0.9,0.999",
)  # fmt: skip
PRODIGY_ARGS = ("decouple=True", "weight_decay=0.01", "use_bias_correction=True", "safeguard_warmup=True")
"""What Prodigy's authors advise for diffusion models; its usual d_coef is 1."""


@dataclass(frozen=True)
class Base:
    """Settings under a name."""

    name: str
    text: str
    source: Source
    settings: Mapping[str, Any]
    steps: int
    """Steps at batch 1 that go with it."""
    pictures: str
    remark: str = ""
    """What is odd or outdated in it, and the evidence."""


def _base(name: str, text: str, source: Source, steps: int, pictures: str, remark: str = "", **settings: Any) -> Base:  # noqa: ANN401
    return Base(name, text, source, MappingProxyType(settings), steps, pictures, remark)


_BUCKETS: dict[str, Any] = {"enable_bucket": True, "min_bucket_reso": 320}
_SCRIPTS = (
    "Both scripts set alpha to the rank (no damping), while the text puts it between 1 and half of the rank for "
    "adaptive "
    "optimizers and calls alpha = rank pretty bad there; AdamW8bit with 1e-4 does bear it."
)

BASES = (
    _base(
        "character", "a character, good pictures", guide("Starting settings"), 1000, "35 to 100", network_dim=64,
        network_alpha=32, unet_lr=1e-4, text_encoder_lr=5e-5, resolution=512, optimizer_type="AdamW",
        lr_scheduler="cosine_with_restarts", **_BUCKETS, max_bucket_reso=768,
    ),
    _base(
        "character-bad", "a character, few or bad pictures", guide("Starting settings"), 1600, "15 to 30",
        network_dim=32, network_alpha=16, unet_lr=1e-4, text_encoder_lr=4.5e-5, resolution=512, optimizer_type="AdamW",
        lr_scheduler="cosine_with_restarts", **_BUCKETS, max_bucket_reso=768,
        remark="Goes with regularisation pictures (reg_data_dir).",
    ),
    _base(
        "style", "a style", guide("Starting settings"), 3000, "100 to 10,000 and more", network_dim=128,
        network_alpha=64, unet_lr=1e-4, text_encoder_lr=4e-5, resolution=576, optimizer_type="AdamW",
        lr_scheduler="cosine_with_restarts", **_BUCKETS, max_bucket_reso=768,
    ),
    _base(
        "concept", "a concept", guide("Starting settings"), 1500, "50 to 2,000", network_dim=32, network_alpha=16,
        unet_lr=1e-4, text_encoder_lr=4.5e-5, resolution=512, optimizer_type="AdamW",
        lr_scheduler="cosine_with_restarts", **_BUCKETS, max_bucket_reso=768,
        remark="The guide leaves its steps open; 1,500 is its least for what the checkpoint does not know.",
    ),
    _base(
        "easy", "the easy settings (DAdaptAdam)", guide('The "Easy settings"'), 1000, "50 to 100",
        optimizer_type="DAdaptAdam", optimizer_args=DADAPT_ARGS, unet_lr=1.0, text_encoder_lr=1.0,
        lr_scheduler="constant", network_dim=64, network_alpha=1, resolution=512, min_snr_gamma=5,
        max_token_length=225, flip_aug=True, **_BUCKETS, max_bucket_reso=768,
    ),
    _base(
        "easy-prodigy", "the easy settings with Prodigy", guide("Prodigy"), 1000, "50 to 100",
        optimizer_type="Prodigy", optimizer_args=GUIDE_PRODIGY_ARGS, unet_lr=1.0, text_encoder_lr=1.0,
        lr_scheduler="constant", network_dim=64, network_alpha=64, resolution=512, min_snr_gamma=5,
        max_token_length=225, flip_aug=True, **_BUCKETS, max_bucket_reso=768,
        remark=f"{PRODIGY} advises safeguard_warmup=True and the usual d_coef of 1.",
    ),
    _base(
        "script-powershell", "the guide's PowerShell script", guide("Sample PowerShell script"), 1000, "any",
        train_batch_size=1, unet_lr=1e-4, text_encoder_lr=5e-5, max_train_epochs=8, resolution=512, network_dim=128,
        network_alpha=128, clip_skip=2, optimizer_type="AdamW8bit", lr_scheduler="cosine_with_restarts", seed=420,
        flip_aug=True, max_token_length=225, shuffle_caption=True, keep_tokens=1, min_snr_gamma=0, **_BUCKETS,
        max_bucket_reso=960, remark=_SCRIPTS,
    ),
    _base(
        "script-bash", "the guide's bash script", guide("Sample bash script"), 1000, "any", train_batch_size=2,
        unet_lr=1e-4, text_encoder_lr=5e-5, max_train_epochs=6, resolution=512, network_dim=160, network_alpha=160,
        clip_skip=2, optimizer_type="AdamW8bit", lr_scheduler="cosine_with_restarts", seed=420, flip_aug=True,
        color_aug=True, cache_latents=False, max_token_length=150, shuffle_caption=True, min_snr_gamma=0, **_BUCKETS,
        max_bucket_reso=768, remark=_SCRIPTS,
    ),
)  # fmt: skip
BY_NAME = {base.name: base for base in BASES}
