"""What `inspect` says of a file, measured against dense deltas and by keys of every family."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from lora_lab.errors import AdapterFileError
from lora_lab.families import Family
from lora_lab.network import files
from lora_lab.network.inspect import delta_norm_squared, inspect
from tests.network.models import World


def test_a_file_of_ours(tmp_path: Path, some_world: World) -> None:
    adapter = some_world.adapter(dim=4, alpha=3.0)
    path = tmp_path / "someone_called_this_sdxl_loha.safetensors"
    files.write(path, adapter.to_tensors(), {"ss_tag_frequency": json.dumps({"1_x": {"hat": 2}}), "ss_seed": "5"})
    report = inspect(path)
    assert (report.kind, report.family, report.sites) == ("LoRA", Family.SD1, 264)
    assert (report.rank, report.alpha, report.problems) == ({4: 264}, {3.0: 264}, ())
    assert report.metadata["ss_tag_frequency"] == {"1_x": {"hat": 2}}
    assert tuple(report.norms_by_block) == adapter.blocks
    answer = json.loads(json.dumps(report.to_json()))
    assert {"kind", "family", "sites", "rank", "alpha", "norms_by_block", "metadata", "problems"} <= set(answer)


def test_norms_are_those_of_the_dense_deltas(tmp_path: Path, some_world: World) -> None:
    adapter = some_world.adapter(dim=4, alpha=3.0)
    tensors = adapter.to_tensors()
    squares: dict[str, float] = {}
    for site in adapter.sites:
        down, up = (tensors[f"{site.name}.lora_{half}.weight"].double().flatten(1) for half in ("down", "up"))
        squares[site.block] = squares.get(site.block, 0.0) + float((0.75 * up @ down).square().sum())
    files.write(tmp_path / "a.safetensors", tensors, {})
    norms = inspect(tmp_path / "a.safetensors").norms_by_block
    assert norms == pytest.approx({block: square**0.5 for block, square in squares.items()}, rel=1e-9)


def lora(site: str, width: int = 8, dim: int = 2) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(len(site))
    return {
        f"{site}.lora_down.weight": torch.randn(dim, width, generator=g),
        f"{site}.lora_up.weight": torch.randn(8, dim, generator=g),
        f"{site}.alpha": torch.tensor(1.0),
    }


@pytest.mark.parametrize(
    ("site", "width", "family"),
    [
        ("lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k", 768, Family.SD1),
        ("lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k", 96, Family.SD1),
        ("lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k", 1024, Family.SD2),
        ("lora_te_text_model_encoder_layers_22_mlp_fc1", 8, Family.SD2),
        ("lora_te_text_model_encoder_layers_3_mlp_fc1", 8, Family.SD1),
        ("lora_te2_text_model_encoder_layers_3_mlp_fc1", 8, Family.SDXL),
        ("lora_unet_input_blocks_4_1_transformer_blocks_1_attn2_to_k", 2048, Family.SDXL),
        ("lora_unet_middle_block_1_proj_in", 1280, Family.SDXL),
    ],
)
def test_the_family_comes_from_keys_and_shapes(tmp_path: Path, site: str, width: int, family: Family) -> None:
    safetensors.torch.save_file(lora(site, width), tmp_path / "a.safetensors")
    assert inspect(tmp_path / "a.safetensors").family == family


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [("hada_w1_a", "LoHa"), ("lokr_w1", "LoKr"), ("dora_scale", "DoRA"), ("oft_blocks", "OFT"), ("diff", "full")],
)
def test_the_kind_comes_from_the_keys(tmp_path: Path, suffix: str, kind: str) -> None:
    key = f"lora_unet_mid_block_attentions_0_proj_in.{suffix}"
    safetensors.torch.save_file({key: torch.ones(2, 2)}, tmp_path / "a")
    assert inspect(tmp_path / "a").kind == kind


def test_problems_are_named(tmp_path: Path) -> None:
    tensors = lora("lora_te_text_model_encoder_layers_0_mlp_fc1") | lora("lora_te_text_model_encoder_layers_0_mlp_fc2")
    tensors["lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight"][0, 0] = float("inf")
    del tensors["lora_te_text_model_encoder_layers_0_mlp_fc2.alpha"]
    del tensors["lora_te_text_model_encoder_layers_0_mlp_fc2.lora_up.weight"]
    safetensors.torch.save_file(tensors, tmp_path / "a.safetensors", {"sshs_model_hash": "0" * 64})
    problems = " | ".join(inspect(tmp_path / "a.safetensors").problems)
    for word in ("fc1.lora_up.weight holds numbers that are not finite", "fc2 has only one half",
                 "1 sites have no alpha", "sshs_model_hash does not fit"):  # fmt: skip
        assert word in problems


def test_what_is_no_lora_is_refused(tmp_path: Path) -> None:
    safetensors.torch.save_file({"model.diffusion_model.out.2.weight": torch.ones(2)}, tmp_path / "a.safetensors")
    with pytest.raises(AdapterFileError, match="none of its tensors belongs to a LoRA"):
        inspect(tmp_path / "a.safetensors")


def test_the_norm_of_a_pair_that_does_not_fit_is_not_invented() -> None:
    pair = {"lora_down.weight": torch.ones(2, 4), "lora_up.weight": torch.ones(4, 3)}
    assert delta_norm_squared(pair) is None


def test_odd_shapes_are_described_and_not_tripped_over(tmp_path: Path) -> None:
    site = "lora_te_text_model_encoder_layers_0_mlp_fc1"
    odd = {
        f"{site}.lora_down.weight": torch.tensor(1.0),
        f"{site}.lora_up.weight": torch.ones(0, 3),
        f"{site}.alpha": torch.ones(3),
        "plain": torch.ones(2),
        "lora_unet_.lora_down.weight": torch.ones(0, 4),
        "lora_unet_.lora_up.weight": torch.ones(4, 0),
    }
    safetensors.torch.save_file(odd, tmp_path / "a.safetensors")
    report = inspect(tmp_path / "a.safetensors")
    assert f"the alpha of {site} is no single number" in report.problems
    assert report.norms_by_block == {}
