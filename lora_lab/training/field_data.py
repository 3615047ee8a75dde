"""The settings about pictures, buckets and latents. Names and meaning are kohya's."""

from __future__ import annotations

from dataclasses import dataclass

from lora_lab.training.fields import setting


@dataclass(frozen=True)
class DataFields:
    """Which pictures, in which sizes."""

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
    prior_loss_weight: float = setting(
        1.0, "How much a regularisation picture counts against a picture of yours.", kind="float", group="dataset",
        minimum=0, maximum=10,
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
