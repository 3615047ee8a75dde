"""What rules look at: settings, pictures, captions, checkpoint and what the run has shown, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lora_lab.families import Family
from lora_lab.guide.answers import Answers, Knows


@dataclass(frozen=True)
class Concept:
    """One folder of training pictures."""

    name: str
    pictures: int
    repeats: int
    captioned: int
    """Pictures with a caption file."""
    trigger: str = ""
    """The tag that most captions begin with."""
    trigger_share: float = 0.0
    """Of the captions, 0..1."""
    trigger_tokens: int | None = None
    """What the text encoder makes of it; None while no checkpoint is loaded."""
    tags: Mapping[str, int] = field(default_factory=dict)
    """Tag in small letters with blanks -> captions that have it."""


@dataclass(frozen=True)
class Rate:
    """What a part of the checkpoint learns at."""

    part: str
    """unet, text_encoder or text_encoder_2."""
    value: float


@dataclass(frozen=True)
class Length:
    """The run in numbers."""

    steps: int = 0
    epochs: int = 0
    steps_per_epoch: int = 0
    warmup: int = 0
    items: int = 0
    """Pictures of an epoch, repeats counted, regularisation pictures too."""
    batches: int = 0
    """Of an epoch."""


@dataclass(frozen=True)
class Course:
    """What the run has shown so far."""

    averages: tuple[tuple[int, float], ...] = ()
    """(step, mean loss of the last epoch's worth of steps)"""
    held_out: tuple[tuple[int, float], ...] = ()
    """(step, loss on the held-out pictures)"""
    rates: tuple[tuple[int, float], ...] = ()
    """(step, rate in force, for adaptive optimizers d * lr)"""
    early: Mapping[int, float] = field(default_factory=dict)
    """First timestep of a bin -> mean loss, in the first quarter of the epochs."""
    late: Mapping[int, float] = field(default_factory=dict)
    """The same in the last quarter."""
    steps: int = 0
    """Planned."""


@dataclass(frozen=True)
class Facts:
    """Everything at once; what is not known is empty, and rules that need it stay silent."""

    settings: Mapping[str, Any]
    """All settings by name, as `TrainSettings.to_mapping` gives them."""
    family: Family = Family.SD1
    checkpoint: str = ""
    """File name."""
    knows: Knows | None = None
    adaptive: bool = False
    """The optimizer finds its own rates."""
    relative: bool = False
    """Adafactor makes them out of the steps."""
    rates: tuple[Rate, ...] = ()
    length: Length = Length()
    concepts: tuple[Concept, ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()
    """Width and height of each training picture, in pixels."""
    buckets: Mapping[tuple[int, int], int] = field(default_factory=dict)
    """Bucket -> training items of an epoch."""
    reg_pictures: int = 0
    over_limit: int = 0
    """Captions that are longer than max_token_length."""
    longest: int = 0
    """Tokens of the longest caption; 0 is unknown."""
    answers: Answers | None = None
    """What the person said that it is to be; None when nothing was asked."""
    vram: float | None = None
    """GB; None is unknown, 0 none."""
    course: Course = Course()
    same_seed_bakes: int = 0
    """Finished bakes of this project with this seed, none of them with a good mark."""

    def get(self, name: str) -> Any:  # noqa: ANN401 - a setting's value
        """A setting's value."""
        return self.settings.get(name)

    def number(self, name: str) -> float:
        """A number's value; 0 where it is empty."""
        value = self.settings.get(name)
        return float(value) if isinstance(value, (int, float)) else 0.0

    @property
    def making(self) -> str:
        """What is made; empty while nobody has said."""
        return "" if self.answers is None else self.answers.making

    @property
    def pictures(self) -> int:
        """Training pictures, repeats not counted."""
        return sum(concept.pictures for concept in self.concepts)

    @property
    def samples(self) -> float:
        """Pictures that the whole run sees: the guide's steps (at batch 1)."""
        if not self.length.steps_per_epoch:
            return 0.0
        return self.length.items * self.length.steps / self.length.steps_per_epoch

    @property
    def scale(self) -> float:
        """alpha / dim, by which all that is learnt is multiplied."""
        dim = self.number("network_dim")
        alpha = self.number("network_alpha")
        return 1.0 if not dim or not alpha else alpha / dim

    def rate(self, part: str) -> float:
        """Rate of a part; 0 when it is not trained."""
        return next((rate.value for rate in self.rates if rate.part == part), 0.0)

    @property
    def text_rate(self) -> float:
        """Highest rate of the text encoders."""
        return max((rate.value for rate in self.rates if rate.part != "unet"), default=0.0)

    @property
    def arguments(self) -> dict[str, str]:
        """optimizer_args by name, as they are written."""
        pairs = (str(text).partition("=") for text in self.settings.get("optimizer_args") or ())
        return {name.strip(): value.strip() for name, _, value in pairs}

    def with_argument(self, name: str, value: str) -> list[str]:
        """optimizer_args with one of them changed or added."""
        return [f"{key}={text}" for key, text in {**self.arguments, name: value}.items()]

    @property
    def tags(self) -> dict[str, int]:
        """Tag -> captions that have it, over all concepts."""
        found: dict[str, int] = {}
        for concept in self.concepts:
            for tag, count in concept.tags.items():
                found[tag] = found.get(tag, 0) + count
        return found

    def share(self, *words: str) -> float:
        """Share of the captions that have a tag; the most frequent of `words` counts."""
        captioned = sum(concept.captioned for concept in self.concepts)
        tags = self.tags
        return max((tags.get(word, 0) for word in words), default=0) / captioned if captioned else 0.0
