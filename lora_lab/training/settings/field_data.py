"""The settings about pictures, buckets and latents. Names and meaning are kohya's."""

from __future__ import annotations

from dataclasses import dataclass

from lora_lab.training.settings.fields import setting


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
    dataset_config: str = setting(
        "",
        "File (TOML or JSON) that names several datasets, each subset with settings of its own; it goes before the "
        "folders above.",
        kind="text", group="dataset",
    )
    in_json: str = setting(
        "",
        "kohya's metadata file with the captions of the pictures in train_data_dir, instead of caption files.",
        kind="text", group="dataset",
    )
    dataset_repeats: int = setting(
        1, "How often each picture of such a metadata file comes in an epoch.", kind="int", group="dataset",
        unit="times", minimum=1, maximum=100_000,
    )
    validation_data_dir: str = setting(
        "",
        "Folder of held-out pictures in the same shape; they are never trained on and show when it starts to overfit.",
        kind="folder", group="dataset", cost="four forward passes per picture at each check",
    )
    validate_every_n_epochs: int = setting(
        1, "How often the held-out pictures are measured.", kind="int", group="dataset", unit="epochs", minimum=1
    )
    validate_every_n_steps: int | None = setting(
        None, "How often they are measured within an epoch.", kind="int", group="dataset", unit="steps", minimum=1
    )
    validation_split: float = setting(
        0.0,
        "Share of the pictures of each concept that is held out, instead of a folder of its own.",
        kind="float", group="dataset", unit="share from 0 to 1", minimum=0, maximum=0.99,
    )
    validation_seed: int | None = setting(
        None, "Decides which pictures are held out; empty takes the seed of the run.", kind="int", group="dataset",
        minimum=0, maximum=2**32 - 1,
    )
    max_validation_steps: int | None = setting(
        None, "At most so many batches of held-out pictures are measured; empty measures all.", kind="int",
        group="dataset", unit="batches", minimum=1,
    )
    prior_loss_weight: float = setting(
        1.0, "How much a regularisation picture counts against a picture of yours.", kind="float", group="dataset",
        minimum=0, maximum=10,
    )
    loss_weights: str = setting(
        "", "How much the pictures of a concept count, a line for each: mika = 0.5. Others count 1.", kind="lines",
        group="dataset",
    )
    masked_loss: bool = setting(
        False, "Only the white parts of mask pictures are learnt, grey ones in part.", kind="bool", group="dataset"
    )
    conditioning_data_dir: str = setting(
        "",
        "Folder of the masks for masked_loss, named and as large as their pictures, in folders named as the concepts' "
        "or all together.",
        kind="folder", group="dataset",
    )
    alpha_mask: bool = setting(
        False, "Transparent parts of a picture are not learnt.", kind="bool", group="dataset"
    )
    masked_loss_normalize: bool = setting(
        False,
        "Mean over what the mask lets through, so that a small subject counts as much as a large one; off divides by "
        "all places, as kohya does.",
        kind="bool", group="dataset",
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
    color_aug: bool = setting(
        False, "Changes the hue or the brightness of every third picture a little; the latents cannot be cached then.",
        kind="bool", group="dataset", cost="every picture is encoded again at every step",
    )
    face_crop_aug_range: str = setting(
        "",
        "Cuts around the face, so many face sizes wide, such as 2.0,4.0; its place is read off the file's name "
        "(_x_y_width_height). Not with buckets, nor with cached latents.",
        kind="text", group="dataset", cost="every picture is encoded again at every step",
    )
    resize_interpolation: str = setting(
        "", "How pictures are resized: lanczos, nearest, bilinear, bicubic, area or box; empty takes the area where "
        "they shrink, else Lanczos.", kind="text", group="buckets",
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
    cache_text_encoder_outputs: bool = setting(
        False,
        "Reads every caption once before the training, all its variants too, so that the text encoder is not asked "
        "again; not while it is trained itself, nor with shuffled or dropped tags.",
        kind="bool", group="latents", cost="0.2 MB per caption for SD1, 0.6 MB for SDXL",
    )
    cache_text_encoder_outputs_to_disk: bool = setting(
        False, "Keeps them on disk too, so that the next run on these captions starts at once.", kind="bool",
        group="latents", cost="as much of disk",
    )
