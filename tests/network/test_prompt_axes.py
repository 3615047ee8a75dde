"""A prompt's LoRA changed by the axes of the webui's plot."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_lab.errors import SettingsError
from lora_lab.families import Family
from lora_lab.network.prompt_axes import changed, first_lora
from lora_lab.network.prompt_weights import parse, resolve

OUT04 = "lora_unet_up_blocks_1_attentions_1_proj_in"
TEXT = "lora_te_text_model_encoder_layers_0_mlp_fc1"
IN04 = "lora_unet_down_blocks_1_attentions_0_proj_in"


@pytest.mark.parametrize(
    ("prompt", "axis", "value", "wanted"),
    [
        ("hat <lora:x:1>, dog <lora:y:1>", "preset", "OUTALL", "hat <lora:x:1:lbw=OUTALL>, dog <lora:y:1>"),
        ("<lora:x:1:lbw=INX:x=0.5>", "preset", "1,0,1", "<lora:x:1:x=0.5:lbw=1,0,1>"),
        ("<lora:x:1>", "block", "OUT03-OUT05=0.5", "<lora:x:1:lbwe=OUT03-OUT05::0.5>"),
        ("<lora:x:1>", "block", "out04", "<lora:x:1:lbwe=NOT OUT04::0>"),
        ("<lora:x:1>", "block", "NOT OUT04", "<lora:x:1:lbwe=OUT04::0>"),
        ("<lora:x:1>", "block", "not IN04 M00 = 2", "<lora:x:1:lbwe=NOT IN04 M00::2>"),
        ("<lora:x:1:lbwe=ATTNDEEPOFF:start=2>", "block", "BASE=0", "<lora:x:1:start=2:lbwe=IN05-OUT05:attn:0,BASE::0>"),
        ("<lora:x:lbwe=IN01:attn:0:1:stop=3>", "block", "M00", "<lora:x:1:stop=3:lbwe=IN01:attn:0,NOT M00::0>"),
        ("<lora:x>", "strength", "0.5", "<lora:x:0.5:0.5>"),
        ("<lora:x:1:unet=2:lbw=INX>", "strength", "0.5/1", "<lora:x:0.5:1:lbw=INX>"),
        ("<lora:x:1:2:8>", "strength", "0.5", "<lora:x:0.5:0.5:8>"),
        ("<lora:x:1:lbw=INX>", "snapshot", "x-000004", "<lora:x-000004:1:lbw=INX>"),
    ],
)
def test_what_changes(prompt: str, axis: str, value: str, wanted: str) -> None:
    assert changed(prompt, axis, value) == wanted


@pytest.mark.parametrize(
    ("prompt", "axis", "value", "sentence"),
    [
        ("hat", "preset", "OUTALL", "the prompt has no LoRA to change"),
        ("<lora:x:1>", "block", "OUT99", "OUT99"),
        ("<lora:x:1>", "block", "NOT", "names no block"),
        ("<lora:x:1>", "block", "OUT04=half", "'half' is no strength"),
        ("<lora:x:1>", "strength", "", "'' is no strength"),
        ("<lora:x:1>", "preset", "a:b", "'a:b' is no preset"),
    ],
)
def test_what_cannot_be_read(prompt: str, axis: str, value: str, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        changed(prompt, axis, value)


def test_a_block_beside_a_preset() -> None:
    prompt = changed(changed("<lora:x:1>", "preset", "ALL0.5"), "block", "OUT04=0.25")
    found = resolve(parse(first_lora(prompt)), Family.SD1)
    assert (found.weight(OUT04), found.weight(IN04)) == (0.25, 0.5)
    alone = resolve(parse(first_lora(changed("<lora:x:1>", "block", "OUT04"))), Family.SD1)
    assert [alone.weight(site) for site in (OUT04, IN04, TEXT)] == [1, 0, 0]


@given(st.text(max_size=20), st.sampled_from(["preset", "block", "strength", "snapshot"]), st.text(max_size=12))
def test_any_text(prompt: str, axis: str, value: str) -> None:
    said = "."
    try:
        changed(f"<lora:x:1>{prompt}", axis, value)
    except SettingsError as error:
        said = str(error)
    assert said.endswith(".")
