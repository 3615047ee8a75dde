"""Where a value or a rule comes from."""

from __future__ import annotations

from dataclasses import dataclass

GUIDE = "the guide"


@dataclass(frozen=True)
class Source:
    """A place to read on."""

    work: str
    """``the guide``, a paper, another project."""
    place: str = ""
    """Heading, section, file."""
    later: bool = False
    """Practice after the guide that takes the place of what it says."""

    def __str__(self) -> str:
        text = f"{self.work}, {self.place}" if self.place else self.work
        return f"{text} (later than the guide)" if self.later else text


def guide(place: str) -> Source:
    """A heading of the guide."""
    return Source(GUIDE, place)


def later(work: str, place: str = "") -> Source:
    """What came after the guide and takes the place of its value."""
    return Source(work, place, later=True)


OURS = Source("LoRA Lab")
PRODIGY = later("konstmish/prodigy", "README, on diffusion models")
KOHYA_SDXL = later("kohya-ss/sd-scripts", "docs/train_SDXL-en.md, docs/sdxl_train_network.md")
LYCORIS = later("KohakuBlueleaf/LyCORIS", "docs/Guidelines.md")
SCALING = later("arXiv 2205.10287", "square root scaling")
