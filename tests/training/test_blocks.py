"""Blocks and groups: kohya's numbers, which layers take a piece, what is not computed any more."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from lora_lab.errors import SettingsError  # noqa: E402
from lora_lab.families import BASE, Family  # noqa: E402
from lora_lab.network.block_words import chosen, shortened  # noqa: E402
from lora_lab.network.blocks import block_names, block_of_name  # noqa: E402
from lora_lab.network.sizes import Size  # noqa: E402
from lora_lab.training.checks.blocks import block_warnings, check_blocks  # noqa: E402
from lora_lab.training.learning.block_rules import blocks_of_places, lr_weights, place_of, shares  # noqa: E402
from lora_lab.training.learning.block_sizes import block_sizes  # noqa: E402
from lora_lab.training.plan import make_plan  # noqa: E402
from lora_lab.training.settings import TrainSettings  # noqa: E402

KOHYA = json.loads((Path(__file__).parent / "data" / "kohya_blocks.json").read_text(encoding="utf-8"))
OURS = {"conv_dim", "conv_alpha"}


def settings(**values: Any) -> TrainSettings:
    return TrainSettings.from_mapping({"train_data_dir": "x", "output_name": "m", "max_train_steps": 4, **values})


def family_of(row: dict[str, Any]) -> Family:
    return Family.SDXL if row["sdxl"] else Family.SD1


@pytest.mark.parametrize("row", KOHYA["weights"], ids=lambda r: f"{family_of(r).value} {r['given']}")
def test_shares_by_block_are_kohyas(row: dict[str, Any]) -> None:
    found = lr_weights(settings(**row["given"]), family_of(row))
    assert found == pytest.approx(row["weights"], abs=1e-8)


@pytest.mark.parametrize("row", KOHYA["dims"], ids=lambda r: f"{family_of(r).value} {sorted(r['given'])}")
def test_ranks_and_alphas_by_block_are_kohyas(row: dict[str, Any]) -> None:
    """At each place a 1x1 and a 3x3 convolution, as kohya's create_network would size them."""
    family = family_of(row)
    given = {name: value for name, value in row["given"].items() if name not in OURS}
    conv = row["given"].get("conv_dim")
    usual_conv = None if conv is None else Size(conv, row["given"].get("conv_alpha", 1.0))
    sizes = block_sizes(
        settings(**given), family, lambda site: usual_conv if site.kind == "conv" else Size(16, 8.0)  # type: ignore[attr-defined]
    )
    for place, block in enumerate(blocks_of_places(family)):
        if block == "OTHER":
            continue
        middle = f"lora_unet_middle_block_{place - 10}_x" if block == "M00" and row["sdxl"] else "lora_unet_x"
        for kind, dims, alphas in (("linear", "dims", "alphas"), ("conv", "conv_dims", "conv_alphas")):
            site: Any = SimpleNamespace(name=middle, block=block, part="unet", kind=kind)
            wanted = None if row[dims] is None or not row[dims][place] else Size(row[dims][place], row[alphas][place])
            assert sizes(site) == wanted, (place, kind)


@pytest.mark.parametrize("name", list(KOHYA["index"]))
def test_the_place_of_a_site_is_kohyas(name: str) -> None:
    family = Family.SDXL if "put_block" in name or "middle_block" in name else Family.SD1
    assert place_of(name, block_of_name(name, family), family) == KOHYA["index"][name]


def test_lists_are_as_long_as_a_family_has_blocks() -> None:
    twenty_five, twenty_three = (",".join(["4"] * n) for n in (25, 23))
    check_blocks(settings(block_dims=twenty_five), Family.SD1)
    check_blocks(settings(block_dims=twenty_three), Family.SDXL)
    with pytest.raises(SettingsError, match="block_dims has 23 numbers: give 25, as many as sd1 has blocks"):
        check_blocks(settings(block_dims=twenty_three), Family.SD1)
    with pytest.raises(SettingsError, match="conv_block_alphas has 25 numbers: give 23"):
        check_blocks(settings(conv_block_alphas=twenty_five), Family.SDXL)
    assert list(block_warnings(settings(down_lr_weight="1,1,1"), Family.SDXL)) == [
        "down_lr_weight has 3 numbers, sdxl has 9 blocks there: the rest counts as 1"
    ]
    assert not list(block_warnings(settings(down_lr_weight="sine", up_lr_weight=",".join(["1"] * 12)), Family.SD1))
    with pytest.raises(SettingsError, match="every block of the UNet has a rate of 0"):
        check_blocks(settings(down_lr_weight="zeros", mid_lr_weight="0", up_lr_weight="zeros"), Family.SD1)


# --- words -------------------------------------------------------------------------------------------------


def test_words_name_blocks() -> None:
    assert chosen(["IN04"], Family.SD1) == {"IN04"}
    assert chosen(["out3-out05", "mid"], Family.SD1) == {"OUT03", "OUT04", "OUT05", "M00"}
    assert chosen(["IN"], Family.SDXL) == {f"IN{n:02d}" for n in range(9)}
    assert chosen(["B-LoRA-content,B-LoRA-style"], Family.SDXL) == {"OUT00", "OUT01"}
    assert chosen(["IN10-OUT01"], Family.SD1) == {"IN10", "IN11", "M00", "OUT00", "OUT01"}
    with pytest.raises(SettingsError, match="train_blocks has IN10, which sdxl lacks: its last one is IN08"):
        chosen(["IN10"], Family.SDXL)
    with pytest.raises(SettingsError, match="which is for SDXL"):
        chosen(["B-LoRA-style"], Family.SD1)


@given(st.lists(st.text(max_size=12), max_size=3), st.sampled_from([None, *Family]))
def test_any_words_are_blocks_or_refused(words: list[str], family: Family | None) -> None:
    try:
        found = chosen(words, family)
    except SettingsError:
        return
    assert found <= set(block_names(family or Family.SD1))


@given(st.sets(st.sampled_from(block_names(Family.SD1))))
def test_short_words_say_the_same(blocks: set[str]) -> None:
    assert chosen(shortened(blocks, Family.SD1).split(), Family.SD1) == blocks


def test_only_these_blocks_are_trained() -> None:
    some = settings(train_blocks=["OUT03-OUT05"])
    assert [g.name for g in make_plan(some, 3).rates] == ["unet"]
    table = dict(zip(blocks_of_places(Family.SD1), shares(some, Family.SD1), strict=True))
    assert {block for block, share in table.items() if share} == {"OUT03", "OUT04", "OUT05"}
    both = make_plan(settings(train_blocks=[BASE, "IN"]), 3)
    assert [g.name for g in both.rates] == ["text_encoder", "unet"]
    alone = make_plan(settings(train_blocks=["BASE"], unet_lr=0), 3)
    assert [g.name for g in alone.rates] == ["text_encoder"]


def test_groups_are_named_by_their_blocks() -> None:
    s = settings(
        down_lr_weight=",".join(["0.5"] * 12), mid_lr_weight="0", unet_lr=1e-4, text_encoder_lr=5e-5,
        loraplus_unet_lr_ratio=16,
    )  # fmt: skip
    rates = {g.name: g.learning_rate for g in make_plan(s, 3).rates}
    assert rates == pytest.approx(
        {
            "text_encoder": 5e-5,
            "unet IN00-IN11": 5e-5,
            "unet IN00-IN11 plus": 8e-4,
            "unet OUT00-OUT11": 1e-4,
            "unet OUT00-OUT11 plus": 1.6e-3,
        }
    )
    xl = make_plan(settings(mid_lr_weight="1,0.5,0.25"), 3, family=Family.SDXL)
    assert "unet M00.1" in {g.name for g in xl.rates}


# --- on a live model ---------------------------------------------------------------------------------------


diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")

from lora_lab.training.events import StepDone, Warned  # noqa: E402

from . import running  # noqa: E402
from .running import Training, fresh_host, tensors  # noqa: E402
from .test_step import batch, make  # noqa: E402
from .tiny import TinyHost, TinyModel  # noqa: E402


def blocks_in(found: dict[str, Any]) -> set[str]:
    return {block_of_name(name.partition(".")[0], Family.SD1) for name in found}


def test_a_rate_of_0_makes_no_module_and_ranks_are_the_blocks_own(tmp_path: Path) -> None:
    dims = ",".join(str(n % 4 + 1) for n in range(25))
    run = Training(
        fresh_host(tmp_path), down_lr_weight="zeros", mid_lr_weight="0.5", block_dims=dims, max_train_epochs=1
    )
    assert run.ended.reason == "finished", run.ended.error
    assert run.unchanged
    found = tensors(run.ended.lora)
    assert blocks_in(found) == {BASE, "M00", *(f"OUT{n:02d}" for n in range(3, 12))}
    for name, tensor in found.items():
        if name.endswith("lora_down.weight"):
            block = block_of_name(name.partition(".")[0], Family.SD1)
            place = place_of(name, block, Family.SD1)
            assert tensor.shape[0] == (2 if place is None else place % 4 + 1), name
    rates = run.of(StepDone)[0].learning_rates
    assert rates["unet M00"] == pytest.approx(0.5 * rates["unet OUT00-OUT11"])


def test_loraplus_lets_the_up_halves_learn_faster(tmp_path: Path) -> None:
    model = TinyModel()
    s = settings(unet_lr=1e-3, text_encoder_lr=5e-4, loraplus_lr_ratio=4, lr_scheduler="constant", network_dim=4)
    adapter, stepper = make(model, s)
    ups = {id(p) for p in adapter.parameters() if p.shape[1] == 4 and p.shape[0] != 4}
    for group in stepper.optimizer.param_groups:
        assert all((id(p) in ups) == group["name"].endswith(" plus") for p in group["params"])
    assert {g["name"]: g["lr"] for g in stepper.optimizer.param_groups} == pytest.approx(
        {"text_encoder": 5e-4, "text_encoder plus": 2e-3, "unet": 1e-3, "unet plus": 4e-3}
    )


def test_the_text_encoder_stops_and_nothing_of_it_is_computed_any_more(tmp_path: Path) -> None:
    model = TinyModel()
    s = settings(stop_text_encoder_training=2, lr_scheduler="constant", shuffle_caption=False)
    adapter, stepper = make(model, s)
    encoded: list[bool] = []
    encode = model.encode_tokens
    model.encode_tokens = lambda tokens, skip=1: (encoded.append(torch.is_grad_enabled()), encode(tokens, skip))[1]  # type: ignore[method-assign]
    text = adapter.parameters("text_encoder")
    with TinyHost(tmp_path, model).lease("training"), adapter.attached():
        results = [stepper.step(model, [batch()], n) for n in (1, 2)]  # type: ignore[list-item]
        before = [p.detach().clone() for p in text]
        unet = [p.detach().clone() for p in adapter.parameters("unet")]
        assert encoded == [True, True]
        results += [stepper.step(model, [batch()], n) for n in (3, 4)]  # type: ignore[list-item]
    assert not any(encoded[2:])
    assert len(encoded) == 5, "three captions are encoded once more, each alone, and then known"
    assert all(torch.equal(a, b) for a, b in zip(before, text, strict=True))
    assert not any(p.requires_grad for p in text)
    assert any(not torch.equal(a, b) for a, b in zip(unet, adapter.parameters("unet"), strict=True))
    assert [r.learning_rates["text_encoder"] > 0 for r in results] == [True, True, False, False]
    assert all(r.learning_rates["unet"] > 0 for r in results)


@pytest.mark.parametrize(
    ("values", "steps"),
    [
        ({"stop_text_encoder_training": 7}, 7),
        ({"stop_text_encoder_training_epochs": 2}, 6),
        ({"stop_text_encoder_training_pct": 50}, 15),
        ({"stop_text_encoder_training": 30}, None),
        ({"stop_text_encoder_training": 7, "network_train_unet_only": True}, None),
        ({}, None),
    ],
)
def test_when_the_text_encoder_stops(values: dict[str, Any], steps: int | None) -> None:
    plan = make_plan(settings(max_train_epochs=10, max_train_steps="", **values), 3)
    assert plan.text_encoder_steps == steps


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Prodigy", {"unet_lr": 1, "text_encoder_lr": 0.5, "learning_rate": "", "up_lr_weight": "linear+.1"}),
        ("Adafactor", {"learning_rate": ""}),
        ("AdamWScheduleFree", {"sample_prompts": "mika", "sample_sampler": "Euler"}),
        ("SGD", {"lr_scheduler_type": "StepLR", "lr_scheduler_args": ["step_size=2"]}),
        ("pytorch_optimizer.CAME", {}),
    ],
)
def test_a_whole_run(tmp_path: Path, name: str, values: dict[str, Any]) -> None:
    needed = {"Prodigy": "prodigyopt", "AdamWScheduleFree": "schedulefree"}
    pytest.importorskip(needed.get(name, name.partition(".")[0] if "." in name else "torch"))
    run = Training(fresh_host(tmp_path), optimizer_type=name, stop_text_encoder_training=3, **values)
    assert run.ended.reason == "finished", run.ended.error
    assert run.unchanged
    rates = [step.learning_rates for step in run.of(StepDone)]
    assert [r["text_encoder"] > 0 for r in rates] == [True, True, True, False]
    if name == "Prodigy":
        assert any("takes one learning rate for all" in e.text for e in run.of(Warned))


def test_what_is_saved_of_a_schedule_free_run_is_the_average(tmp_path: Path) -> None:
    pytest.importorskip("schedulefree", reason="schedulefree is not installed")
    model = TinyModel()
    s = settings(optimizer_type="AdamWScheduleFree", unet_lr=1e-2)
    adapter, stepper = make(model, s)
    with TinyHost(tmp_path, model).lease("training"), adapter.attached():
        for step in (1, 2, 3):
            stepper.step(model, [batch()], step)  # type: ignore[list-item]
        trained = adapter.to_tensors()
        stepper.settle()
        average = adapter.to_tensors()
        assert any(not torch.equal(average[name], trained[name]) for name in trained)
        stepper.settle()
        assert all(torch.equal(average[name], t) for name, t in adapter.to_tensors().items())
        stepper.step(model, [batch()], 4)  # type: ignore[list-item]
    assert all(group["train_mode"] for group in stepper.optimizer.param_groups)


def test_wrong_tools_are_refused_before_the_start(tmp_path: Path) -> None:
    from lora_lab.training.prepare import check_start

    host = fresh_host(tmp_path)
    for values, says in (
        ({"optimizer_args": ["d_coef=2"]}, "AdamW has no option 'd_coef'"),
        ({"optimizer_type": "torch.optim.Adamm"}, "did you mean torch.optim.Adam"),
        ({"optimizer_type": "AdamW8bit"}, "pip install bitsandbytes"),
        ({"lr_scheduler_type": "StepLR"}, "StepLR refuses its options"),
        ({"train_blocks": ["B-LoRA-style"]}, "which is for SDXL"),
    ):
        with pytest.raises(SettingsError, match=says):
            check_start(TrainSettings.from_mapping(running.run_settings(tmp_path, **values)), host)
