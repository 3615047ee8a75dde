"""Names of both layouts, judged by diffusers' own converter and by real modules of every family."""

from __future__ import annotations

import string
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lora_lab.families import Family, Layout
from lora_lab.network import blocks, names
from tests.network.models import diffusers_unet, ldm_unet, text_encoder

SHAPES: dict[Family, dict[str, Any]] = {
    Family.SD1: {"cross_attention_dim": 768},
    Family.SD2: {"cross_attention_dim": 1024, "use_linear_projection": True, "attention_head_dim": (5, 10, 20, 20)},
    Family.SDXL: {
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}


def meta_unet(family: Family) -> nn.Module:
    """diffusers' UNet of the family's real shape, without weights."""
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
    with torch.device("meta"):
        unet: nn.Module = diffusers.UNet2DConditionModel(**SHAPES[family])
    return unet


def layers(model: nn.Module) -> list[str]:
    return [path for path, module in model.named_modules() if isinstance(getattr(module, "weight", None), torch.Tensor)]


@pytest.mark.parametrize("family", list(Family))
def test_every_layer_of_every_family_there_and_back(family: Family) -> None:
    paths = layers(meta_unet(family))
    seen = set()
    for path in paths:
        ldm = names.to_ldm(path, family)
        assert ldm is not None, path
        assert names.to_diffusers(ldm) == path
        name = names.disk_name(path, "unet", family, "diffusers")
        assert name is not None
        assert name == names.disk_name(ldm, "unet", family, "ldm")
        assert names.module_path(name, family, "diffusers") == ("unet", path)
        assert names.module_path(name, family, "ldm") == ("unet", ldm)
        seen.add(name)
    assert len(seen) == len(paths)


def test_ldm_and_diffusers_agree_with_diffusers_own_converter() -> None:
    """Each ldm layer is marked with a number of its own; the converter must carry it to the path that we say."""
    single_file = pytest.importorskip("diffusers.loaders.single_file_utils", reason="diffusers is not installed")
    unet, live = diffusers_unet(), ldm_unet()
    marked = {f"model.diffusion_model.{n}": torch.full_like(t, i) for i, (n, t) in enumerate(live.state_dict().items())}
    converted = single_file.convert_ldm_unet_checkpoint(marked, config={**unet.config, "layers_per_block": 2})
    assert set(converted) == set(unet.state_dict())
    for number, key in enumerate(live.state_dict()):
        path, _, leaf = key.rpartition(".")
        theirs = converted[f"{names.to_diffusers(path)}.{leaf}"]
        assert float(theirs.flatten()[0]) == number


@pytest.mark.parametrize(
    ("path", "family", "layout", "name"),
    [
        ("down_blocks.0.attentions.0.proj_in", "sd1", "diffusers", "lora_unet_down_blocks_0_attentions_0_proj_in"),
        ("input_blocks.1.1.proj_in", "sd1", "ldm", "lora_unet_down_blocks_0_attentions_0_proj_in"),
        ("output_blocks.2.1.conv", "sd1", "ldm", "lora_unet_up_blocks_0_upsamplers_0_conv"),
        ("output_blocks.2.2.conv", "sdxl", "ldm", "lora_unet_output_blocks_2_2_conv"),
        ("mid_block.attentions.0.proj_out", "sdxl", "diffusers", "lora_unet_middle_block_1_proj_out"),
        ("middle_block.2.emb_layers.1", "sd2", "ldm", "lora_unet_mid_block_resnets_1_time_emb_proj"),
        ("input_blocks.3.0.op", "sd1", "ldm", "lora_unet_down_blocks_0_downsamplers_0_conv"),
    ],
)
def test_names_that_kohya_writes(path: str, family: str, layout: Layout, name: str) -> None:
    assert names.disk_name(path, "unet", Family(family), layout) == name


@pytest.mark.parametrize("prefix", ["", "text_model.", "transformer.text_model."])
def test_text_encoders_of_every_transformers_version_have_one_name(prefix: str) -> None:
    path = f"{prefix}encoder.layers.11.self_attn.q_proj"
    tail = "text_model_encoder_layers_11_self_attn_q_proj"
    assert names.disk_name(path, "text_encoder", Family.SD1, "ldm") == f"lora_te_{tail}"
    assert names.disk_name(path, "text_encoder", Family.SDXL, "ldm") == f"lora_te1_{tail}"
    assert names.disk_name(path, "text_encoder_2", Family.SDXL, "diffusers") == f"lora_te2_{tail}"
    assert names.module_path(f"lora_te_{tail}", Family.SD1, "ldm") == (
        "text_encoder",
        "text_model.encoder.layers.11.self_attn.q_proj",
    )


def test_a_name_of_another_family_is_not_taken() -> None:
    assert names.module_path("lora_te1_text_model_encoder_layers_0_mlp_fc1", Family.SD1, "ldm") is None
    assert names.module_path("lora_unet_input_blocks_4_1_proj_in", Family.SD1, "ldm") is None
    assert names.module_path("lora_unet_down_blocks_1_attentions_0_proj_in", Family.SDXL, "ldm") is None
    assert names.disk_name("encoder.layers.0.mlp.fc1", "text_encoder_2", Family.SD1, "ldm") is None


NEARLY = st.from_regex(
    r"(((down|up)_blocks|mid_block)(\.[0-4])?\.(attentions|resnets|downsamplers|upsamplers)"
    r"|(input|output)_blocks\.1?[0-9]|middle_block)\.[0-3]\.(conv|op|conv1|proj_in|norm1|in_layers\.2|0)",
    fullmatch=True,
)


@given(st.text(string.ascii_lowercase + string.digits + "._", max_size=60) | NEARLY)
def test_no_text_is_mistaken_or_raises(text: str) -> None:
    for family in Family:
        for name in (text, "lora_unet_" + text, "lora_te_" + text):
            found = names.module_path(name, family, "diffusers")
            assert found is None or names.disk_name(found[1], found[0], family, "diffusers") == name
        ldm = names.to_ldm(text, family)
        assert ldm is None or names.to_diffusers(ldm) == text
        new = names.to_diffusers(text)
        assert new is None or names.to_diffusers(names.to_ldm(new, family) or "") == new


@given(st.sampled_from(layers(text_encoder())))
def test_dots_come_back(path: str) -> None:
    if "encoder.layers" in path and "embed" not in path:
        assert names.dotted(path.replace(".", "_")) == path


def test_blocks_of_names() -> None:
    assert blocks.block_of_name("lora_te_text_model_encoder_layers_0_mlp_fc1", Family.SD1) == "BASE"
    assert blocks.block_of_name("lora_unet_up_blocks_3_attentions_2_proj_in", Family.SD1) == "OUT11"
    assert blocks.block_of_name("lora_unet_output_blocks_5_1_proj_in", Family.SDXL) == "OUT05"
    assert blocks.block_of_name("lora_unet_time_embedding_linear_1", Family.SD1) == "OTHER"
    assert len(blocks.block_names(Family.SD1)) == 26
    assert len(blocks.block_names(Family.SDXL)) == 20
    assert blocks.in_order(["OTHER", "OUT01", "IN10", "M00", "BASE", "IN02", "OUT00"]) == (
        *("BASE", "IN02", "IN10", "M00", "OUT00", "OUT01", "OTHER"),
    )
