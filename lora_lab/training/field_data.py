"""The settings about pictures, buckets, captions and latents. Names and meaning are kohya's."""

from __future__ import annotations

from dataclasses import dataclass

from lora_lab.training.fields import setting


@dataclass(frozen=True)
class DataFields:
    """Which pictures, in which sizes, with which captions."""

    train_data_dir: str = setting(
        "", "Folder that holds the concept folders named <repeats>_<name>, such as 10_mika.", kind="folder",
        group="dataset",
    )
    reg_data_dir: str = setting(
        "",
        "Folder of regularisation pictures in the same shape; they keep the class from drifting.",
        kind="folder", group="dataset", cost="up to twice the steps per epoch",
    )
    validation_data_dir: str = setting(
        "",
        "Folder of held-out pictures in the same shape; they are never trained on and show when it starts to overfit.",
        kind="folder", group="dataset", cost="four forward passes per picture at each check",
    )
    validate_every_n_epochs: int = setting(
        1, "How often the held-out pictures are measured.", kind="int", group="dataset", unit="epochs", minimum=1
    )
    resolution: tuple[int, int] = setting(
        (512, 512),
        "Size to train at, one number or width,height; with buckets it is the area that each bucket keeps.",
        kind="size", group="buckets", unit="pixels", cost="time and memory grow with the area",
        minimum=8, maximum=4096, aliases=("max_resolution",),
    )
    enable_bucket: bool = setting(
        True,
        "Keep each picture's shape and train similar shapes together; off, every picture must have the resolution.",
        kind="bool", group="buckets", kohya_default=False,
    )
    min_bucket_reso: int = setting(
        256, "Shortest side a bucket may have.", kind="int", group="buckets", unit="pixels", minimum=8, maximum=4096
    )
    max_bucket_reso: int = setting(
        1024, "Longest side a bucket may have.", kind="int", group="buckets", unit="pixels", minimum=8, maximum=8192
    )
    bucket_reso_steps: int = setting(
        64, "Bucket sides are multiples of this.", kind="int", group="buckets", unit="pixels", minimum=8, maximum=512
    )
    bucket_no_upscale: bool = setting(
        False, "Never enlarge a small picture; it gets a bucket of its own size instead.", kind="bool", group="buckets"
    )
    flip_aug: bool = setting(
        False,
        "Mirror half of the pictures at random; wrong for asymmetrical characters and writing.",
        kind="bool", group="dataset", cost="twice the latents in the cache",
    )
    random_crop: bool = setting(
        False,
        "Cut at a random place instead of the centre; the latents cannot be cached then.",
        kind="bool", group="dataset", cost="every picture is encoded again at every step",
    )
    cache_latents: bool = setting(
        True,
        "Encode each picture once before the training and keep the latents in memory.",
        kind="bool", group="latents", cost="about 0.07 MB per picture at 512 pixels", kohya_default=False,
    )
    cache_latents_to_disk: bool = setting(
        False,
        "Keep the latents on disk too, so that the next run on these pictures starts at once.",
        kind="bool", group="latents", cost="about 0.07 MB of disk per picture at 512 pixels",
    )
    vae_batch_size: int = setting(
        1, "Pictures encoded at a time while caching.", kind="int", group="latents", unit="pictures",
        cost="memory grows with it", minimum=1, maximum=64,
    )
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
    keep_tokens: int = setting(
        1, "So many tags at the front stay in place, the trigger word among them.", kind="int", group="captions",
        unit="tags", minimum=0, maximum=255, kohya_default=0,
    )
    keep_tokens_separator: str = setting(
        "", "A mark such as ||| in a caption: what stands before it stays in place, whatever keep_tokens says.",
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
    prior_loss_weight: float = setting(
        1.0, "How much a regularisation picture counts against a picture of yours.", kind="float", group="dataset",
        minimum=0, maximum=10,
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
