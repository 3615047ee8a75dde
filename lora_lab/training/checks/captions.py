"""What becomes of the captions."""

from __future__ import annotations

from collections.abc import Iterator

from lora_lab.dataset.options import DatasetOptions
from lora_lab.errors import SettingsError
from lora_lab.training.plan import groups_of, options_of
from lora_lab.training.settings import TrainSettings


def check(settings: TrainSettings) -> None:
    """A separator between tags, and a text encoder that gives the same each time where its states are kept."""
    if not settings.caption_separator.strip():
        raise SettingsError("caption_separator is empty", remedy="use a comma")
    if not settings.dataset_config:
        check_text_cache(settings, options_of(settings))


def caches_text(settings: TrainSettings) -> bool:
    """Are the text encoder's states kept? To disk implies it."""
    return settings.cache_text_encoder_outputs or settings.cache_text_encoder_outputs_to_disk


def check_text_cache(settings: TrainSettings, options: DatasetOptions) -> None:
    """Refuse to keep states that would not be right at the next step.

    Args:
        settings: of the run.
        options: of one subset of it.

    Raises:
        SettingsError: the option that changes them.
    """
    if not caches_text(settings):
        return
    if any(group.name.startswith("text_encoder") for group in groups_of(settings)):
        what = "the text encoder's outputs cannot be cached while it is trained"
        raise SettingsError(what, remedy="set network_train_unet_only, or switch cache_text_encoder_outputs off")
    moving = {
        "shuffle_caption": "gives tags another order",
        "caption_tag_dropout_rate": "leaves out other tags",
        "token_warmup_step": "uses more tags",
    }
    for name, why in moving.items():
        if getattr(options, name):
            what = f"{name} {why} each time, so the text encoder's outputs cannot be cached"
            raise SettingsError(what, remedy=f"switch cache_text_encoder_outputs off, or {name}")


def warnings(s: TrainSettings) -> Iterator[str]:
    """Options that nothing makes use of."""
    if s.dataset_config:
        return  # each subset has its own
    options = options_of(s)
    if not options.moves_tags:
        if s.keep_tokens > 1:
            yield "keep_tokens has no effect, since tags are neither shuffled nor dropped"
        if s.keep_tokens_separator:
            yield "keep_tokens_separator has no effect, and stays in the captions, since no tags are moved"
        if s.caption_separator != "," and not s.secondary_separator:
            yield "caption_separator has no effect on the training, since no tags are moved"
    if s.token_warmup_min != TrainSettings.spec("token_warmup_min").default and not s.token_warmup_step:
        yield "token_warmup_min has no effect, since token_warmup_step is 0"
