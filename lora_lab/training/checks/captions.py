"""What becomes of the captions."""

from __future__ import annotations

from collections.abc import Iterator

from lora_lab.training.settings import TrainSettings


def check(settings: TrainSettings) -> None:
    """Every combination can be run."""


def warnings(s: TrainSettings) -> Iterator[str]:
    """Options that nothing makes use of."""
    if not s.shuffle_caption and not s.caption_tag_dropout_rate:
        if s.keep_tokens > 1:
            yield "keep_tokens has no effect, since tags are neither shuffled nor dropped"
        if s.keep_tokens_separator:
            yield "keep_tokens_separator has no effect, and stays in the captions, since no tags are moved"
