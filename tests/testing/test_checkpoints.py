"""Strengths on several checkpoints: each with its own pictures, the first one back whatever happens, one sentence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.testing.small import LOOK, PictureModel, PictureSdxl, host_of, write_lora

pytest.importorskip("onnxruntime")

import torch  # noqa: E402

from lora_lab.demo import assets  # noqa: E402
from lora_lab.errors import AdapterFileError, CheckpointError, SettingsError  # noqa: E402
from lora_lab.families import Family, ListedCheckpoint  # noqa: E402
from lora_lab.network import files  # noqa: E402
from lora_lab.tagging.tags import Tag  # noqa: E402
from lora_lab.testing.checkpoints import OnCheckpoint, across, alike, chosen, pictures, run_on_checkpoints  # noqa: E402
from lora_lab.testing.checks import look_into  # noqa: E402
from lora_lab.testing.events import CellMade, CheckpointBegun, GridEstimated, GridEvent  # noqa: E402
from lora_lab.testing.grid import run_grid  # noqa: E402
from lora_lab.testing.judge import NO_TAG, Judge  # noqa: E402
from lora_lab.testing.strengths import (  # noqa: E402
    Advice,
    Point,
    StrengthPlan,
    StrengthReport,
    grid_plan,
    read,
    run_strengths,
)
from tests.training.tiny import TinyHost, TinyModel, fingerprint  # noqa: E402


def named(model: TinyModel, name: str) -> TinyModel:
    model.info = replace(model.info, name=name, identity=f"{name}|1", short_hash=None)
    return model


@pytest.fixture
def host(tmp_path: Path) -> TinyHost:
    """A is live; B is A with another UNet."""
    found = host_of(tmp_path)
    other = named(PictureModel(), "b.safetensors")  # type: ignore[abstract]
    with torch.no_grad():
        other.unet.conv_out.weight.mul_(-1)
    found.others = {"a": named(found.model, "a.safetensors"), "b": other}
    found.others = {model.info.name: model for model in found.others.values()}
    return found


@pytest.fixture
def plan(host: TinyHost, tmp_path: Path) -> StrengthPlan:
    lora = write_lora(tmp_path / "mika.safetensors", host.model)
    files.write(lora, files.read(lora).tensors, {"ss_sd_model_name": "a.safetensors"}, overwrite=True)
    return StrengthPlan((lora,), "mika", (), (1, 2), (1.0, 2.0), look=LOOK, out=tmp_path / "cells")


@pytest.fixture
def judge() -> Judge:
    return Judge.of_tagger(assets.tagger_dir(), ("white hair", "horns"))


def test_each_checkpoint_is_what_it_would_be_alone(host: TinyHost, plan: StrengthPlan, judge: Judge) -> None:
    before = [fingerprint(model) for model in host.others.values()]
    found = chosen(host, ["b.safetensors", "a.safetensors", "b.safetensors"], plan.loras)
    assert pictures(plan, len(found)) == "2 checkpoints with 8 pictures each: 16 pictures"
    assert pictures(plan, 1) == "1 checkpoint: 8 pictures"
    heard: list[GridEvent] = []
    report = run_on_checkpoints(host, found, plan, judge, heard.append)
    assert report is not None
    assert host.loads == ["b.safetensors", "a.safetensors"]
    assert [fingerprint(model) for model in host.others.values()] == before
    assert [(one.label, one is report.main) for one in report.found] == [
        ("b.safetensors", False), ("a.safetensors (its own)", True),
    ]  # fmt: skip
    alone = run_strengths(host, plan, judge)
    assert alone is not None
    assert report.found[1].report.points == alone.points
    shown = [one.report.picture for one in report.found]
    assert shown[0] is not None
    assert shown[1] is not None
    assert shown[0].path != shown[1].path
    assert [event.name for event in heard if isinstance(event, CheckpointBegun)] == ["b.safetensors", "a.safetensors"]
    made = [event for event in heard if isinstance(event, CellMade)]
    assert {event.total for event in made} == {16}
    assert made[-1].done == 16
    first, second = (event for event in heard if isinstance(event, GridEstimated))
    assert (first.cells, second.cells) == (5 + 8, 5)
    assert first.seconds > second.seconds


def test_all_are_measured_by_the_concept_of_the_loras_own(host: TinyHost, plan: StrengthPlan) -> None:
    """On B it adds horns alone, surely: by B's own tags that were all of it."""
    plan = replace(plan, values=(1.0,))
    table: dict[bytes, list[float]] = {}
    tags = [Tag("horns", 0), Tag("white_hair", 0)]
    judge = Judge(tags, lambda images: np.array([table[i.tobytes()] for i in images]))
    found = []
    for one in chosen(host, ["b.safetensors", "a.safetensors"], plan.loras):
        with host.switching([one]):
            result = run_grid(host, grid_plan(replace(plan, checkpoint=one)))
        own = one.name == "a.safetensors"
        for row, sight in ((0, [0.0, 0.0]), (1, [0.9, 0.8] if own else [1.0, 0.0])):
            table |= {made.image.tobytes(): sight for i in range(2) if (made := result.at(row, i)) is not None}
        found.append(OnCheckpoint(one, own, read(plan, result, judge)))
    assert [one.report.concept for one in found] == [("horns",), ("horns", "white hair")]
    again = alike(found, plan, judge)
    assert [one.report.concept for one in again] == [("horns", "white hair")] * 2
    assert [one.report.best.concept for one in found] == pytest.approx([1.0, 0.85])
    assert [one.report.best.concept for one in again] == pytest.approx([0.5, 0.85])
    assert [one.own for one in again] == [False, True]
    table = dict.fromkeys(table, [0.0, 0.0])
    unseen = read(plan, result, judge)
    assert unseen.advice.sentence == NO_TAG, "not that it learnt too slowly: nobody knows"
    assert not unseen.advice.factors
    assert not unseen.sound


def test_stopped_it_goes_on_and_loads_only_what_is_not_there(
    host: TinyHost, plan: StrengthPlan, judge: Judge
) -> None:
    found = chosen(host, ["a.safetensors", "b.safetensors"], plan.loras)
    heard: list[GridEvent] = []
    stop = lambda: sum(isinstance(event, CellMade) for event in heard) > 8  # noqa: E731
    assert run_on_checkpoints(host, found, plan, judge, heard.append, stop) is None
    assert host.loads == ["b.safetensors", "a.safetensors"]
    host.others["a.safetensors"].drawing = lambda: pytest.fail("all of A is there")
    again = run_on_checkpoints(host, found, plan, judge)
    assert again is not None
    assert host.model is host.others["a.safetensors"]


def test_an_error_leaves_the_first_live(host: TinyHost, plan: StrengthPlan, judge: Judge) -> None:
    def fail() -> None:
        raise ValueError("on purpose")

    host.others["b.safetensors"].drawing = fail
    found = chosen(host, ["b.safetensors"], plan.loras)
    with pytest.raises(ValueError, match="on purpose"):
        run_on_checkpoints(host, found, plan, judge)
    assert host.model is host.others["a.safetensors"]


def test_what_cannot_be_is_told_before_anything_is_loaded(host: TinyHost, plan: StrengthPlan) -> None:
    host.others["xl.safetensors"] = named(PictureSdxl(), "xl.safetensors")  # type: ignore[abstract]
    with pytest.raises(AdapterFileError, match=r"this LoRA is for SD1 or SD2, xl\.safetensors is SDXL"):
        chosen(host, ["b.safetensors", "xl.safetensors"], plan.loras)
    with pytest.raises(CheckpointError, match="c.safetensors"):
        chosen(host, ["b.safetensors", "c.safetensors"], plan.loras)
    with pytest.raises(SettingsError, match="no checkpoint is named"):
        chosen(host, [], plan.loras)
    assert host.loads == []
    second = plan.loras[0].with_name("second.safetensors")
    files.write(second, files.read(plan.loras[0]).tensors, {"ss_v2": "True"})
    with pytest.raises(AdapterFileError, match=r"this LoRA is for SD2, a\.safetensors is SD1"):
        look_into(second, Family.SD1, "a.safetensors")


def on(name: str, overall: float, strength: float = 1.0, *, own: bool = False) -> OnCheckpoint:
    point = Point(Path("mika"), strength, strength, overall**3, 1.0, 1.0)
    report = StrengthReport((point,), point, Advice(""), (), None)  # type: ignore[arg-type] - no picture is asked for
    return OnCheckpoint(ListedCheckpoint(name, name, Family.SD1, Path(name)), own, report)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([on("a", 0.87, own=True), on("b", 0.41, 0.75)],
         "Works best with a (its own): 87% at 1, but on b: 41% at 0.75; say so where you share it."),
        ([on("a", 0.8), on("b", 0.78)], "Alike on all 2 checkpoints, best at 1."),
        ([on("a", 0.8, own=True), on("b", 0.78, 0.5)],
         "Good on all 2 checkpoints, at other strengths: a (its own): 80% at 1, b: 78% at 0.5."),
        ([on("a", 0.56), on("b", 0.44)],
         "Works best with a: 56% at 1, but on b: 44% at 1; say so where you share it."),
        ([on("a", 0.8, own=True)], "Good on a (its own): 80% at 1."),
        ([on("a", 0.3)], "Good on a at no strength, 30% at most."),
        ([on("a", 0.3), on("b", 0.2)], "Good on none of them, a is the nearest at 30%."),
    ],
)  # fmt: skip
def test_one_sentence_says_where_it_is_good(found: list[OnCheckpoint], said: str) -> None:
    assert across(found) == said
