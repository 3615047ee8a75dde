"""Charts are pure, valid XML, and draw inside of their frame whatever the numbers."""

from __future__ import annotations

import math
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from lora_lab.errors import SettingsError
from lora_lab.training.learning.schedules import SCHEDULES
from lora_lab.training.plan import Plan, make_plan
from lora_lab.training.settings import TrainSettings
from lora_lab.ui import schedule_view
from lora_lab.ui.answers_view import CURVES
from lora_lab.ui.svg import (
    APART,
    BOTTOM,
    HEIGHT,
    TOP,
    WIDTH,
    Curve,
    bucket_chart,
    loss_chart,
    spread,
    ticks,
    value_chart,
)

hypothesis = pytest.importorskip("hypothesis", reason="hypothesis is not installed")
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

SVG = "{http://www.w3.org/2000/svg}"
ANY = st.floats(allow_nan=True, allow_infinity=True, width=32)
POINTS = st.lists(st.tuples(st.integers(1, 10_000), ANY), max_size=60)


def places(chart: str) -> list[tuple[float, float]]:
    """Every point of every line and dot."""
    root = ElementTree.fromstring(chart)
    lines = [p.split(",") for line in root.iter(SVG + "polyline") for p in line.attrib["points"].split()]
    dots = [(c.attrib["cx"], c.attrib["cy"]) for c in root.iter(SVG + "circle")]
    return [(float(x), float(y)) for x, y in [*lines, *dots]]


@given(first=POINTS, second=POINTS, label=st.text(max_size=20), steps=st.integers(0, 10_000))
def test_any_losses_are_drawn_inside_of_the_frame(
    first: list[tuple[int, float]], second: list[tuple[int, float]], label: str, steps: int
) -> None:
    label = "".join(c for c in label if c.isprintable())  # XML itself forbids control characters
    chart = loss_chart([Curve("one", label, first), Curve("two dots", label, second)], steps)
    for x, y in places(chart):
        assert 0 <= x <= WIDTH
        assert 0 <= y <= HEIGHT


def test_a_loss_that_is_no_number_is_left_out_and_the_others_stay_in_order() -> None:
    chart = loss_chart([Curve("c", "loss", [(1, 0.3), (2, math.nan), (3, 0.2), (4, 0.1)])], 4)
    found = places(chart)
    assert len(found) == 3
    assert [x for x, _ in found] == sorted(x for x, _ in found)
    assert [y for _, y in found] == sorted(y for _, y in found), "a falling loss falls: y grows downwards"


def test_one_wild_loss_does_not_flatten_the_rest() -> None:
    calm = [(i, 0.1 + 0.001 * (i % 10)) for i in range(200)]
    spread = [y for _, y in places(loss_chart([Curve("c", "loss", [*calm, (201, 50.0)])], 201))]
    assert max(spread[:-1]) - min(spread[:-1]) > HEIGHT / 2


@given(st.lists(st.floats(TOP, HEIGHT - BOTTOM), min_size=1, max_size=4))
def test_names_at_the_ends_of_lines_give_way_to_each_other(wanted: list[float]) -> None:
    found = spread(wanted, TOP, HEIGHT - BOTTOM)
    assert all(TOP <= y <= HEIGHT - BOTTOM for y in found)
    order = sorted(range(len(wanted)), key=lambda i: (wanted[i], i))
    assert all(found[b] - found[a] >= APART - 1e-6 for a, b in zip(order, order[1:], strict=False))
    if all(abs(a - b) >= APART for i, a in enumerate(wanted) for b in wanted[i + 1 :]):
        assert found == wanted


def test_scores_have_names_and_marks_of_their_own() -> None:
    curves = [Curve("a", "<overall>", [(0.5, 1.0), (1, 0.2)]), Curve("b", "concept", [(0.5, 1.0), (1, 0.2)])]
    root = ElementTree.fromstring(value_chart(curves, "mika"))
    marks = {path.attrib["class"]: path.attrib["d"] for path in root.iter(SVG + "path")}
    assert marks["a"] != marks["b"]
    assert [text.text for text in root.iter(SVG + "text")][-1:] == ["concept"]
    assert "<overall> 20% at 1" in [title.text for title in root.iter(SVG + "title")]


def seen(colour: str, eye: str) -> tuple[float, ...]:
    """A colour as an eye without one kind of cones sees it (Vienot and others, 1999), in Lab."""
    rows = {
        "all": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
        "no red": ((0.11238, 0.88762, 0), (0.11238, 0.88762, 0), (0.00401, -0.00401, 1)),
        "no green": ((0.29275, 0.70725, 0), (0.29275, 0.70725, 0), (-0.02234, 0.02234, 1)),
    }[eye]
    rgb = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    r, g, b = (max(0.0, sum(a * c for a, c in zip(row, linear, strict=True))) for row in rows)
    xyz = (
        (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505, 0.2126 * r + 0.7152 * g + 0.0722 * b,
        (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.089,
    )  # fmt: skip
    x, y, z = (c ** (1 / 3) if c > 0.008856 else 7.787 * c + 16 / 116 for c in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


@pytest.mark.parametrize("eye", ["all", "no red", "no green"])
@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_every_eye_tells_the_scores_apart(theme: int, eye: str) -> None:
    css = (Path(__file__).resolve().parents[2] / "style.css").read_text(encoding="utf-8")
    found = [re.findall(f"--lora-lab-score-{name}: (#[0-9a-f]{{6}})", css)[theme] for name in CURVES]
    assert len(set(found)) == len(CURVES)
    for i, one in enumerate(found):
        for other in found[i + 1 :]:
            assert math.dist(seen(one, eye), seen(other, eye)) > 20, (one, other)


def test_no_step_yet_is_a_chart_too() -> None:
    assert "no step yet" in loss_chart([], 0)
    assert not places(loss_chart([Curve("c", "loss", [])], 100))


@given(low=st.floats(-1e6, 1e6), span=st.floats(1e-6, 1e6))
def test_ticks_are_evenly_spaced_and_few(low: float, span: float) -> None:
    found = ticks(low, low + span)
    assert 1 <= len(found) <= 9
    gaps = {round((b - a) / (found[1] - found[0]), 3) for a, b in zip(found, found[1:], strict=False)}
    assert gaps <= {1.0}


@given(st.dictionaries(st.tuples(st.integers(8, 4096), st.integers(8, 4096)), st.integers(1, 10_000), max_size=40))
def test_each_bucket_has_a_bar_as_long_as_its_count_says(buckets: dict[tuple[int, int], int]) -> None:
    root = ElementTree.fromstring(bucket_chart(buckets))
    bars = [float(r.attrib["width"]) for r in root.iter(SVG + "rect") if r.attrib["class"] == "lora-lab-fill"]
    assert len(bars) == len(buckets)
    longest = max(buckets.values(), default=1)
    for bar, count in zip(bars, buckets.values(), strict=True):
        assert bar == pytest.approx(max(2.0, max(bars) * count / longest), abs=0.06)


def planned(**values: object) -> tuple[TrainSettings, Plan]:
    settings = TrainSettings.from_mapping({"train_data_dir": "x", "output_name": "x", **values})
    return settings, make_plan(settings, 10)


def test_the_curve_before_the_start_is_the_schedule() -> None:
    settings, plan = planned(max_train_epochs=4, lr_scheduler="cosine_with_restarts", lr_scheduler_num_cycles=2,
                             lr_warmup_steps=8, unet_lr=1e-3, text_encoder_lr=5e-4)  # fmt: skip
    chart = schedule_view.curve(settings, plan)
    assert chart.count("<polyline") == 2
    assert chart.count("end of epoch") == 3
    assert "warmup ends at step 8" in chart
    assert "restart at step 24" in chart
    points = places(chart)
    unet, text = points[: len(points) // 2], points[len(points) // 2 :]
    bottom = HEIGHT - BOTTOM
    assert unet[0][1] == text[0][1] == bottom, "from 0"
    heights = [(bottom - u[1]) / (bottom - t[1]) for u, t in zip(unet, text, strict=True) if bottom - t[1] > 5]
    assert heights == pytest.approx([2] * len(heights), rel=0.05)
    assert min(range(len(unet)), key=lambda i: unet[i][1]) in (8, 24), "the full rate after warmup and restart"


@pytest.mark.parametrize("name", list(SCHEDULES))
def test_every_schedule_is_drawn(name: str) -> None:
    more: dict[str, dict[str, object]] = {
        "cosine_with_min_lr": {"lr_scheduler_min_lr_ratio": 0.1},
        "warmup_stable_decay": {"lr_decay_steps": 0.2},
        "piecewise_constant": {"lr_scheduler_args": ["step_rules=1:40,0.1"]},
        "adafactor": {"optimizer_type": "Adafactor"},
    }
    assert "<polyline" in schedule_view.curve(*planned(lr_scheduler=name, **more.get(name, {})))


def test_a_rise_and_a_fall_longer_than_the_run_are_refused() -> None:
    wrong = planned(lr_scheduler="warmup_stable_decay", lr_warmup_steps=60, lr_decay_steps=60)
    with pytest.raises(SettingsError, match="do not fit in 100 steps"):
        schedule_view.curve(*wrong)


def test_rates_by_block_and_the_text_encoders_end_are_drawn() -> None:
    settings, plan = planned(
        max_train_epochs=4, lr_scheduler="constant", up_lr_weight="linear", down_lr_weight="zeros",
        stop_text_encoder_training=15, unet_lr=1e-4, text_encoder_lr=5e-5,
    )  # fmt: skip
    chart = schedule_view.curve(settings, plan)
    # One line for the text encoder, one each for OUT01 to OUT10, one for M00 and OUT11, whose rate is the same.
    assert chart.count("<polyline") == 12
    assert "text encoder&#x27;s training ends at step 15" in chart or "text encoder's training ends" in chart
    assert "11 groups of the UNet" in chart
    text = next(p for p in chart.split("<polyline") if "lora-lab-validation" in p)
    heights = [float(pair.split(",")[1]) for pair in text.split('points="')[1].split('"')[0].split()]
    assert heights[-1] == HEIGHT - BOTTOM
    assert heights[0] < heights[-1]
    assert ">epoch<" in chart


def test_a_schedule_of_torch_is_drawn() -> None:
    pytest.importorskip("torch")
    settings, plan = planned(
        max_train_steps=30, lr_scheduler_type="StepLR", lr_scheduler_args=["step_size=10", "gamma=0.5"]
    )
    chart = schedule_view.curve(settings, plan)
    heights = {round(HEIGHT - BOTTOM - y, 1) for _, y in places(chart)}
    assert len(heights) == 4, "1, 1/2 and 1/4 of the UNet's rate, and 1/8: the text encoder's is the half of it"
    wrong, plan = planned(
        max_train_steps=30, lr_scheduler_type="OneCycleLR", lr_scheduler_args=["max_lr=1", "total_steps=9"]
    )
    with pytest.raises(SettingsError, match="ends before the run"):
        schedule_view.curve(wrong, plan)
