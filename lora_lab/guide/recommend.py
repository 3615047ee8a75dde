"""From answers to settings, each with one line why and where that comes from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lora_lab.families import Family
from lora_lab.guide import pictures_part, training_part
from lora_lab.guide.answers import Answers
from lora_lab.guide.difficulty import BY_LETTER
from lora_lab.guide.source import Source, guide
from lora_lab.guide.value import Value


@dataclass(frozen=True)
class Method:
    """How captions and regularisation pictures are used: the guide's three styles of training."""

    name: str
    """finetune, dreambooth or keyword."""
    why: str
    source: Source


@dataclass(frozen=True)
class Recommendation:
    """What is proposed."""

    answers: Answers
    method: Method
    values: tuple[Value, ...]
    remarks: tuple[str, ...]
    """What no setting says."""
    samples: int
    """Pictures to be seen in all: steps at batch 1."""

    @property
    def settings(self) -> dict[str, Any]:
        """Setting -> value."""
        return {value.name: value.value for value in self.values}

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "method": {"name": self.method.name, "why": self.method.why, "source": str(self.method.source)},
            "settings": [
                {"name": v.name, "value": v.value, "why": v.why, "source": str(v.source)} for v in self.values
            ],
            "remarks": list(self.remarks),
            "samples": self.samples,
        }


def recommend(answers: Answers, repeats: int = 1) -> Recommendation:
    """Settings for these answers.

    Args:
        answers: of the person.
        repeats: mean repeats of a picture in an epoch, as the folders have them.
    """
    method = method_of(answers)
    samples = samples_of(answers, regularised=method.name == "dreambooth")
    found: dict[str, Value] = {}
    for part in (*training_part.parts(answers), *pictures_part.parts(answers, method.name)):
        found[part.name] = part
    batch = int(found["train_batch_size"].value)
    for part in _length(answers, samples, batch, repeats, regularised=method.name == "dreambooth"):
        found[part.name] = part
    return Recommendation(answers, method, tuple(found.values()), tuple(_remarks(answers)), samples)


def changed(recommendation: Recommendation, settings: Mapping[str, Any]) -> list[Value]:
    """The recommended values from which these settings differ."""
    return [v for v in recommendation.values if v.name in settings and settings[v.name] != v.value]


def method_of(a: Answers) -> Method:
    """Finetune, dreambooth or keyword style."""
    if a.making != "style" and a.captions and (not a.good or a.look == "free"):
        why = "regularisation pictures keep the style of these pictures out of the character, at twice the steps"
        return Method("dreambooth", why, guide('When to use "finetune" or "dreambooth style" training'))
    if not a.captions:
        why = "without captions the folder's name is the word for everything: little work, less control"
        return Method("keyword", why, guide('"Keyword style"'))
    why = "captions say what can be switched; what they leave out belongs to the trigger"
    return Method("finetune", why, guide('"Finetune style" (Default)'))


def samples_of(a: Answers, *, regularised: bool) -> int:
    """Pictures to be seen in all (steps at batch 1), as the guide counts them."""
    if a.making == "style":
        samples = 3000
    elif a.making in ("concept", "outfit"):
        samples = 1500
    elif a.making == "several":
        samples = 2000
    elif a.known and a.difficulty == "A":
        samples = 400
    elif a.known:
        samples = 800
    else:
        samples = 1600 if not a.good or a.difficulty >= "F" else 1500 if a.difficulty >= "E" else 1200
    if a.look == "skin":
        samples = samples * 3 // 4
    return samples * (2 if regularised else 1)


def _length(a: Answers, samples: int, batch: int, repeats: int, *, regularised: bool) -> Iterator[Value]:
    per_epoch = a.pictures * max(1, repeats) * (2 if regularised else 1)
    epochs = max(1, math.ceil(samples / per_epoch))
    steps = epochs * math.ceil(per_epoch / batch)
    why = f"{epochs} passes over {a.pictures} pictures are about {steps:,} steps of {batch}, near the {samples:,}"
    why += " pictures that it takes to stick"
    yield Value("max_train_epochs", epochs, why, guide("Number of steps/epochs"))
    every = max(1, epochs // 5)
    why = "a snapshot on the way may be better than the end"
    yield Value("save_every_n_epochs", every, why, guide("Overfitting"))


def _remarks(a: Answers) -> Iterator[str]:
    if a.known and a.making == "character":
        yield (
            "The checkpoint draws it already: train on the tags by which it does, or on a new word if you want to "
            "leave that behind."
        )
        if a.difficulty == "A":
            yield "A plain character that it knows may need no LoRA at all: try a prompt or an embedding first."
    if a.pictures < 10 and a.making == "character":
        yield (
            "Fewer than ten pictures are a matter of luck: edit variants out of them (img2img at about 0.7, CFG 5 to "
            "7) "
            "until there are ten to 25."
        )
    if a.making == "several":
        yield "Give each subject a folder, and repeats so that all come equally often; fewer backgrounds than subjects."
    if a.family is Family.SDXL and a.vram and a.vram < 8:
        yield "SDXL wants 8 GB of card memory at the least, 10 and more in comfort."
    if a.family is not Family.SDXL and a.vram is not None and 0 < a.vram < 6:
        yield "Less than 6 GB of card memory is below what the guide calls enough; gradient_checkpointing makes it fit."
    if a.making == "character" and a.difficulty == "I":
        yield f"{BY_LETTER['I'].text.capitalize()}: the guide only guesses here. Expect several bakes."
    if a.making == "style":
        yield "Styles need no tag of their own, but one helps to turn them up and down."
