"""The recommended sizes, buckets, captions and augmentations."""

from __future__ import annotations

from collections.abc import Iterator

from lora_lab.families import Family
from lora_lab.guide.answers import Answers
from lora_lab.guide.source import KOHYA_SDXL, OURS, guide
from lora_lab.guide.value import Value

USUAL = {Family.SD1: 512, Family.SD2: 768, Family.SDXL: 1024}
MANY = 20
"""From so many pictures on a few can be spared to measure with."""


def parts(a: Answers, method: str) -> Iterator[Value]:
    """All of them; `method` is finetune, dreambooth or keyword."""
    yield from _sizes(a)
    yield from _captions(a, method)
    if a.asymmetric:
        yield Value(
            "flip_aug",
            False,
            "one side differs from the other: mirrored pictures would mix them",
            guide("Augmentations"),
        )
    else:
        yield Value(
            "flip_aug",
            True,
            "twice the pictures for nothing, where left and right do not matter",
            guide("Augmentations"),
        )
    yield Value("cache_latents", True, "pictures are encoded once; flips are kept too", guide("Augmentations"))
    if a.pictures >= MANY:
        why = "a tenth is held out: its loss tells when the rest is only learnt by heart"
        yield Value("validation_split", 0.1, why, OURS)


def resolution_of(a: Answers) -> int:
    """Pixels of a square."""
    if a.resolution is not None:
        return a.resolution
    detailed = a.making == "style" or (a.making == "character" and (a.difficulty >= "E" or a.knows == "furry"))
    enough = a.vram is None or a.vram == 0 or a.vram >= 8
    return 576 if a.family is Family.SD1 and detailed and enough else USUAL[a.family]


def _sizes(a: Answers) -> Iterator[Value]:
    side = resolution_of(a)
    if a.resolution is not None:
        yield Value("resolution", side, "the size that this checkpoint was made for", OURS)
    elif side == 576:
        yield Value("resolution", side, "a little above 512 brings out small details", guide("Resolution"))
    else:
        yield Value("resolution", side, "what the checkpoint was trained on", guide("Resolution"))
    low = max(64, side * 5 // 8 // 64 * 64)
    high = max(side, -(-side * 3 // 2 // 64) * 64)
    yield Value("enable_bucket", True, "every picture keeps its shape", guide("Image size/aspect ratio"))
    why = "fewer and fuller buckets than 256 to 1024 give"
    yield Value("min_bucket_reso", low, why, guide("Image size/aspect ratio"))
    yield Value("max_bucket_reso", high, why, guide("Image size/aspect ratio"))


def _captions(a: Answers, method: str) -> Iterator[Value]:
    if a.family is Family.SD1 and a.knows != "other":  # else the setting of the webui is taken
        skip = 2 if a.knows in ("anime", "furry") else 1
        texts = {"anime": "NAI and its kin are made and used with 2", "furry": "most follow NAI; look at its page"}
        text = texts.get(a.knows, "realistic checkpoints are used with 1")
        yield Value("clip_skip", skip, f"{text}: as you generate, so you train", guide("CLIP skip"))
    if method == "keyword":
        return
    tight = a.family is Family.SDXL and a.vram is not None and 0 < a.vram < 12
    if tight:
        why = "the text encoders can leave the card; captions then stay in one order"
        yield Value("cache_text_encoder_outputs", True, why, KOHYA_SDXL)
        yield Value("shuffle_caption", False, "what is kept cannot change its order", KOHYA_SDXL)
    else:
        why = "no tag wins by its place"
        yield Value("shuffle_caption", True, why, guide("Sample PowerShell script"))
        yield Value("keep_tokens", 1, "the trigger stays first", guide("When to tag characters/styles"))
    yield Value("max_token_length", 225, "long lists of tags are not cut", guide('The "Easy settings"'))
