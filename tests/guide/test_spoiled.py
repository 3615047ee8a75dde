"""The demo project with what is recommended for it, and spoiled in twenty ways: real folders, real checks."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lora_lab.dataset.checks.closer import look_closer
from lora_lab.dataset.scan import scan
from lora_lab.demo import assets, world
from lora_lab.families import Family
from lora_lab.guide.answers import Answers
from lora_lab.guide.recommend import recommend
from lora_lab.host.base import CheckpointInfo
from lora_lab.tagging.tokens import TokenCounter
from lora_lab.training.checks import warnings
from lora_lab.training.plan import options_of
from lora_lab.training.settings import TrainSettings
from lora_lab.workflow.advice import Around, advise

ANSWERS = Answers(
    difficulty="B", pictures=assets.PICTURES, knows="other", resolution=world.PICTURE_SIZE, vram=0, asymmetric=False
)
DEMO = CheckpointInfo("demo.safetensors", "demo|1", Family.SD1, "epsilon")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return assets.write_dataset(tmp_path_factory.mktemp("demo"))["character"]


@dataclasses.dataclass
class Project:
    """What may be spoiled."""

    folder: Path
    settings: dict[str, Any]
    answers: Answers = ANSWERS
    checkpoint: CheckpointInfo = DEMO

    @property
    def subset(self) -> Path:
        return next(self.folder.iterdir())

    def rewrite(self, change: Callable[[int, str], str]) -> None:
        for i, path in enumerate(sorted(self.subset.glob("*.txt"))):
            path.write_text(change(i, path.read_text(encoding="utf-8").strip()), encoding="utf-8")

    def put(self, **changes: Any) -> None:
        self.settings.update(changes)

    def said(self) -> set[str]:
        settings = TrainSettings.from_mapping({**self.settings, "train_data_dir": str(self.folder)})
        report = scan(self.folder, options_of(settings), Path(r) if (r := self.settings.get("reg_data_dir")) else None)
        known = Around(self.checkpoint, TokenCounter(assets.tokenizer_dir()), self.answers.vram, self.answers)
        rules = {finding.rule.id for finding in advise(settings, report, known)}
        problems = [*report.problems, *look_closer(report, None)]
        checks = {problem.rule for problem in problems if problem.severity != "note"}
        return rules | checks | {f"check: {text}" for text in warnings(settings)}


@pytest.fixture
def project(drawn: Path, tmp_path: Path) -> Project:
    shutil.copytree(drawn, tmp_path / "demo")
    settings = dict(recommend(ANSWERS).settings)
    return Project(tmp_path / "demo", {**settings, "output_name": "zuli"})


def test_nothing_is_said_of_the_demo_project(project: Project) -> None:
    assert project.said() == set()


def _many_shapes(p: Project) -> None:
    for i, path in enumerate(sorted(p.subset.glob("*.png"))):
        Image.open(path).resize((320 + 96 * (i % 9), 512)).save(path)
    p.put(resolution=512, min_bucket_reso=256, max_bucket_reso=1024)


def _second(p: Project) -> None:
    pictures = sorted(p.subset.glob("*.png"))[:6]
    other = p.folder / "1_rin"
    other.mkdir()
    for i, path in enumerate(pictures):
        Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(other / f"{i}.png")


def _few(p: Project) -> None:
    for path in sorted(p.subset.glob("*-0[5-9].*")) + sorted(p.subset.glob("*-1*.*")):
        path.unlink()


def _reg(p: Project) -> None:
    folder = p.folder.parent / "reg" / "1_girl"
    folder.mkdir(parents=True)
    shutil.copy(next(p.subset.glob("*.png")), folder / "a.png")
    p.put(reg_data_dir=str(folder.parent))


def _renamed(p: Project) -> None:
    p.rewrite(lambda i, text: text.replace("zuli", "girl"))


SPOILS: dict[str, tuple[Callable[[Project], Any], str]] = {
    "stops after 5 passes": (lambda p: p.put(max_train_epochs=5), "few-steps"),
    "goes on for 1,000": (lambda p: p.put(max_train_epochs=1000, save_every_n_epochs=50), "many-steps"),
    "a rate for AdamW given to Prodigy": (lambda p: p.put(unet_lr=1e-4, text_encoder_lr=5e-5), "adaptive-rate"),
    "the trigger missing in three captions": (
        lambda p: p.rewrite(lambda i, text: text.removeprefix("zuli, ") if i < 3 else text), "trigger-first",
    ),
    "a common word as trigger": (_renamed, "common-trigger"),
    "a trigger of many tokens": (
        lambda p: p.rewrite(lambda i, text: text.replace("zuli", "zyxwvutsrqponmlk")), "long-trigger",
    ),
    "the trigger shuffled away": (lambda p: p.put(keep_tokens=0), "keep-tokens"),
    "mirrored with an eye patch": (lambda p: p.rewrite(lambda i, text: f"{text}, eyepatch"), "flip-sided"),
    "captions over the limit": (
        lambda p: (p.put(max_token_length=75), p.rewrite(lambda i, text: ", ".join([text] * 8))), "captions-cut",
    ),
    "four pictures": (_few, "few-pictures"),
    "trained larger than they are": (
        lambda p: p.put(resolution=512, min_bucket_reso=320, max_bucket_reso=768), "enlarged",
    ),
    "all shapes": (_many_shapes, "scattered"),
    "a second subject without captions": (_second, "keyword-several"),
    "a second subject that is drowned": (_second, "drowned"),
    "a rank of 256": (lambda p: p.put(network_dim=256, network_alpha=128), "dim-for-few"),
    "alpha above dim": (lambda p: p.put(network_alpha=64), "alpha-above-dim"),
    "a warmup of the whole run": (lambda p: p.put(lr_warmup_steps=100_000), "long-warmup"),
    "one regularisation picture": (_reg, "few-reg"),
    "clip skip of another kind of checkpoint": (
        lambda p: (
            setattr(p, "checkpoint", dataclasses.replace(DEMO, name="animefull-final.ckpt")), p.put(clip_skip=1),
        ),
        "clip-skip",
    ),
    "a noise offset that burns": (lambda p: p.put(noise_offset=0.4), "noise-offset-high"),
    "tags of e621 on an anime checkpoint": (
        lambda p: (
            setattr(p, "checkpoint", dataclasses.replace(DEMO, name="anything-v3.safetensors")),
            p.rewrite(lambda i, text: "zuli, anthro, canine, fur, tail"),
        ),
        "dialect",
    ),
    "a picture that is all grey": (
        lambda p: Image.new("RGB", (256, 256), "grey").save(next(p.subset.glob("*.png"))), "flat",
    ),
}  # fmt: skip


@pytest.mark.parametrize("spoil", SPOILS)
def test_a_spoiled_project_is_told_of(project: Project, spoil: str) -> None:
    do, rule = SPOILS[spoil]
    do(project)
    said = project.said()
    assert rule in said, f"instead: {sorted(said)}"


def test_there_are_twenty_of_them() -> None:
    assert len(SPOILS) >= 20
