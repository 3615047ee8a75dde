"""The demo: a LoRA for the demo world's new character, from its pictures to a score before and after."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_lab.demo import assets, world
from lora_lab.errors import TrainingError
from lora_lab.host.base import PreviewRequest
from lora_lab.testing.sheet import Row, sheet
from lora_lab.training import jobs
from lora_lab.training.events import Event, Progress
from lora_lab.training.settings import TrainSettings

if TYPE_CHECKING:
    from PIL import Image

    from lora_lab.host.base import Host, LoadedModel
    from lora_lab.network.adapter import Adapter

SCORED = 24
"""Pictures that the score is the mean of."""
BATCH = 8
"""Pictures made at a time."""
FIRST_SEED = 1000
GRID_PROMPTS = (
    world.CHARACTER,
    f"{world.CHARACTER}, smile, night sky",
    f"{world.CHARACTER}, glasses, open mouth, grass",
    "1girl, red hair, bob cut, green eyes, blue dress",
)
"""The trigger alone, with other tags, and a prompt without it, which should stay as it was."""
SETTINGS: dict[str, Any] = {
    "resolution": world.PICTURE_SIZE,
    "min_bucket_reso": world.MIN_BUCKET,
    "max_bucket_reso": 2 * world.PICTURE_SIZE,
    "bucket_reso_steps": world.BUCKET_STEP,
    "network_dim": 8,
    "network_alpha": 8,
    "unet_lr": 2e-3,
    "text_encoder_lr": 5e-4,
    "train_batch_size": 6,
    "max_train_epochs": 100,
    "lr_scheduler": "cosine",
    "lr_warmup_steps": 10,
    "min_snr_gamma": 5,
    "clip_skip": 1,
    "validate_every_n_epochs": 50,
    "seed": 1,
}
"""Rates are for the narrow demo checkpoint: a real one learns at a twentieth of them (see docs/demo.md)."""


@dataclass(frozen=True)
class DemoResult:
    """What the demo shows."""

    lora: Path
    grid: Path
    seconds: float
    steps: int
    val_loss_first: float | None
    val_loss_last: float | None
    concept_before: float
    """Share of the character's features that the demo tagger finds in pictures of the trigger alone, 0..1."""
    concept_after: float
    stopped_by: str | None
    """None when every step was done."""

    def to_json(self) -> dict[str, Any]:
        """The keys of `lora-lab demo --json`."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in vars(self).items()}


def run_demo(
    host: Host, folder: Path, listen: Callable[[Event], None], changes: dict[str, Any] | None = None
) -> DemoResult:
    """Draw the dataset, train, and look at the result.

    Args:
        host: with the demo checkpoint.
        folder: where dataset, LoRA and grid go; made if needed. An earlier demo's LoRA there is kept under its name.
        listen: gets the run's events.
        changes: settings other than the demo's own.

    Raises:
        LoraLabError: what the run ended with.
    """
    began = time.monotonic()
    data = assets.write_dataset(folder / "dataset")
    before, before_rows = look(host, None, listen)
    settings = TrainSettings.from_mapping(
        {
            **SETTINGS,
            "train_data_dir": str(data["character"]),
            "validation_data_dir": str(data["character_validation"]),
            "output_dir": str(folder),
            "output_name": free_name(folder, f"demo_{world.CHARACTER}"),
            **(changes or {}),
        }
    )
    run = jobs.queue().start(settings, host)
    run.listen(listen)
    try:
        while not (status := run.wait(0.5)).ended:
            pass
    except KeyboardInterrupt:
        run.stop()
        status = run.wait()
    ended = status.ended
    if run.error is not None:
        raise run.error
    if ended is None or ended.lora is None:
        raise TrainingError("the demo was stopped before it learnt anything", remedy="start it again")
    after, after_rows = look(host, ended.lora, listen)
    rows = [Row("before", before_rows), Row("after", after_rows)]
    grid = folder / f"{ended.lora.stem}.png"
    sheet(rows, GRID_PROMPTS).save(grid)
    return DemoResult(
        lora=ended.lora,
        grid=grid,
        seconds=round(time.monotonic() - began, 1),
        steps=ended.step,
        val_loss_first=ended.val_loss_first,
        val_loss_last=ended.val_loss_last,
        concept_before=before,
        concept_after=after,
        stopped_by=None if ended.reason == "finished" else ended.reason,
    )


def look(host: Host, lora: Path | None, listen: Callable[[Event], None]) -> tuple[float, list[Image.Image]]:
    """The concept's score, and one picture of each of `GRID_PROMPTS`, with a LoRA or with the bare checkpoint."""
    stage = "pictures with the LoRA" if lora else "pictures without a LoRA"
    total = SCORED + len(GRID_PROMPTS)
    alone: list[Image.Image] = []
    with host.lease("pictures") as model, adapter_of(model, lora).attached() if lora else nullcontext():
        while len(alone) < SCORED:
            count = min(BATCH, SCORED - len(alone))
            alone += generate(model, [world.CHARACTER] * count, FIRST_SEED + len(alone))
            listen(Progress(stage, len(alone), total))
        rows = generate(model, list(GRID_PROMPTS))
        listen(Progress(stage, total, total))
    return concept_score(alone), rows


def generate(model: LoadedModel, prompts: list[str], seed: int = FIRST_SEED) -> list[Image.Image]:
    """Pictures of the demo world, a seed for each."""
    size = world.PICTURE_SIZE
    seeds = tuple(range(seed, seed + len(prompts)))
    request = PreviewRequest(tuple(prompts), seeds, width=size, height=size, steps=20, cfg_scale=5.0, sampler="Euler")
    return list(model.generate(request).images)


def concept_score(images: list[Image.Image]) -> float:
    """Share of the new character's fixed features that the demo tagger finds, 0..1."""
    from lora_lab.tagging.score import found
    from lora_lab.tagging.session import Tagger

    tagger = Tagger(assets.tagger_dir())
    return found(tagger.probabilities(images), tagger.tags, assets.character_features())


def adapter_of(model: LoadedModel, path: Path) -> Adapter:
    """The adapter of a LoRA file on a lent model.

    Raises:
        AdapterFileError: it cannot be read, or does not fit.
    """
    from lora_lab.network import files
    from lora_lab.network.adapter import Adapter
    from lora_lab.network.reach import WIDEST
    from lora_lab.network.sites import find_sites

    sites = find_sites(model.unet, model.text_encoders, model.info.family, model.layout, reach=WIDEST)
    return Adapter.from_tensors(sites, files.read(path).tensors)


def free_name(folder: Path, name: str) -> str:
    """`name`, or `name_2`, `name_3` ... : the first that no LoRA in the folder has."""
    names = (name if n == 1 else f"{name}_{n}" for n in range(1, 10_000))
    return next(n for n in names if not (folder / f"{n}.safetensors").exists())
