"""Answers, difficulty, arithmetic of steps, loss curves, diagnosis: the guide's numbers, and what follows from them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from PIL import Image

from lora_lab.dataset.options import DatasetOptions
from lora_lab.dataset.scan import epoch_items, scan
from lora_lab.errors import SettingsError
from lora_lab.families import Family
from lora_lab.guide import diagnosis, loss
from lora_lab.guide.answers import Answers, from_values, knows_by_name
from lora_lab.guide.arithmetic import Numbers, changes
from lora_lab.guide.bases import BASES
from lora_lab.guide.difficulty import BY_LETTER, TABLE, by_answers, rank_for, vehicle
from lora_lab.guide.facts import Course
from lora_lab.guide.recommend import changed, recommend
from lora_lab.training.checks import check, warnings
from lora_lab.training.plan import make_plan
from lora_lab.training.settings import TrainSettings


@pytest.mark.parametrize("making", ["character", "style", "concept", "outfit", "several"])
@pytest.mark.parametrize("family", list(Family))
@pytest.mark.parametrize("vram", [None, 0, 4, 8, 12, 24])
def test_what_is_recommended_can_be_trained(making: str, family: Family, vram: float | None) -> None:
    for letter in "ABCDEFGHI" if making == "character" else "B":
        for captions, good, adaptive, look in ((True, True, True, "keep"), (False, False, False, "skin")):
            answers = from_values({
                "making": making, "family": family, "vram": vram, "difficulty": letter, "captions": captions,
                "good": good, "adaptive": adaptive, "look": look, "small_file": True, "bits8": not adaptive,
            })  # fmt: skip
            found = recommend(answers)
            settings = TrainSettings.from_mapping({**found.settings, "train_data_dir": "x", "output_name": "x"})
            check(settings)
            assert warnings(settings) == ()
            assert not changed(found, settings.to_mapping()), "read back as it was recommended"
            assert all(value.why and not value.why.endswith(".") for value in found.values)


@pytest.mark.parametrize("base", BASES, ids=lambda base: base.name)
def test_the_guides_own_settings_can_be_trained(base: object) -> None:
    values = base.settings  # type: ignore[attr-defined]
    settings = TrainSettings.from_mapping({**values, "train_data_dir": "x", "output_name": "x"})
    check(settings)
    assert warnings(settings) == ()


def test_difficulty_by_questions() -> None:
    assert by_answers().letter == "A"
    assert by_answers(unusual=True).letter == "B"
    assert by_answers(elaborate=True, unusual=True).letter == "C"
    assert by_answers(real=True).letter == "D"
    assert by_answers(human=False, two_and_two=True, humanlike=True).letter == "D"
    assert by_answers(human=False, two_and_two=True).letter == "E"
    assert by_answers(human=False, two_and_two=True, machine=True, humanlike=True).letter == "F"
    assert by_answers(human=False).letter == "F"
    assert by_answers(human=False, machine=True, two_and_two=True).letter == "G"
    assert by_answers(human=False, realistic=True).letter == "H"
    assert by_answers(human=False, shape=False).letter == "I"
    assert {vehicle(realistic=r, detailed=d).letter for r in (0, 1) for d in (0, 1)} == set("CDFG")


def test_ranks_grow_with_difficulty_and_are_the_guides() -> None:
    ranks = [rank_for(row.letter, male=False, few=False, family_factor=1) for row in TABLE]
    assert ranks == sorted(ranks)
    assert ranks == [8, 16, 32, 64, 64, 128, 128, 192, 256]
    assert rank_for("B", male=True, few=False, family_factor=1) == 24, "half a category up"
    assert rank_for("E", male=True, few=False, family_factor=1) == 64, "no more from E on"
    assert rank_for("E", male=False, few=False, family_factor=0.3) in (16, 20, 24), "SDXL: a third to a quarter"
    assert "lokr" not in BY_LETTER["D"].kinds


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("animefull-final-pruned.ckpt", "anime"), ("AOM3A1.safetensors", "anime"), ("anything-v4.5.ckpt", "anime"),
        ("nai.ckpt", "anime"), ("v1-5-pruned-emaonly.safetensors", "realistic"), ("fluffyrock_e184.ckpt", "furry"),
        ("snail.safetensors", None), ("demo.safetensors", None), ("", None), ("realisticVision_v51.ckpt", "realistic"),
        ("AbyssOrangeMix2_sfw.ckpt", "anime"), ("orangemixs.ckpt", "anime"),
    ],
)  # fmt: skip
def test_what_a_checkpoint_draws_by_its_name(name: str, kind: str | None) -> None:
    assert knows_by_name(name) == kind


@pytest.mark.parametrize(
    "values",
    [{"making": "soup"}, {"difficulty": "AB"}, {"pictures": 0}, {"pictures": "many"}, {"pictures": 1.5}, {"vram": -1},
     {"vram": "nan"}, {"good": "no"}, {"family": "sd3"}, {"colour": "red"}, {"resolution": 65}, {"pictures": 1e400}],
    ids=str,
)  # fmt: skip
def test_wrong_answers_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        from_values(values)


def test_steps_are_as_the_plan_has_them(tmp_path: Path) -> None:
    for name, count, size in (("3_a", 5, (64, 64)), ("1_b", 4, (128, 64))):
        (tmp_path / "train" / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", size).save(tmp_path / "train" / name / f"{i}.png")
    (tmp_path / "reg" / "1_girl").mkdir(parents=True)
    for i in range(3):
        Image.new("RGB", (64, 64)).save(tmp_path / "reg" / "1_girl" / f"{i}.png")
    sizes = (64, 64)
    options = DatasetOptions(sizes, min_bucket_reso=32, max_bucket_reso=128, bucket_reso_steps=32, train_batch_size=4)
    for reg in (None, tmp_path / "reg"):
        report = scan(tmp_path / "train", options, reg)
        items: dict[tuple[int, int], list[int]] = {}
        for item, n in epoch_items(report):
            items.setdefault(item.placement.bucket, [0, 0])[item.subset.regularisation] += n
        numbers = Numbers(
            tuple(a for a, _ in items.values()), tuple(b for _, b in items.values()) if reg else (), 4, 2, 7
        )
        settings = TrainSettings.from_mapping({
            "train_batch_size": 4, "gradient_accumulation_steps": 2, "max_train_epochs": 7,
        })  # fmt: skip
        assert numbers.steps == make_plan(settings, report.batches_per_epoch).steps
        assert numbers.pictures == 19
    twice = {change.what: change.steps for change in changes(numbers)}
    assert twice["one epoch more"] == numbers.per_epoch * 8
    assert twice["without regularisation"] < numbers.steps
    assert Numbers((10,), most=7, epochs=3).steps == 7


def test_a_curve_is_read_by_its_held_out_loss() -> None:
    falling = tuple((i, 0.12 - i * 0.0005) for i in range(100))
    told = loss.read(Course(averages=falling, held_out=((0, 0.1), (50, 0.08), (99, 0.07))))
    assert "still falls" in told[0].text
    told = loss.read(Course(averages=falling, held_out=((0, 0.1), (50, 0.06), (99, 0.07))))
    assert "by heart" in told[0].text
    assert "step 50" in told[0].text
    told = loss.read(Course(averages=falling))
    assert "validation_split" in told[0].text
    assert any("fell by" in remark.text for remark in told)
    assert "nothing yet" in loss.read(Course())[0].text
    rising = tuple((i, 0.08 + i * 0.001) for i in range(100))
    assert any("rose" in r.text for r in loss.read(Course(averages=rising)))
    told = loss.read(Course(averages=falling, rates=((99, 3e-4),)), adaptive=True, losses=[0.05, 0.2] * 20)
    assert any("d * lr" in r.text for r in told)
    assert any("peaks mean nothing" in r.text for r in told)


@pytest.mark.parametrize("symptom", diagnosis.SYMPTOMS, ids=lambda s: s.id)
@pytest.mark.parametrize("adaptive", [True, False])
def test_a_diagnosis_gives_settings_that_can_be_trained(symptom: diagnosis.Symptom, adaptive: bool) -> None:
    settings = TrainSettings.from_mapping(recommend(Answers(adaptive=adaptive)).settings)
    found = symptom.change(settings.to_mapping(), adaptive)
    check(settings.replace(**found, train_data_dir="x", output_name="x"))
    assert found or symptom.by_hand or adaptive


def test_rates_follow_the_strengths_at_which_it_looks_right() -> None:
    manual = {"unet_lr": 1e-4, "text_encoder_lr": 5e-5}
    assert diagnosis.from_strengths(manual, 1.0, 0.5) == {"unet_lr": 5e-5}
    assert diagnosis.from_strengths(manual, 2.0, 1.0) == {"text_encoder_lr": 1e-4}
    noise = diagnosis.BY_ID["noise"].change(manual, False)
    assert math.isclose(noise["unet_lr"], 1.25e-5, rel_tol=0.1)
