"""Variants of a dataset's picture by img2img on the live model: made aside, then kept or dropped one by one.

The guide's values: denoise about 0.7 and a mild CFG. A kept variant goes beside its picture, with its caption, and both
its name (``a_generated_7.png``) and its PNG text tell that it was generated.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from lora_lab.dataset import pictures
from lora_lab.dataset.buckets import make_buckets, place
from lora_lab.dataset.caption_files import caption_path, read_caption
from lora_lab.dataset.captions import first_line
from lora_lab.errors import DatasetError, OutputError, SettingsError
from lora_lab.host.base import PreviewRequest
from lora_lab.whole_file import write_whole
from lora_lab.workflow.regularisation import Listen, save_picture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lora_lab.dataset.folders import Picture
    from lora_lab.dataset.options import DatasetOptions
    from lora_lab.host.base import Host

MARK = "_generated_"


@dataclass(frozen=True)
class VariantSettings:
    """How variants are made."""

    count: int = 4
    """1 to 64."""
    denoise: float = 0.7
    """Above 0 (nothing changes) to 1 (only the size is kept)."""
    cfg_scale: float = 5.0
    steps: int = 30
    sampler: str = "Euler a"
    seed: int = 1
    """Of the first; the others count up."""
    negative: str = ""
    batch_size: int = 4

    def check(self) -> None:
        """Refuse what cannot be made.

        Raises:
            SettingsError: the reason.
        """
        if not 1 <= self.count <= 64:
            raise SettingsError(f"count is {self.count}", remedy="give 1 to 64")
        if self.batch_size < 1 or self.steps < 1:
            raise SettingsError("batch_size and steps are at least 1", remedy="give 1 or more")


def make_variants(
    host: Host, picture: Picture, options: DatasetOptions, settings: VariantSettings, listen: Listen
) -> list[Path]:
    """Make them in a folder of ours; nothing of the dataset changes.

    Args:
        host: lends the live model.
        picture: what to start from, with its caption as the prompt.
        options: of the dataset: the variant has the size of the picture's bucket.
        settings: how.
        listen: told of each batch; raises `Interrupted` to stop.

    Raises:
        SettingsError: a value out of range, or a sampler that the host lacks.
        HostBusyError: another checkpoint was loaded meanwhile.
        OutputError: our folder cannot be written to.
    """
    settings.check()
    placement = place(picture.size, options, make_buckets(options))
    start = pictures.load(picture.path, placement)
    folder = host.paths().data_dir / "variants" / pictures.content_hash(picture.path)[:16]
    caption = first_line(picture.caption)
    seeds = [settings.seed + n for n in range(settings.count)]
    made: list[Path] = []
    info = host.current()
    for i in range(0, len(seeds), settings.batch_size):
        batch = seeds[i : i + settings.batch_size]
        request = PreviewRequest(
            prompts=(host.as_prompt(caption),) * len(batch), seeds=tuple(batch), negative=settings.negative,
            width=placement.bucket[0], height=placement.bucket[1], steps=settings.steps, cfg_scale=settings.cfg_scale,
            sampler=settings.sampler, init_images=(start,) * len(batch), denoise=settings.denoise,
        )  # fmt: skip
        with host.lease("pictures", info.identity if info else None) as model:
            result = model.generate(request)
        for seed, image, infotext in zip(batch, result.images, result.infotexts, strict=True):
            path = folder / f"{picture.path.stem}{MARK}{seed}.png"
            save_picture(image, path, infotext, caption)
            made.append(path)
        listen("variants", len(made), len(seeds))
    return made


def take_back(picture: Path, results: Sequence[bytes], extension: str = ".txt") -> list[Path]:
    """Pictures that were made from one of the dataset elsewhere (img2img, inpaint), put beside it with its caption.

    Args:
        picture: of the dataset, which was sent there.
        results: files as they came back; a PNG's text goes along.
        extension: of the captions.

    Returns:
        The new files, marked as generated as variants are.

    Raises:
        DatasetError: a result is no picture, or there is none.
        OutputError: the folder cannot be written to.
    """
    if not results:
        raise DatasetError("there is no picture to take back", remedy="generate one in img2img first")
    caption = read_caption(caption_path(picture, extension))[0]
    taken = []
    for number, data in enumerate(results, 1):
        try:
            with Image.open(BytesIO(data)) as file:
                file.load()
                note, image = str(file.info.get("parameters", "")), file.convert("RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            what = f"what came back for {picture.name} is no picture"
            raise DatasetError(what, file=picture, remedy="generate it again") from error
        target = _free(picture.with_name(f"{picture.stem}{MARK}{number}.png"), extension)
        save_picture(image, target, note, None)
        if caption:
            write_whole(caption_path(target, extension), caption, "the caption")
        taken.append(target)
    return taken


def keep(variants: Sequence[Path], folder: Path, extension: str = ".txt") -> list[Path]:
    """Move variants into a folder of the dataset, with their captions; a name that is taken gets a number.

    Raises:
        DatasetError: a variant is gone.
        OutputError: the folder cannot be written to.
    """
    kept = []
    for variant in variants:
        if not variant.is_file():
            raise DatasetError("the variant is gone", file=variant, remedy="make it again")
        target = _free(folder / variant.name, extension)
        caption = caption_path(variant, ".txt")
        try:
            if caption.is_file():
                move(caption, caption_path(target, extension))
            move(variant, target)
        except OSError as error:
            what = f"the folder cannot be written to ({error.strerror or error})"
            raise OutputError(what, file=folder, remedy="check its rights and the room on the disk") from error
        kept.append(target)
    return kept


def drop(variants: Sequence[Path]) -> None:
    """Forget variants that were not kept: files of ours only, those that `make_variants` wrote."""
    for variant in variants:
        if MARK in variant.name:
            caption_path(variant, ".txt").unlink(missing_ok=True)
            variant.unlink(missing_ok=True)


def is_generated(path: Path) -> bool:
    """Does its name tell that it was generated?"""
    return MARK in path.stem


def _free(path: Path, extension: str) -> Path:
    found, number = path, 1
    while found.exists() or caption_path(found, extension).exists():
        number += 1
        found = path.with_name(f"{path.stem}_{number}{path.suffix}")
    return found


def move(source: Path, target: Path) -> None:
    """Whole or not at all, also onto another disk."""
    part = target.with_name(f".{target.name}.part")
    shutil.copyfile(source, part)
    os.replace(part, target)
    source.unlink()
