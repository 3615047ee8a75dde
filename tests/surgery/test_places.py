"""Names and blocks, judged by diffusers' UNets and its own converter of original checkpoints."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lora_lab.errors import CheckpointError
from lora_lab.families import Family
from lora_lab.network import names
from lora_lab.network.header import TensorSpec
from lora_lab.surgery import places

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")

NARROW = {"sample_size": 8, "norm_num_groups": 4, "attention_head_dim": 4}
SD = {
    "block_out_channels": (8, 16, 24, 24),
    "cross_attention_dim": 12,
    "layers_per_block": 2,
}
SDXL = {
    "block_out_channels": (8, 16, 24),
    "cross_attention_dim": 12,
    "layers_per_block": 2,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": 36,
}
CONFIG = {Family.SD1: SD, Family.SD2: SD | {"use_linear_projection": True}, Family.SDXL: SDXL}


def unet(family: Family) -> Any:
    torch.manual_seed(0)
    return diffusers.UNet2DConditionModel(**NARROW, **CONFIG[family])


def ldm_state(model: nn.Module, family: Family) -> dict[str, Tensor]:
    """The model's state under ldm's names."""
    state = {}
    for key, tensor in model.state_dict().items():
        path, _, leaf = key.rpartition(".")
        state[f"model.diffusion_model.{names.to_ldm(path, family)}.{leaf}"] = tensor
    return state


@pytest.mark.parametrize("family", list(Family))
def test_names_go_there_and_back(family: Family) -> None:
    for path, module in unet(family).named_modules():
        if any(True for _ in module.parameters(recurse=False)):
            ldm = names.to_ldm(path, family)
            assert ldm is not None
            theirs, ours = (f"lora_unet_{name.replace('.', '_')}" for name in (path, ldm))
            kohyas = ours if family is Family.SDXL else theirs
            assert places.canonical(ours, family) == places.canonical(theirs, family) == kohyas
            assert places.block_of(ours, family) == places.block_of(theirs, family)


@pytest.mark.parametrize("family", list(Family))
def test_diffusers_own_converter_agrees(family: Family) -> None:
    """The ldm names go through diffusers' converter and give the model back."""
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    model = unet(family)
    config = dict(model.config)
    converted = convert_ldm_unet_checkpoint(ldm_state(model, family), config)
    want = model.state_dict()
    assert set(converted) == set(want)
    assert all(torch.equal(converted[key], want[key]) for key in want)


COUNTS = {Family.SD1: (192, 86), Family.SD2: (192, 86), Family.SDXL: (722, 66)}


@pytest.mark.parametrize("family", list(Family))
def test_sites_and_blocks_are_counted_as_on_the_real_nets(family: Family) -> None:
    """The numbers of docs/files.md and of block weight vectors, on the real nesting (only narrower)."""
    blocks: Counter[str] = Counter()
    convs: Counter[str] = Counter()
    for path, module in unet(family).named_modules():
        if not isinstance(module, (nn.Linear, nn.Conv2d)):
            continue
        site = places.canonical("lora_unet_" + path.replace(".", "_"), family)
        shape = places.layer_shape(site, module.weight.shape[0], module.weight[0].numel(), family)
        assert shape == module.weight.shape or (family is Family.SD2 and "_proj_" in site)
        blocks[places.block_of(site, family)] += places.is_lierla(site)
        convs[places.block_of(site, family)] += places.is_resnet_or_sampler(site)
    assert (sum(blocks.values()), sum(convs.values())) == COUNTS[family]
    assert convs["OTHER"] == blocks["OTHER"] == 0
    if family is Family.SDXL:
        assert [blocks[f"IN{n:02d}"] for n in range(9)] == [0, 0, 0, 0, 22, 22, 0, 102, 102]
        assert [blocks[f"OUT{n:02d}"] for n in range(9)] == [102, 102, 102, 22, 22, 22, 0, 0, 0]
        assert [convs[f"OUT{n:02d}"] for n in range(9)] == [4, 4, 5, 4, 4, 5, 4, 4, 4]
    else:
        assert [blocks[f"IN{n:02d}"] for n in range(12)] == [0, 12, 12, 0, 12, 12, 0, 12, 12, 0, 0, 0]
        assert [convs[f"OUT{n:02d}"] for n in range(12)] == [4, 4, 5, 4, 4, 5, 4, 4, 5, 4, 4, 4]
    assert places.block_of("lora_te_text_model_encoder_layers_0_mlp_fc1", family) == "BASE"


def test_openclip_sites_are_thirds_of_rows() -> None:
    prefix = "conditioner.embedders.1.model.transformer.resblocks.3."
    specs = {
        prefix + "attn.in_proj_weight": TensorSpec(torch.float16, (30, 10)),
        prefix + "mlp.c_fc.weight": TensorSpec(torch.float16, (40, 10)),
        "conditioner.embedders.0.transformer.text_model.encoder.layers.2.mlp.fc2.weight": TensorSpec(
            torch.float16, (8, 32)
        ),
        "conditioner.embedders.1.model.transformer.resblocks.32.mlp.c_fc.weight": TensorSpec(torch.float16, (4, 1)),
    }
    found = places.places(specs, Family.SDXL)
    assert found["lora_te2_text_model_encoder_layers_3_self_attn_k_proj"].rows == (10, 20)
    assert found["lora_te2_text_model_encoder_layers_3_mlp_fc1"].shape == (40, 10)
    assert found["lora_te1_text_model_encoder_layers_2_mlp_fc2"].rows is None
    assert len(found) == 5
    assert places.checkpoint_family(specs, "x") is Family.SDXL


def test_what_is_no_checkpoint_is_named() -> None:
    with pytest.raises(CheckpointError, match=r"it holds blah"):
        places.checkpoint_family({"blah": TensorSpec(torch.float16, (1,))}, "x.safetensors")
