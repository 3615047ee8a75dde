"""Block weights, layers and steps of a prompt's LoRAs."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_lab.errors import SettingsError
from lora_lab.families import Family
from lora_lab.network import prompt_weights
from lora_lab.network.presets import Preset
from lora_lab.network.prompt_weights import PromptReader, Tag, parse, resolve

OUT04 = "lora_unet_up_blocks_1_attentions_1_transformer_blocks_0_attn1_to_q"
IN04 = "lora_unet_down_blocks_1_attentions_0_proj_in"
TEXT = "lora_te_text_model_encoder_layers_0_mlp_fc1"
OUTSIDE = "lora_unet_time_embedding_linear_1"


def tag(text: str) -> Tag:
    return parse(text.split(":"))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("x", Tag("x")),
        ("x:0.5", Tag("x", 0.5, 0.5)),
        ("x:0.5:0.7", Tag("x", 0.5, 0.7)),
        ("x:0.5:0.7:8", Tag("x", 0.5, 0.7, 8)),
        ("x:unet=0.7:te=0.2:dyn=4", Tag("x", 0.2, 0.7, 4)),
        ("x:unet=0.7", Tag("x", 1.0, 0.7)),
        ("x:1:lbw=OUTALL", Tag("x", weights="OUTALL")),
        ("x:lbw=INX:1:0.5:x=0.25", Tag("x", 1.0, 0.5, weights="INX", x=0.25)),
        ("x:1:lwb=INX", Tag("x", weights="INX")),
        ("x:1:w=INX", Tag("x", weights="INX")),
        ("x:1:lbwe=ATTNDEEPOFF:0.5", Tag("x", 1.0, 0.5, rules="ATTNDEEPOFF")),
        ("x:lbwe=IN05-OUT05:attn:0:0.5", Tag("x", 0.5, 0.5, rules="IN05-OUT05:attn:0")),
        ("x:1:lbwe=IN05:attn:0,OUT03:ff_net:0.5:start=3", Tag("x", rules="IN05:attn:0,OUT03:ff_net:0.5", start=3)),
        ("x:1:step=5-10", Tag("x", start=5, stop=10)),
        ("x:1:start=2:stop=4", Tag("x", start=2, stop=4)),
    ],
)
def test_what_is_written(text: str, wanted: Tag) -> None:
    assert tag(text) == wanted


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x:1:lbw=1,0,1", "<lora:x>: 3 block weights do not fit sd1: give 17 or 26 values for sd1, or one of NONE"),
        ("x:1:lbw=" + ",".join("1" * 12), "<lora:x>: 12 block weights, which are SDXL's, do not fit sd1"),
        ("x:1:lbw=OUTAL", "<lora:x>: there are no block weights named 'OUTAL': give 17"),
        ("x:1:lbw=B-LoRA-style", "<lora:x>: the preset B-LoRA-style is for sdxl"),
        ("x:1:lbw=" + ",".join(["1"] * 16 + ["y"]), "'y' is no block weight"),
        ("x:1:lbw=INX:x=half", "<lora:x>: x is 'half', which is no number"),
        ("x:y:lbw=INX", "the text encoder's strength is 'y'"),
        ("x:1:nan:lbw=INX", "the UNet's strength is 'nan'"),
        ("x:1:start=two", "start is 'two', which is no whole number"),
        ("x:1:step=5", "step='5' is no range of steps: write it as step=5-10"),
        ("x:1:step=5-5", "from step 5 until before step 5 there is no step"),
        ("x:1:stop=1", "from step 1 until before step 1 there is no step"),
        ("x:1:lbwe=ATTNDEPOFF", "'ATTNDEPOFF' is no rule for layers"),
        ("x:1:lbwe=IN99:attn:0", "IN99"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(SettingsError) as caught:
        resolve(tag(text), Family.SD1, draw=random.Random(0))
    assert sentence in str(caught.value)
    assert str(caught.value).startswith("<lora:x>: ")
    assert str(caught.value).count("\n") == 0


def test_weights_of_layers() -> None:
    values = "0.5,0,0,0.25,0,0,0,0,0,0.75,0,0,0,0,0,0,0"
    found = resolve(tag(f"x:1:lbw={values}:lbwe=OUT04:attn1:0.125"), Family.SD1)
    assert [found.weight(site) for site in (TEXT, IN04, OUTSIDE)] == [0.5, 0.25, 1.0]
    assert found.weight(OUT04) == 0.125
    assert found.weight(OUT04.replace("attn1", "attn2")) == 0.75


def test_layers_outside_the_blocks_are_off_with_the_whole_unet() -> None:
    assert resolve(tag("x:1:lbw=NONE"), Family.SD1).weight(OUTSIDE) == 0
    assert resolve(tag("x:1:lbw=1" + ",0" * 16), Family.SD1).weight(OUTSIDE) == 0
    assert resolve(tag("x:1:step=1-3"), Family.SD1).weight(OUTSIDE) == 1


def test_steps() -> None:
    found = resolve(tag("x:1:step=2-4"), Family.SD1)
    assert [found.acts(step) for step in range(5)] == [False, True, True, False, False]
    assert [resolve(tag("x:1:stop=3"), Family.SD1).acts(step) for step in range(4)] == [True, True, False, False]
    assert all(resolve(tag("x:1:lbw=ALL"), Family.SD1).acts(step) for step in range(4))
    assert not resolve(tag("x:1:lbw=ALL"), Family.SD1).windowed


def test_what_is_drawn_is_the_seeds_and_is_said(tmp_path: Path) -> None:
    reader, items = PromptReader(tmp_path), ["x", "1", "lbw=R,U,X" + ",1" * 14, "x=0.3"]
    first, again, other = (reader.read([items], Family.SD1, seed)[0] for seed in (7, 7, 8))
    assert first is not None
    assert again is not None
    assert other is not None
    assert first.text == again.text != other.text
    values = [float(word) for word in first.text.split(",")]
    assert values == [first.blocks[b] for b in ("BASE", "IN01", "IN02")] + [1.0] * 14
    assert 0 <= values[0] <= 1
    assert -0.5 <= values[1] <= 1.5
    assert values[2] == 0.3
    twice = reader.read([items, items], Family.SD1, 7)
    assert twice[1] is not None
    assert twice[1].text != first.text


def test_presets_and_rules_of_the_data_folder(tmp_path: Path) -> None:
    (tmp_path / "lbwpresets.txt").write_text("MINE:" + ",".join(["0.5"] * 17))
    (tmp_path / prompt_weights.FILE_OF_RULES).write_text("NOATTN::attn:0\n")
    read = PromptReader(tmp_path).read([["x", "1", "lbw=mine", "lbwe=noattn", "0.5"]], Family.SD1, 0)[0]
    assert read is not None
    assert (read.tag.unet, read.weight(OUT04), read.weight(IN04)) == (0.5, 0, 0.5)


def test_whose_tags_are_ours(tmp_path: Path) -> None:
    reader = PromptReader(tmp_path)
    plain, ours = ["x", "0@0,1@1", "hr=2"], ["y", "1", "stop=3"]
    assert reader.read([plain, ["z"]], None, 0) == [None, None]
    found = reader.read([["z", "1"], ours, ["y", "0.5"]], Family.SD1, 0)
    assert [one is None for one in found] == [True, False, False]
    with pytest.raises(SettingsError, match="need a Stable Diffusion 1, 2 or XL checkpoint"):
        reader.read([ours], None, 0)


def test_a_preset_for_every_family() -> None:
    for family in Family:
        found = resolve(tag("x:1:lbw=OUTX:x=0.2"), family)
        assert (found.blocks["IN04"], found.blocks["OUT04"], found.blocks["BASE"]) == (0.2, 1, 1)


words = st.sampled_from(["1", "0", "-0.5", "0.123456", "X", "X-0.5", "R", "u", "R+1"])


@given(st.sampled_from([17, 26]).flatmap(lambda n: st.lists(words, min_size=n, max_size=n)), st.integers(1, 99))
def test_what_is_resolved_says_itself(values: list[str], step: int) -> None:
    """The items that are kept for the second pass mean the same when they are read again."""
    text = f"x:0.3:0.7:lbw={','.join(values)}:x=0.77777:lbwe=OUT03-OUT05:attn:0,IN01::2:start={step}"
    first = resolve(tag(text), Family.SD1, draw=random.Random(step))
    again = resolve(parse(first.items), Family.SD1)
    assert (again.blocks, again.rules, again.items) == (first.blocks, first.rules, first.items)
    assert again.tag.start == step


@given(st.lists(st.text(alphabet="xlbwe=:0159,-. RUXTNOIM_", max_size=12), min_size=1, max_size=6))
def test_any_text_is_read_or_refused_in_a_sentence(items: list[str]) -> None:
    said = "."
    try:
        resolve(parse(items), Family.SDXL, draw=random.Random(0), known=(Preset("X", "OUT=1"),))
    except SettingsError as error:
        said = str(error)
    assert said.endswith(".")
