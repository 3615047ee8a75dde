"""Facts of a project at which no rule speaks, to be spoiled one thing at a time."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from lora_lab.families import Family
from lora_lab.guide.answers import Answers
from lora_lab.guide.facts import Concept, Facts, Length, Rate
from lora_lab.guide.recommend import recommend
from lora_lab.training.learning.optimizer_kinds import kind_of, parse_args
from lora_lab.training.plan import groups_of
from lora_lab.training.settings import TrainSettings

TAGS = {"mika": 40, "red hair": 40, "hat": 20, "standing": 12, "sitting": 9, "smile": 30, "outdoors": 15, "1girl": 40}
MIKA = Concept("mika", 40, 1, 40, "mika", 1.0, 2, TAGS)
CHECKPOINT = "animefull-final-pruned.ckpt"


def good(answers: Answers | None = None, **answered: Any) -> Facts:
    """40 good pictures of one character, with what is recommended for them."""
    a = answers or Answers(**answered)
    family_name = "sd_xl_base_1.0.safetensors" if a.family is Family.SDXL else CHECKPOINT
    knows = "other" if a.family is Family.SDXL else a.knows
    settings = TrainSettings.from_mapping(recommend(a).settings)
    size = settings.resolution[0]
    concept = dataclasses.replace(MIKA, pictures=a.pictures, captioned=a.pictures if a.captions else 0)
    facts = Facts(
        settings={}, family=a.family, checkpoint=family_name, knows=knows, concepts=(concept,), answers=a,
        sizes=((size, size),) * a.pictures, buckets={(size, size): a.pictures}, vram=a.vram,
        reg_pictures=0 if a.good and a.look != "free" or a.making == "style" else a.pictures,
    )  # fmt: skip
    return with_settings(facts, settings)


def with_settings(facts: Facts, settings: TrainSettings) -> Facts:
    """The same project with other settings; steps, rates and kind of optimizer follow."""
    items = sum(c.pictures * c.repeats for c in facts.concepts) * (2 if facts.reg_pictures else 1)
    batches = math.ceil(items / settings.train_batch_size)
    per_epoch = math.ceil(batches / settings.gradient_accumulation_steps)
    epochs = settings.max_train_epochs or math.ceil((settings.max_train_steps or 10 * per_epoch) / per_epoch)
    steps = epochs * per_epoch if settings.max_train_epochs else (settings.max_train_steps or epochs * per_epoch)
    warmup = settings.lr_warmup_steps
    kind = kind_of(settings.optimizer_type)
    return dataclasses.replace(
        facts, settings=settings.to_mapping(), adaptive=kind.adaptive,
        relative=kind.relative(parse_args(settings.optimizer_args)),
        rates=tuple(Rate(g.name, g.learning_rate) for g in groups_of(settings)),
        length=Length(steps, epochs, per_epoch, int(warmup * steps if warmup < 1 else warmup), items, batches),
    )  # fmt: skip


def changed(facts: Facts, **changes: Any) -> Facts:
    """Settings of the project changed."""
    return with_settings(facts, TrainSettings.from_mapping(facts.settings).replace(**changes))
