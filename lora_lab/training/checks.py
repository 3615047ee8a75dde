"""Settings that do not go together, or have no effect together: refused or warned of before the start. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lora_lab.errors import SettingsError
from lora_lab.training.optimizers import KINDS, parse_args
from lora_lab.training.plan import groups_of
from lora_lab.training.previews import parse_prompts
from lora_lab.training.settings import TrainSettings

HIGHEST_LR = 0.1
"""Above this AdamW only makes noise; a rate of 1 is for adaptive optimizers."""
HIGH_LR = 0.01
FORBIDDEN_IN_NAMES = frozenset('<>:"/\\|?*')


def check(settings: TrainSettings) -> None:
    """Refuse what cannot be run as asked. The dataset and the folders are looked at by others.

    Raises:
        SettingsError: the first thing that is wrong, in one sentence.
    """
    _check_given(settings)
    _check_rates(settings)
    _check_buckets(settings)
    _check_latents(settings)
    parse_args(settings.optimizer_args)
    parse_prompts(settings)
    if settings.lr_scheduler == "constant" and settings.lr_warmup_steps:
        remedy = "choose constant_with_warmup, or set lr_warmup_steps to 0"
        raise SettingsError("lr_scheduler constant has no warmup", remedy=remedy)


def _check_given(settings: TrainSettings) -> None:
    if not settings.train_data_dir:
        raise SettingsError("no pictures are chosen", remedy="set train_data_dir to the folder of your dataset")
    if not settings.output_name:
        raise SettingsError("the LoRA has no name", remedy="set output_name")
    check_name(settings.output_name)


def check_name(name: str) -> None:
    """The name of a file, without its ending, that every system takes.

    Raises:
        SettingsError: it is none.
    """
    bad = sorted(c for c in set(name) if c in FORBIDDEN_IN_NAMES or ord(c) < 32)
    if bad or name != Path(name).name or name.strip(". ") != name:
        remedy = "use letters, digits, - and _"
        raise SettingsError(f"output_name {name!r} is no file name on every system", remedy=remedy)


def _check_rates(settings: TrainSettings) -> None:
    if settings.network_train_unet_only and settings.network_train_text_encoder_only:
        what = "network_train_unet_only and network_train_text_encoder_only leave nothing to train"
        raise SettingsError(what, remedy="switch one of them off")
    groups = groups_of(settings)
    if not groups:
        raise SettingsError("every learning rate is 0, so nothing is trained", remedy="set unet_lr or text_encoder_lr")
    rates = {group.name: group.learning_rate for group in groups}
    if KINDS[settings.optimizer_type].adaptive:
        if len(set(rates.values())) > 1:
            listed = " and ".join(f"{name} {rate:g}" for name, rate in rates.items())
            what = f"{settings.optimizer_type} has one learning rate for all parts, these differ ({listed})"
            raise SettingsError(what, remedy="set unet_lr and text_encoder_lr to 1, or one of them to 0")
        return
    for name, rate in rates.items():
        if rate > HIGHEST_LR:
            remedy = "give 0.0001 or so, or choose an adaptive optimizer such as Prodigy, whose rate is 1"
            what = f"{name}_lr is {rate:g}, at which {settings.optimizer_type} learns nothing"
            raise SettingsError(what, remedy=remedy)


def _check_buckets(settings: TrainSettings) -> None:
    if settings.enable_bucket and settings.min_bucket_reso > settings.max_bucket_reso:
        what = f"min_bucket_reso {settings.min_bucket_reso} is above max_bucket_reso {settings.max_bucket_reso}"
        raise SettingsError(what, remedy="exchange them")
    if settings.enable_bucket and not settings.bucket_no_upscale:
        low, high = min(settings.resolution), max(settings.resolution)
        if settings.min_bucket_reso > low:
            what = f"min_bucket_reso {settings.min_bucket_reso} is above the resolution {low}"
            raise SettingsError(what, remedy=f"set min_bucket_reso to {low} or less")
        if settings.max_bucket_reso < high:
            what = f"max_bucket_reso {settings.max_bucket_reso} is below the resolution {high}"
            raise SettingsError(what, remedy=f"set max_bucket_reso to {high} or more")
    if settings.bucket_reso_steps % 8:
        what = f"bucket_reso_steps is {settings.bucket_reso_steps}"
        raise SettingsError(what, remedy="give a multiple of 8, usually 64")
    if any(side % 8 for side in settings.resolution):
        raise SettingsError(f"resolution is {settings.resolution}", remedy="give multiples of 8")


def _check_latents(settings: TrainSettings) -> None:
    if settings.random_crop and (settings.cache_latents or settings.cache_latents_to_disk):
        remedy = "switch cache_latents and cache_latents_to_disk off, or random_crop"
        raise SettingsError("random_crop takes another piece each time, so the latents cannot be cached", remedy=remedy)


def warnings(settings: TrainSettings) -> tuple[str, ...]:
    """Sentences about what is unwise, or has no effect in this combination."""
    return tuple(f"{text}." for text in _warnings(settings))


def _warnings(s: TrainSettings) -> Iterator[str]:
    if s.network_alpha > s.network_dim:
        yield f"network_alpha {s.network_alpha:g} is above network_dim {s.network_dim}: pictures burn, use dim or less"
    if s.max_train_epochs is not None and s.max_train_steps is not None:
        yield "max_train_steps has no effect, since max_train_epochs is set"
    if s.unet_lr is not None and s.text_encoder_lr is not None and s.learning_rate is not None:
        yield "learning_rate has no effect, since unet_lr and text_encoder_lr are both set"
    if s.network_train_unet_only and s.text_encoder_lr:
        yield "text_encoder_lr has no effect, since network_train_unet_only is on"
    if s.network_train_text_encoder_only and s.unet_lr:
        yield "unet_lr has no effect, since network_train_text_encoder_only is on"
    if s.lr_scheduler != "cosine_with_restarts" and s.lr_scheduler_num_cycles != 1:
        yield f"lr_scheduler_num_cycles has no effect with lr_scheduler {s.lr_scheduler}"
    if s.lr_scheduler == "constant_with_warmup" and not s.lr_warmup_steps:
        yield "constant_with_warmup without lr_warmup_steps is constant"
    yield from _rate_warnings(s)
    yield from _dataset_warnings(s)
    if s.sample_prompts.strip() and not (s.sample_every_n_epochs or s.save_every_n_epochs):
        yield "sample_prompts are drawn at the end only, since neither sample_ nor save_every_n_epochs is set"
    if not s.sample_prompts.strip() and (s.sample_every_n_epochs or s.sample_at_first):
        yield "no pictures are made on the way, since sample_prompts is empty"


def _rate_warnings(s: TrainSettings) -> Iterator[str]:
    adaptive = KINDS[s.optimizer_type].adaptive
    for group in groups_of(s):
        if adaptive and group.learning_rate <= HIGHEST_LR:
            yield f"{s.optimizer_type} finds its own rate: {group.name}_lr {group.learning_rate:g} slows it, 1 is usual"
        if not adaptive and group.learning_rate > HIGH_LR:
            yield f"{group.name}_lr {group.learning_rate:g} is very high for {s.optimizer_type}, 0.0001 is usual"


def _dataset_warnings(s: TrainSettings) -> Iterator[str]:
    if not s.shuffle_caption and not s.caption_tag_dropout_rate:
        if s.keep_tokens > 1:
            yield "keep_tokens has no effect, since tags are neither shuffled nor dropped"
        if s.keep_tokens_separator:
            yield "keep_tokens_separator has no effect, and stays in the captions, since no tags are moved"
    if not s.reg_data_dir and s.prior_loss_weight != 1:
        yield "prior_loss_weight has no effect without regularisation pictures (reg_data_dir)"
    if not s.validation_data_dir and s.validate_every_n_epochs != 1:
        yield "validate_every_n_epochs has no effect without held-out pictures (validation_data_dir)"
    bucket_names = ("min_bucket_reso", "max_bucket_reso", "bucket_reso_steps", "bucket_no_upscale")
    if not s.enable_bucket:
        yield from (f"{name} has no effect, since enable_bucket is off" for name in bucket_names if _changed(s, name))
    elif s.bucket_no_upscale:
        yield from (f"{n} has no effect, since bucket_no_upscale is on" for n in bucket_names[:2] if _changed(s, n))
    if s.vae_batch_size != 1 and not (s.cache_latents or s.cache_latents_to_disk):
        yield "vae_batch_size has no effect, since the latents are not cached"


def _changed(s: TrainSettings, name: str) -> bool:
    return bool(getattr(s, name) != TrainSettings.spec(name).default)
