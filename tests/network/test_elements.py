"""Weights of single layers: lora-block-weight's `lbwe`."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_lab.errors import SettingsError
from lora_lab.families import Family
from lora_lab.network.elements import DEFAULTS, groups, named_rules, read_file, rules, weight_of

ATTN = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"  # IN01
CROSS = "lora_unet_up_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"  # OUT03
FF = "lora_unet_up_blocks_1_attentions_1_transformer_blocks_0_ff_net_0_proj"  # OUT04
PROJ = "lora_unet_down_blocks_1_attentions_1_proj_in"  # IN05
CONV = "lora_unet_up_blocks_1_resnets_1_conv1"  # OUT04, in_layers
TIME = "lora_unet_up_blocks_1_resnets_1_time_emb_proj"  # OUT04, emb_layers
TE = "lora_te_text_model_encoder_layers_3_self_attn_q_proj"
MLP = "lora_te_text_model_encoder_layers_3_mlp_fc1"
SITES = (ATTN, CROSS, FF, PROJ, CONV, TIME, TE, MLP)

CASES = {
    ":::0": None,
    "::0": dict.fromkeys(SITES, 0.0),
    "IN00-IN11::1": {ATTN: 1.0, PROJ: 1.0},
    ":attn:0.5": {ATTN: 0.5, CROSS: 0.5, TE: 0.5},
    "IN05-OUT05:attn:0": {CROSS: 0.0},
    "OUT05-IN05:attn:0": {CROSS: 0.0},
    "in05-out05:proj:0": {FF: 0.0, PROJ: 0.0},
    "BASE OUT03:attn:2": {CROSS: 2.0, TE: 2.0},
    "BASE IN04-IN06:proj:2": {PROJ: 2.0, TE: 2.0},
    "NOT BASE OUT04:proj:-1": {PROJ: -1.0},
    "OUT04:NOT ff_net:3": {CONV: 3.0, TIME: 3.0},
    "OUT04:in_layers emb_layers:3": {CONV: 3.0, TIME: 3.0},
    ":attn2.to_k:0.1": {CROSS: 0.1},
    "BASE::0.1,BASE:mlp:0.2\nOUT::0.3": {TE: 0.1, MLP: 0.2, CROSS: 0.3, FF: 0.3, CONV: 0.3, TIME: 0.3},
    "OUT::0.3,OUT:attn:1,OUT::0.4": dict.fromkeys((CROSS, FF, CONV, TIME), 0.4),
}
"""Rules -> the sites that they speak of; the others keep their block's weight. The answers are those of
lora-block-weight's own code, but for `:::0`, which it passes over in silence."""


@pytest.mark.parametrize("text", CASES)
def test_a_rule_speaks_of_what_lora_block_weight_makes_it_speak_of(text: str) -> None:
    wanted = CASES[text]
    if wanted is None:
        with pytest.raises(SettingsError, match="no rule for layers"):
            rules(text, Family.SD1)
        return
    found = {site: weight_of(rules(text, Family.SD1), site, Family.SD1) for site in SITES}
    assert {site: weight for site, weight in found.items() if weight is not None} == wanted


def test_the_known_names_fit_every_family() -> None:
    deep = "lora_unet_input_blocks_7_1_transformer_blocks_0_attn1_to_q"
    for name in DEFAULTS:
        for family in Family:
            assert rules(name.lower(), family)
    assert weight_of(rules("ATTNDEEPOFF", Family.SDXL), deep, Family.SDXL) == 0
    te2 = "lora_te2_text_model_encoder_layers_3_self_attn_q_proj"
    assert weight_of(rules("ATTNDEEPOFF", Family.SDXL), te2, Family.SDXL) is None
    assert weight_of(rules("BASE:attn:2", Family.SDXL), te2, Family.SDXL) == 2


@pytest.mark.parametrize(
    "text", ["IN05:attn", "IN05:attn:x", "IN05:attn:nan", "IN99:attn:1", "IN05-IN06-IN07::1", "nowhere::1", "A:B:C:1"]
)
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        rules(text, Family.SD1)


def test_a_file_of_names(tmp_path: Path) -> None:
    path = tmp_path / "elempresets.txt"
    text = "\ufeffATTNOFF:IN05-OUT05:attn:0\r\nBASE:attn:0.5\r\n\r\nXYZ:::1\n\n# a note: of mine\n\nno rule\n"
    path.write_bytes(text.encode())
    named = read_file(path)
    assert named == {"ATTNOFF": "IN05-OUT05:attn:0,BASE:attn:0.5", "XYZ": "::1"}
    assert weight_of(rules("attnoff", Family.SD1, named), TE, Family.SD1) == 0.5
    assert weight_of(rules("XYZ", Family.SD1, named), FF, Family.SD1) == 1
    with pytest.raises(SettingsError, match="cannot be read"):
        read_file(tmp_path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="cannot be read"):
        read_file(path)


@given(st.text(alphabet="IN0OUTBASE45M:- ,\natproj.NOT#x", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    named_rules(text)
    for family in Family:
        try:
            found = rules(text, family)
        except SettingsError:
            continue
        for site in SITES:
            weight_of(found, site, family)


def test_each_group_has_layers_of_its_own() -> None:
    hit = {name: [s for s in SITES if weight_of(rules(text, Family.SD1), s, Family.SD1) == 0.5]
           for name, text in groups("", 0.5).items()}  # fmt: skip
    assert hit["self-attention"] == [ATTN, TE]
    assert hit["cross-attention"] == [CROSS]
    assert hit["feed-forward"] == [FF, MLP]
    assert hit["projections"] == [PROJ]
    assert hit["convolutions"] == [CONV]
    assert hit["time"] == [TIME]
