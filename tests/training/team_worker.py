"""One of two processes that train a tiny model together: ``python -m tests.training.team_worker FOLDER``.

For each case it waits at the store until both are there, and leaves what came of it in the folder.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from lora_lab.errors import LoraLabError
from lora_lab.host.base import Conditioning
from lora_lab.training.helper import help_train
from lora_lab.training.loop import Trainer
from lora_lab.training.prepare import check_start
from lora_lab.training.settings import TrainSettings
from lora_lab.training.team import Team, join

from .tiny import TinyHost, TinyModel, run_settings

STEPS = {"max_train_epochs": None, "max_train_steps": 10, "save_precision": "float", "sample_prompts": "", "seed": 7}
# Rates at which rounding does not grow in ten steps: at ten times that of SGD, or with AdamW's own eps, which makes a
# step of the smallest gradient, some processors' kernels alone put two equal runs 1e-2 apart.
CASES: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer_type": "SGDNesterov", "optimizer_args": "momentum=0.9", "learning_rate": 0.005},
    "adamw": {"optimizer_type": "AdamW", "optimizer_args": "eps=1e-5", "learning_rate": 1e-3},
    # Seven pictures in two shapes: batches of 3 and 4, and of one item, for which one process has nothing to do.
    "uneven": {
        "optimizer_type": "SGDNesterov", "optimizer_args": "momentum=0.9", "learning_rate": 0.05,
        "gradient_accumulation_steps": 2, "train_batch_size": 2, "max_token_length": 225,
    },
}  # fmt: skip


class DoubleModel(TinyModel):
    """Frozen in float64: random weights make thousands of float32's rounding errors, which are not what is tested."""

    def __init__(self) -> None:
        super().__init__()
        for root in (self.unet, *self.text_encoders):
            root.double()

    def predict(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        return super().predict(latents.double(), timesteps, Conditioning(conditioning.context.double()))


MODEL = DoubleModel()


def settings_of(folder: Path, case: str, processes: int) -> TrainSettings:
    """The same global batch, whether one process does it or two."""
    values = {**run_settings(folder, **STEPS), **CASES[case], "output_name": f"{case}{processes}"}
    values["train_batch_size"] = values.get("train_batch_size", 1) * 2 // processes
    if case == "uneven":
        values["train_data_dir"] = str(folder / "uneven")
    return TrainSettings.from_mapping(values)


def train(folder: Path, settings: TrainSettings, team: Team, stop: Callable[[], bool] = lambda: False) -> Any:
    """The last event of a run, in whatever place this process has."""
    host = TinyHost(folder, MODEL)
    if not team.leads:
        return help_train(settings, host, team, stop)
    trainer = Trainer(check_start(settings, host), host, folder / "run", stop, team=team)
    ended = list(trainer.events())[-1]
    if trainer.error is not None:
        raise trainer.error
    return ended


def main(folder: Path) -> None:
    team = join(os.environ)
    told: dict[str, Any] = {}
    for case in CASES:
        ended = train(folder, settings_of(folder, case, 2), team)
        told[case] = [ended.reason, ended.step, ended.loss_average]
    told |= stopped(folder, team) | refused(folder, team) | lost(folder, team)
    (folder / f"told{team.rank}.json").write_text(json.dumps(told))


def stopped(folder: Path, team: Team) -> dict[str, Any]:
    """The second process is asked to stop before its third step: both end after the same one."""
    asked = iter(range(100))
    settings = settings_of(folder, "adamw", 2).replace(output_name="stopped", max_train_steps=1000)
    ended = train(folder, settings, team, lambda: team.rank == 1 and next(asked) > 12)
    return {"stopped": [ended.reason, ended.step]}


def refused(folder: Path, team: Team) -> dict[str, Any]:
    """Two processes with other settings."""
    dim = 2 + team.rank
    settings = settings_of(folder, "adamw", 2).replace(output_name="refused", network_dim=dim, network_alpha=1)
    try:
        train(folder, settings, team)
    except LoraLabError as error:
        return {"refused": str(error)}
    return {"refused": ""}


def lost(folder: Path, team: Team) -> dict[str, Any]:
    """The second process fails after its third step: the first ends too, at once, and says why."""
    settings = settings_of(folder, "adamw", 2).replace(output_name="lost", max_train_steps=1000)
    before = MODEL.forwards

    def fail() -> bool:
        if team.rank == 1 and MODEL.forwards - before >= 3:
            raise ZeroDivisionError("of process two")
        return False

    try:
        train(folder, settings, team, fail)
    except Exception as error:
        team.fail(f"{type(error).__name__}: {error}")
        team.leave()
        return {"lost": str(error)}
    return {"lost": ""}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
