"""Regularisation pictures made with the live model: what to make, and making it, again and again until all is there.

Three routes, as the guide has them: *easy* (a prompt of the class, any number), *hard* (for each training picture one
of the same name: its caption without the trigger, its bucket's size, one seed, DDIM) and *random* (tags of the
dataset, mixed). Pictures that are there already are left alone, so a stopped round goes on where it was.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from PIL.PngImagePlugin import PngInfo

from lora_lab.dataset.captions import first_line, split_tags
from lora_lab.errors import DatasetError, OutputError, SettingsError
from lora_lab.host.base import PreviewRequest

if TYPE_CHECKING:
    from PIL import Image

    from lora_lab.dataset.buckets import Size
    from lora_lab.dataset.folders import Subset
    from lora_lab.dataset.scan import Item, ScanReport
    from lora_lab.host.base import Host

Route = Literal["easy", "hard", "random"]
Listen = Callable[[str, int, int], None]
"""Stage, done, total; raises `Interrupted` to stop."""


@dataclass(frozen=True)
class RegularisationSettings:
    """What to make."""

    route: Route = "hard"
    class_name: str = "1girl"
    """The class that the subject belongs to: the folder's name, and the prompt of the easy route if it has none."""
    prompt: str = ""
    """Easy route only: the class as a prompt."""
    count: int | None = None
    """Easy and random routes: pictures, 1 or more; None makes one for each training picture."""
    triggers: tuple[str, ...] = ()
    """Tags left out of prompts; none given: the first tag of a subset, if all of its captions begin with it."""
    negative: str = ""
    seed: int = 420
    """Hard route: of every picture, best the training's own; the others count up from it."""
    steps: int = 30
    cfg_scale: float = 7.0
    sampler: str = "DDIM"
    batch_size: int = 4
    captions: bool = True
    """Write each prompt beside its picture."""

    def check(self) -> None:
        """Refuse what cannot be made.

        Raises:
            SettingsError: the reason.
        """
        name = self.class_name.strip()
        if not name or any(letter in name for letter in '/\\:*?"<>|') or name.startswith("."):
            remedy = 'give a word such as 1girl, without any of / \\ : * ? " < > |'
            raise SettingsError(f"the class is named {self.class_name!r}", remedy=remedy)
        for what, value in (("count", self.count), ("steps", self.steps), ("batch_size", self.batch_size)):
            if value is not None and value < 1:
                raise SettingsError(f"{what} is {value}", remedy="give 1 or more")


@dataclass(frozen=True)
class Wanted:
    """One picture to make."""

    path: Path
    caption: str
    size: Size
    seed: int


@dataclass(frozen=True)
class RegularisationPlan:
    """All pictures of a round, and how they are made."""

    settings: RegularisationSettings
    wanted: tuple[Wanted, ...]

    @property
    def missing(self) -> tuple[Wanted, ...]:
        """Those that are not there yet, pictures of one size together."""
        return tuple(sorted((w for w in self.wanted if not w.path.is_file()), key=lambda w: w.size))


def plan(report: ScanReport, settings: RegularisationSettings, out: Path) -> RegularisationPlan:
    """What to make for a dataset.

    Args:
        report: of the training pictures; its buckets give the sizes.
        settings: the route and how pictures are made.
        out: the regularisation folder; ``<repeats>_<class>`` folders come below it.

    Raises:
        SettingsError: see `RegularisationSettings.check`.
        DatasetError: there is no training picture.
    """
    settings.check()
    items = [item for item in report.items if not item.subset.regularisation]
    if not items:
        raise DatasetError("there is no training picture", file=report.folder, remedy="choose the dataset's folder")
    make = _by_picture if settings.route == "hard" else _by_number
    return RegularisationPlan(settings, tuple(make(items, report, settings, out)))


def triggers_of(subset: Subset) -> tuple[str, ...]:
    """The first tag, if every caption of the subset begins with it."""
    firsts = {next(iter(split_tags(first_line(p.caption))), "") for p in subset.pictures}
    return (firsts.pop(),) if len(firsts) == 1 and len(subset.pictures) > 1 else ()


def make_pictures(host: Host, planned: RegularisationPlan, listen: Listen) -> int:
    """Make what is missing, a batch at a time; each picture is on disk before the next batch begins.

    Returns:
        The number of pictures made now.

    Raises:
        HostBusyError: another checkpoint was loaded meanwhile; what was made stays.
        OutputError: a picture cannot be written.
        Interrupted: `listen` or the host says so.
    """
    settings, missing = planned.settings, planned.missing
    total, made = len(planned.wanted), len(planned.wanted) - len(missing)
    began = made
    info = host.current()
    listen("regularisation pictures", made, total)
    for batch in _batches(missing, settings.batch_size):
        request = PreviewRequest(
            prompts=tuple(host.as_prompt(w.caption) for w in batch), seeds=tuple(w.seed for w in batch),
            negative=settings.negative, width=batch[0].size[0], height=batch[0].size[1], steps=settings.steps,
            cfg_scale=settings.cfg_scale, sampler=settings.sampler,
        )  # fmt: skip
        with host.lease("pictures", info.identity if info else None) as model:
            result = model.generate(request)
        for wanted, image, infotext in zip(batch, result.images, result.infotexts, strict=True):
            save_picture(image, wanted.path, infotext, wanted.caption if settings.captions else None)
        made += len(batch)
        listen("regularisation pictures", made, total)
    return made - began


def save_picture(image: Image.Image, path: Path, infotext: str, caption: str | None) -> None:
    """Write a PNG with the webui's text inside, and its caption file first, each whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    note = PngInfo()
    note.add_text("parameters", infotext)
    part = path.with_name(f".{path.name}.{time.time_ns()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if caption is not None:
            part.write_text(caption + "\n", encoding="utf-8")
            os.replace(part, path.with_suffix(".txt"))
        image.save(part, "PNG", pnginfo=note)
        os.replace(part, path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        what = f"the picture cannot be written ({error.strerror or error})"
        raise OutputError(what, file=path, remedy="check the folder's rights and the room on the disk") from error


def _by_picture(
    items: Sequence[Item], report: ScanReport, settings: RegularisationSettings, out: Path
) -> Iterator[Wanted]:
    """The hard route: names, sizes and prompts of the training pictures."""
    several = len({item.subset.folder for item in items}) > 1
    taken: set[Path] = set()
    for item in items:
        name = f"{settings.class_name} {item.subset.name}" if several else settings.class_name
        folder = out / f"{item.subset.repeats}_{name.strip()}"
        path = folder / f"{item.picture.path.stem}.png"
        if path in taken:  # a.png and a.jpg
            path = folder / f"{item.picture.path.name.replace('.', '_')}.png"
        taken.add(path)
        caption = _without(item.picture.caption, settings.triggers or triggers_of(item.subset))
        yield Wanted(path, ", ".join(caption) or settings.class_name, item.placement.bucket, settings.seed)


def _by_number(
    items: Sequence[Item], report: ScanReport, settings: RegularisationSettings, out: Path
) -> Iterator[Wanted]:
    """The easy and the random route: as many as wanted, repeated to match an epoch of the training pictures."""
    count = settings.count or len(items)
    epoch = sum(item.subset.repeats for item in items)
    folder = out / f"{max(1, round(epoch / count))}_{settings.class_name.strip()}"
    r = random.Random(f"{settings.route} {settings.seed}")
    side = tuple(length // 8 * 8 for length in report.options.resolution)
    pool = [_without(item.picture.caption, settings.triggers or triggers_of(item.subset)) for item in items]
    for n in range(count):
        caption, size = settings.prompt.strip() or settings.class_name, (side[0], side[1])
        if settings.route == "random":
            caption, size = _mixed(pool, r) or settings.class_name, r.choice(items).placement.bucket
        yield Wanted(folder / f"{settings.route}_{n + 1:05}.png", caption, size, settings.seed + n)


def _mixed(pool: Sequence[Sequence[str]], r: random.Random) -> str:
    """Half of the tags of one caption and half of another's."""
    one, other = r.choice(pool), r.choice(pool)
    found = [*r.sample(one, (len(one) + 1) // 2), *r.sample(other, len(other) // 2)]
    return ", ".join(dict.fromkeys(found))


def _without(text: str, triggers: Sequence[str]) -> list[str]:
    drop = {trigger.strip().lower() for trigger in triggers}
    return [tag for tag in split_tags(first_line(text)) if tag.lower() not in drop]


def _batches(wanted: Sequence[Wanted], size: int) -> Iterator[list[Wanted]]:
    for _, group in groupby(wanted, key=lambda w: w.size):
        same = list(group)
        yield from (same[i : i + size] for i in range(0, len(same), size))
