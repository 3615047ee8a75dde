"""Values, ranges, combinations and names of a sweep."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from lora_lab.errors import LoraLabError, SettingsError  # noqa: E402
from lora_lab.training.settings import TrainSettings  # noqa: E402
from lora_lab.workflow.sweep_plan import Axis, combine, parse_axis  # noqa: E402

BASE = TrainSettings.from_mapping({"output_name": "mika", "train_data_dir": "x"})


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("network_dim=8,16,32", ("8", "16", "32")),
        ("network_dim = 8, 16 ,8", ("8", "16")),
        ("unet_lr=1e-4..5e-4/3", (1e-4, 3e-4, 5e-4)),
        ("unet_lr=1e-5..1e-3/3log", (1e-5, 1e-4, 1e-3)),
        ("unet_lr=1e-5..1e-3/3 log", (1e-5, 1e-4, 1e-3)),
        ("network_dim=4..32/4log", (4, 8, 16, 32)),
        ("network_dim=1..3/9", (1, 2, 3)),
        ("unet_lr=5e-4..1e-4/2,1e-3", (5e-4, 1e-4, "1e-3")),
        ("resolution=512,768;512", ("512,768", "512")),
        ("optimizer_type=AdamW,Prodigy", ("AdamW", "Prodigy")),
    ],
)
def test_values_and_ranges(text: str, values: tuple[object, ...]) -> None:
    assert parse_axis(text).values == values


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("network_dim", "says no values"),
        ("network_dim=", "says no values"),
        ("network_dimm=8", "did you mean network_dim"),
        ("network_dim=8,,16", "empty value"),
        ("unet_lr=a..1/3", "no number"),
        ("unet_lr=0..1/3log", "ends at 0"),
        ("unet_lr=1e-4..1e-3/1", "2 to 1000"),
        ("unet_lr=1e-4..inf/3", "cannot be made"),
    ],
)
def test_bad_axes(text: str, wrong: str) -> None:
    with pytest.raises(SettingsError, match=wrong):
        parse_axis(text)


def test_a_grid_and_a_zip() -> None:
    axes = [parse_axis("network_dim=8,16"), parse_axis("unet_lr=1e-4,2e-4")]
    grid = combine(BASE, axes)
    pairs = [(run.settings.network_dim, run.settings.unet_lr) for run in grid]
    assert pairs == [(8, 1e-4), (8, 2e-4), (16, 1e-4), (16, 2e-4)]
    assert grid[0].name == grid[0].settings.output_name == "mika-network_dim8-unet_lr1e-4"
    assert grid[0].words == "network_dim 8, unet_lr 0.0001"
    assert len({run.mark for run in grid}) == 4
    zipped = combine(BASE, axes, "zip")
    assert [(r.settings.network_dim, r.settings.unet_lr) for r in zipped] == [(8, 1e-4), (16, 2e-4)]


@pytest.mark.parametrize(
    ("texts", "mode", "limit", "wrong"),
    [
        ([], "grid", 50, "nothing is to vary"),
        (["network_dim=8,16", "unet_lr=1e-4"], "zip", 50, r"network_dim 2, unet_lr 1"),
        (["network_dim=8,16", "network_dim=4"], "grid", 50, "network_dim varies twice"),
        (["output_name=a,b"], "grid", 50, "output_name is made from what differs"),
        (["seed=1..100/100"], "grid", 50, "100 runs, more than 50: give fewer values, or a limit of 100"),
        (["network_dim=8,none"], "grid", 50, "with network_dim none, network_dim is 'none'"),
        (["network_dim=0..4/5"], "grid", 50, "with network_dim 0, network_dim is 0: give 1 or more"),
    ],
)
def test_bad_combinations_are_named(texts: list[str], mode: str, limit: int, wrong: str) -> None:
    with pytest.raises(SettingsError, match=wrong):
        combine(BASE, [parse_axis(text) for text in texts], mode, limit)  # type: ignore[arg-type]


def test_a_long_name_is_cut_and_still_its_own() -> None:
    axes = [Axis("training_comment", tuple(f"{'x' * 200}{i}" for i in range(3)))]
    names = [run.name for run in combine(BASE, axes)]
    assert len(set(names)) == 3
    assert all(len(name) < 120 for name in names)


@settings(deadline=None, max_examples=40)
@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    for start in ("network_dim=", "unet_lr=", ""):
        with suppress(LoraLabError):
            combine(BASE, [parse_axis(start + text)])


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(1, 128), min_size=1, max_size=6, unique=True))
def test_names_are_file_names_and_differ(dims: list[int]) -> None:
    runs = combine(BASE, [parse_axis("network_dim=" + ",".join(map(str, dims)))])
    assert len({run.name for run in runs}) == len(dims)
    assert all(re.fullmatch(r"[A-Za-z0-9.+_-]+", run.name) for run in runs)
