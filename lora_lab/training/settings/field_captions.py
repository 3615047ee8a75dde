"""The settings about captions. Names and meaning are kohya's."""

from __future__ import annotations

from dataclasses import dataclass

from lora_lab.training.settings.fields import setting


@dataclass(frozen=True)
class CaptionFields:
    """What becomes of a caption before the text encoder reads it."""

    caption_extension: str = setting(
        ".txt", "Ending of the caption files beside the pictures.", kind="text", group="captions",
        kohya_default=".caption", aliases=("caption_extention",),
    )
    caption_prefix: str = setting(
        "", "Text put before every caption, with a blank between.", kind="text", group="captions"
    )
    caption_suffix: str = setting(
        "", "Text put behind every caption, with a blank between.", kind="text", group="captions"
    )
    enable_wildcard: bool = setting(
        False, "Take a random line of a caption file, and one choice of each {a|b} in it; off takes the first line.",
        kind="bool", group="captions",
    )
    shuffle_caption: bool = setting(
        True, "Put the tags in a new order each time, so that none is tied to its place.", kind="bool",
        group="captions", kohya_default=False,
    )
    caption_separator: str = setting(
        ",", "What stands between the tags of a caption file.", kind="text", group="captions"
    )
    keep_tokens: int = setting(
        1, "So many tags at the front stay in place, the trigger word among them.", kind="int", group="captions",
        unit="tags", minimum=0, maximum=255, kohya_default=0,
    )
    keep_tokens_separator: str = setting(
        "", "A mark such as ||| in a caption: what stands before it stays in place, whatever keep_tokens says, and "
        "what stands behind a second one too.",
        kind="text", group="captions",
    )
    secondary_separator: str = setting(
        "", "A mark such as ;;; between tags that move and drop as one; it becomes a comma in the end.", kind="text",
        group="captions",
    )
    caption_dropout_rate: float = setting(
        0.0, "Share of the time that a picture is trained without its caption.", kind="float", group="captions",
        unit="share from 0 to 1", minimum=0, maximum=1,
    )
    caption_dropout_every_n_epochs: int = setting(
        0, "Every so many epochs, train the whole epoch without captions; 0 is never.", kind="int", group="captions",
        unit="epochs", minimum=0,
    )
    caption_tag_dropout_rate: float = setting(
        0.0, "Chance of each tag behind the kept ones to be left out.", kind="float", group="captions",
        unit="share from 0 to 1", minimum=0, maximum=1,
    )
    token_warmup_min: int = setting(
        1, "With token_warmup_step: so many tags behind the kept ones are used at the start.", kind="int",
        group="captions", unit="tags", minimum=0, maximum=255,
    )
    token_warmup_step: float = setting(
        0.0, "Tags are added one by one until this step; below 1 a share of the run, 0 is off.", kind="float",
        group="captions", unit="steps, or a share below 1", minimum=0,
    )
    weighted_captions: bool = setting(
        False,
        "Brackets weigh words as in prompts: (a:1.3), (a) for 1.1, [a] for 1 / 1.1; off, they are read as they stand.",
        kind="bool", group="captions",
    )
    clip_skip: int | None = setting(
        None,
        "Take the text encoder's n-th layer from the end, as you do when generating; empty takes the host's setting.",
        kind="int", group="captions", unit="layers", minimum=1, maximum=12, kohya_default=1,
    )
    max_token_length: int = setting(
        75, "Room for a caption; what is longer is cut off.", kind="int", group="captions", unit="tokens",
        cost="the text encoder's time grows with it", choices=("75", "150", "225"),
    )
