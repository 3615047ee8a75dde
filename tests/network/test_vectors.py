"""Block weights as people write them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_lab.errors import SettingsError
from lora_lab.families import Family
from lora_lab.network import presets
from lora_lab.network.blocks import block_names
from lora_lab.network.vectors import FORMATS, listed, vector

SIZES = {Family.SD1: (17, 26), Family.SD2: (17, 26), Family.SDXL: (12, 20)}


@pytest.mark.parametrize("family", list(Family))
def test_each_family_has_its_two_lists(family: Family) -> None:
    assert tuple(FORMATS[family]) == SIZES[family]
    for count, order in FORMATS[family].items():
        assert len(order) == len(set(order)) == count
        assert set(order) <= set(block_names(family))


def test_seventeen_values_stand_where_lora_block_weight_has_them() -> None:
    values = [n / 10 for n in range(17)]
    found = vector(",".join(map(str, values)), Family.SD1)
    assert found.blocks["BASE"] == 0
    assert (found.blocks["IN01"], found.blocks["IN08"], found.blocks["M00"]) == (0.1, 0.6, 0.7)
    assert (found.blocks["OUT03"], found.blocks["OUT11"]) == (0.8, 1.6)
    assert found.blocks["IN00"] == found.blocks["IN09"] == found.blocks["OUT02"] == 0


@given(st.sampled_from(list(Family)), st.data())
def test_a_list_comes_back_from_its_weights(family: Family, data: st.DataObject) -> None:
    count = data.draw(st.sampled_from(SIZES[family]))
    numbers = data.draw(st.lists(st.integers(-20, 20), min_size=count, max_size=count))
    found = vector(",".join(str(n / 4) for n in numbers), family)
    again = vector(listed(found.blocks, family), family)
    assert again.blocks == found.blocks


def test_x_and_what_is_drawn() -> None:
    words = ["X", "X+0.25", "x-0.25", "R", "U", *["0"] * 12]
    one = vector(",".join(words), Family.SD1, x=0.5, draw=random.Random(3))
    two = vector(",".join(words), Family.SD1, x=0.5, draw=random.Random(3))
    assert one == two
    assert (one.blocks["BASE"], one.blocks["IN01"], one.blocks["IN02"]) == (0.5, 0.75, 0.25)
    assert 0 <= one.blocks["IN04"] <= 1
    assert -0.5 <= one.blocks["IN05"] <= 1.5
    assert vector(one.text, Family.SD1).blocks["IN04"] == pytest.approx(one.blocks["IN04"], rel=1e-3)
    with pytest.raises(SettingsError, match="drawn at random"):
        vector(",".join(words), Family.SD1)


@pytest.mark.parametrize(
    ("text", "family", "told"),
    [
        ("1,1,1", Family.SD1, "3 block weights do not fit sd1: give 17 or 26 values"),
        (",".join("1" * 20), Family.SD1, "20 block weights, which are SDXL's, do not fit sd1"),
        (",".join("1" * 17), Family.SDXL, "17 block weights, which are SD1's, do not fit sdxl: give 12 or 20"),
        ("OUTT", Family.SD1, "there are no block weights named 'OUTT'"),
        (",".join(["1"] * 16 + ["one"]), Family.SD1, "'one' is no block weight"),
        (",".join(["1"] * 16 + ["nan"]), Family.SD1, "'nan' is no block weight"),
        ("", Family.SD1, "there are no block weights named ''"),
    ],
)
def test_what_is_wrong_is_said(text: str, family: Family, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        vector(text, family)


@given(st.text(max_size=60), st.sampled_from(list(Family)))
def test_any_text_is_weights_or_one_sentence(text: str, family: Family) -> None:
    try:
        found = vector(text, family)
    except SettingsError as error:
        assert str(error).endswith(".")  # noqa: PT017 - either way is right
    else:
        assert set(found.blocks) == set(block_names(family))


def test_presets_hold_for_every_family_where_they_make_sense() -> None:
    for preset in presets.DEFAULTS:
        for family in preset.families:
            blocks = preset.blocks(family, x=0.25)
            assert set(blocks) == set(block_names(family))
    inx = presets.by_name("inx")
    assert inx is not None
    for family in Family:
        blocks = inx.blocks(family, x=0.25)
        assert {blocks[b] for b in blocks if b.startswith("OUT")} == {0.25}
        assert {blocks[b] for b in blocks if not b.startswith("OUT")} == {1.0}


def test_known_presets_mean_what_lora_block_weight_means() -> None:
    outd = presets.by_name("OUTD")
    assert outd is not None
    on = [block for block, weight in outd.blocks(Family.SD1).items() if weight]
    assert on == ["BASE", "OUT03", "OUT04", "OUT05", "OUT06"]
    with pytest.raises(SettingsError, match="is for sd1 and sd2"):
        outd.blocks(Family.SDXL)


def test_spans_and_later_rules() -> None:
    face = presets.Preset("FACE", "IN=0.5 OUT03-OUT05=1 OUT04=0")
    blocks = face.blocks(Family.SD1)
    assert (blocks["IN07"], blocks["OUT03"], blocks["OUT04"], blocks["OUT05"], blocks["OUT06"]) == (0.5, 1, 0, 1, 0)
    with pytest.raises(SettingsError, match="holds 'OUT3=1'"):
        presets.Preset("BAD", "OUT3=1").blocks(Family.SD1)


def test_a_file_of_presets(tmp_path: Path) -> None:
    path = tmp_path / "lbwpresets.txt"
    path.write_text(
        "\ufeffMINE:" + ",".join(["1"] * 17) + "\n# a comment\nSHORT:1,1\n\nXL: " + ",".join(["0.5"] * 12) + "\nGUIDE:"
        + ",".join(["1"] * 25) + "\nMINE:" + ",".join(["0"] * 17) + "\n",
        encoding="utf-8",
    )  # fmt: skip
    found = {preset.name: preset for preset in presets.read_file(path)}
    assert set(found) == {"MINE", "XL"}
    assert found["MINE"].blocks(Family.SD1)["IN01"] == 0
    assert found["XL"].families == {Family.SDXL}
    with pytest.raises(SettingsError, match="cannot be read"):
        presets.read_file(tmp_path / "none.txt")


@given(st.lists(st.text(max_size=80), max_size=8))
def test_any_lines_are_presets_or_comments(lines: list[str]) -> None:
    for preset in presets.parse_lines(lines):
        for family in preset.families:
            preset.blocks(family)
