"""Merging into checkpoints and out of them again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lora_lab.errors import AdapterFileError, CheckpointError, OutputError, SettingsError
from lora_lab.families import Family
from lora_lab.network import deltas
from lora_lab.network.header import spec_of
from lora_lab.network.streams import TensorFile
from lora_lab.surgery import places
from lora_lab.surgery.into_checkpoint import MergeRequest, merge_into_checkpoint, unmerge
from lora_lab.surgery.uses import AdapterUse
from tests.surgery.test_extract import merged
from tests.surgery.worlds import checkpoint, dense, load, lora, save, sites

SD1 = Family.SD1


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return checkpoint(SD1)


@pytest.fixture
def base(tmp_path: Path, state: dict[str, Tensor]) -> Path:
    return save(tmp_path / "base.safetensors", state, {"made_by": "somebody"})


def close(a: dict[str, Tensor], b: dict[str, Tensor], tolerance: float = 1e-6) -> bool:
    return set(a) == set(b) and all(torch.allclose(a[k].float(), b[k].float(), atol=tolerance) for k in a)


@pytest.mark.parametrize("family", list(Family))
def test_equals_the_plain_sum(tmp_path: Path, family: Family) -> None:
    state = checkpoint(family)
    adapter = lora(state, family, 3, conv=True)
    a = save(tmp_path / "a.safetensors", adapter)
    b = save(tmp_path / "base.safetensors", state)
    outcome = merge_into_checkpoint(MergeRequest(b, (AdapterUse(a),), tmp_path / "out.safetensors"))
    assert close(load(tmp_path / "out.safetensors"), merged(state, family, adapter))
    assert outcome.error < 1e-6
    assert outcome.size == (tmp_path / "out.safetensors").stat().st_size


def test_strengths_of_parts_and_blocks(tmp_path: Path, base: Path, state: dict[str, Tensor]) -> None:
    one, two = lora(state, SD1, 2, seed=1), lora(state, SD1, 5, seed=2)
    a, b = save(tmp_path / "a.safetensors", one), save(tmp_path / "b.safetensors", two)
    uses = (AdapterUse(a, 0.5, 2.0, {"M00": 3.0, "OUT": 0.0, "OUT05": 1.0}), AdapterUse(b, -1.0, 0.0))
    merge_into_checkpoint(MergeRequest(base, uses, tmp_path / "out.safetensors"))
    got = load(tmp_path / "out.safetensors")
    for path, site, first, second in (
        ("input_blocks.1.1.proj_in", "down_blocks_0_attentions_0_proj_in", 0.5, -1.0),
        ("middle_block.1.proj_in", "mid_block_attentions_0_proj_in", 1.5, -1.0),
        ("output_blocks.4.1.proj_in", "up_blocks_1_attentions_1_proj_in", 0.0, -1.0),
        ("output_blocks.5.1.proj_in", "up_blocks_1_attentions_2_proj_in", 0.5, -1.0),
    ):
        key, site = f"model.diffusion_model.{path}.weight", f"lora_unet_{site}"
        want = first * dense(one, site) + second * dense(two, site)
        assert torch.allclose((got[key] - state[key]).flatten(1), want.float(), atol=1e-6)
    key = "cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight"
    want = 2.0 * dense(one, "lora_te_text_model_encoder_layers_0_mlp_fc1")
    assert torch.allclose(got[key] - state[key], want.float(), atol=1e-6)


def every_kind(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """One adapter with a site of each kind that a UNet of width 8 takes."""
    g = torch.Generator().manual_seed(4)

    def r(*shape: int) -> Tensor:
        return 0.2 * torch.randn(*shape, generator=g)

    block = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0"
    return {
        f"{block}_attn1_to_q.hada_w1_a": r(8, 2),
        f"{block}_attn1_to_q.hada_w1_b": r(2, 8),
        f"{block}_attn1_to_q.hada_w2_a": r(8, 2),
        f"{block}_attn1_to_q.hada_w2_b": r(2, 8),
        f"{block}_attn1_to_k.lokr_w1": r(2, 2),
        f"{block}_attn1_to_k.lokr_w2": r(4, 4),
        f"{block}_attn1_to_v.weight": r(8),
        f"{block}_attn1_to_v.on_input": torch.tensor(0),
        f"{block}_attn1_to_out_0.oft_blocks": r(2, 4, 4),
        f"{block}_attn2_to_q.lora_up.weight": r(8, 2),
        f"{block}_attn2_to_q.lora_down.weight": r(2, 8),
        f"{block}_attn2_to_q.dora_scale": 1 + r(8, 1),
        f"{block}_ff_net_2.diff": r(8, 32),
        f"{block}_ff_net_2.diff_b": r(8),
        f"{block}_norm1.w_norm": r(8),
        f"{block}_norm1.b_norm": r(8),
    }


def test_every_kind_with_norms_and_biases(tmp_path: Path, base: Path, state: dict[str, Tensor]) -> None:
    adapter = every_kind(state)
    a = save(tmp_path / "a.safetensors", adapter)
    merge_into_checkpoint(MergeRequest(base, (AdapterUse(a, 0.5),), tmp_path / "out.safetensors"))
    got = load(tmp_path / "out.safetensors")
    found = places.places({k: spec_of(v) for k, v in state.items()}, SD1)
    changed = {k for k in state if not torch.equal(got[k], state[k])}
    want = set()
    for site in sites(adapter):
        tensors = {k.split(".", 1)[1]: v for k, v in adapter.items() if k.startswith(site + ".")}
        kind = deltas.kind_of({k: tuple(v.shape) for k, v in tensors.items()}, site)
        place = found[site]
        one = deltas.delta(kind, tensors, state[place.key], site)
        assert one.weight is not None
        assert torch.allclose(got[place.key], state[place.key] + 0.5 * one.weight, atol=1e-6), kind
        want.add(place.key)
        if one.bias is not None:
            assert torch.allclose(got[place.bias], state[place.bias] + 0.5 * one.bias, atol=1e-6)
            want.add(place.bias)
    assert changed == want
    assert len(want) == 9


def test_the_order_is_the_prompts(tmp_path: Path, base: Path, state: dict[str, Tensor]) -> None:
    """A kind that depends on the weight sees what the adapter before it left, as in the webui."""
    site, key = "lora_unet_mid_block_attentions_0_proj_in", "model.diffusion_model.middle_block.1.proj_in.weight"
    first = {k: v for k, v in lora(state, SD1, 2).items() if k.startswith(site)}
    second = {f"{site}.weight": torch.full((8,), 1.0), f"{site}.on_input": torch.tensor(0)}
    a, b = save(tmp_path / "a.safetensors", first), save(tmp_path / "b.safetensors", second)
    merge_into_checkpoint(MergeRequest(base, (AdapterUse(a), AdapterUse(b)), tmp_path / "out.safetensors"))
    want = 2 * (state[key] + dense(first, site).reshape(8, 8, 1, 1).float())
    assert torch.allclose(load(tmp_path / "out.safetensors")[key], want, atol=1e-6)


def test_precision_vae_and_recipe(tmp_path: Path, base: Path, state: dict[str, Tensor]) -> None:
    adapter = lora(state, SD1, 3)
    a = save(tmp_path / "a.safetensors", adapter, {"x": "y"})
    layer = {"decoder.conv_in.weight": torch.ones(8, 4, 3, 3), "decoder.conv_in.bias": torch.ones(8)}
    vae = save(tmp_path / "vae.safetensors", layer)
    request = MergeRequest(base, (AdapterUse(a, 0.7),), tmp_path / "out.safetensors", torch.float16, vae)
    outcome = merge_into_checkpoint(request)
    got = load(tmp_path / "out.safetensors")
    assert got["alphas_cumprod"].dtype == torch.float32
    assert got["first_stage_model.decoder.conv_in.weight"].eq(1).all()
    assert got["first_stage_model.decoder.conv_in.weight"].dtype == torch.float16
    assert 1e-5 < outcome.error < 1e-1
    with TensorFile(tmp_path / "out.safetensors", CheckpointError) as file:
        assert file.metadata["made_by"] == "somebody"
        recipe = json.loads(file.metadata["lora_lab_recipe"])
    assert recipe["adapters"][0]["unet"] == 0.7
    assert recipe["adapters"][0]["name"] == "a"
    assert recipe["vae"] == "vae.safetensors"
    with pytest.raises(CheckpointError, match="no VAE for this checkpoint"):
        merge_into_checkpoint(MergeRequest(base, (AdapterUse(a),), tmp_path / "o.safetensors", vae=a))
    only_vae = merge_into_checkpoint(MergeRequest(base, (), tmp_path / "v.safetensors", vae=vae))
    assert only_vae.error == 0


def test_unmerge_gives_the_checkpoint_back(tmp_path: Path, base: Path, state: dict[str, Tensor]) -> None:
    a = save(tmp_path / "a.safetensors", lora(state, SD1, 2, seed=1))
    b = save(tmp_path / "b.safetensors", lora(state, SD1, 5, seed=2, conv=True))
    c = save(tmp_path / "c.safetensors", lora(state, SD1, 1, seed=3))
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    merge_into_checkpoint(MergeRequest(base, (AdapterUse(a, 0.8, 0.3, {"IN": 0.5}), AdapterUse(b)), first))
    merge_into_checkpoint(MergeRequest(first, (AdapterUse(c, 2.0),), second))
    moved = tmp_path / "renamed.safetensors"
    shutil.copy(a, moved)
    outcome = unmerge(second, (c,), tmp_path / "back1.safetensors")
    assert outcome.error < 1e-5
    assert close(load(tmp_path / "back1.safetensors"), load(first))
    unmerge(tmp_path / "back1.safetensors", (b, moved), tmp_path / "back2.safetensors")
    assert close(load(tmp_path / "back2.safetensors"), state)
    with TensorFile(tmp_path / "back2.safetensors", CheckpointError) as file:
        assert file.metadata == {"made_by": "somebody"}


def test_unmerge_refuses_what_it_cannot_know(tmp_path: Path, base: Path, state: dict[str, Tensor]) -> None:
    a = save(tmp_path / "a.safetensors", lora(state, SD1, 2))
    out = tmp_path / "out.safetensors"
    with pytest.raises(CheckpointError, match="no recipe"):
        unmerge(base, (a,), out)
    one = tmp_path / "one.safetensors"
    merge_into_checkpoint(MergeRequest(base, (AdapterUse(a),), one))
    other = save(tmp_path / "other.safetensors", lora(state, SD1, 2, seed=8))
    with pytest.raises(AdapterFileError, match="names a, which is not among the files"):
        unmerge(one, (other,), out)
    with pytest.raises(AdapterFileError, match=r"not merged.*other"):
        unmerge(one, (a, other), out)
    kinds = save(tmp_path / "kinds.safetensors", every_kind(state))
    two = tmp_path / "two.safetensors"
    merge_into_checkpoint(MergeRequest(base, (AdapterUse(kinds),), two))
    with pytest.raises(CheckpointError, match="whose change depends on the weight"):
        unmerge(two, (kinds,), out)
    assert not out.exists()


def test_dry_run_and_force(tmp_path: Path, base: Path, state: dict[str, Tensor]) -> None:
    a = save(tmp_path / "a.safetensors", lora(state, SD1, 2))
    out = tmp_path / "out.safetensors"
    dry = merge_into_checkpoint(MergeRequest(base, (AdapterUse(a),), out, dry_run=True))
    assert not out.exists()
    wet = merge_into_checkpoint(MergeRequest(base, (AdapterUse(a),), out))
    assert dry.error == wet.error
    with pytest.raises(OutputError, match="exists already"):
        merge_into_checkpoint(MergeRequest(base, (AdapterUse(a),), out))
    merge_into_checkpoint(MergeRequest(base, (AdapterUse(a),), out, force=True))
    with pytest.raises(OutputError, match="one of the inputs"):
        merge_into_checkpoint(MergeRequest(base, (AdapterUse(a),), base, force=True))


def test_bad_input(tmp_path: Path, base: Path, state: dict[str, Tensor]) -> None:
    a = save(tmp_path / "a.safetensors", lora(state, SD1, 2))
    out = tmp_path / "out.safetensors"

    def go(*uses: AdapterUse) -> None:
        merge_into_checkpoint(MergeRequest(base, uses, out))

    with pytest.raises(SettingsError, match="no adapter is given"):
        go()
    with pytest.raises(SettingsError, match="nothing would change"):
        go(AdapterUse(a, 0.0, 0.0))
    with pytest.raises(SettingsError, match="sd1 has no block OUT12"):
        go(AdapterUse(a, blocks={"OUT12": 1.0}))
    with pytest.raises(SettingsError, match="no finite number"):
        AdapterUse(a, float("nan"))
    xl = checkpoint(Family.SDXL)
    with pytest.raises(AdapterFileError, match="for sdxl, the others and the checkpoint are sd1"):
        go(AdapterUse(save(tmp_path / "xl.safetensors", lora(xl, Family.SDXL, 2))))
    with pytest.raises(AdapterFileError, match="checkpoint, not an adapter"):
        go(AdapterUse(save(tmp_path / "copy.safetensors", state)))
    nowhere = {"lora_unet_y.lora_up.weight": torch.ones(3, 2), "lora_unet_y.lora_down.weight": torch.ones(2, 3)}
    with pytest.raises(AdapterFileError, match="lora_unet_y here, lora_te_text_model_embeddings"):
        go(AdapterUse(save(tmp_path / "n.safetensors", nowhere)))
    site = "lora_unet_mid_block_attentions_0_proj_in"
    wide = {f"{site}.lora_up.weight": torch.ones(9, 2), f"{site}.lora_down.weight": torch.ones(2, 9)}
    with pytest.raises(AdapterFileError, match="does not fit a layer"):
        go(AdapterUse(save(tmp_path / "w.safetensors", wide)))
    big = {f"{site}.lora_up.weight": torch.full((8, 2), 1e6), f"{site}.lora_down.weight": torch.ones(2, 8)}
    use = AdapterUse(save(tmp_path / "b.safetensors", big))
    with pytest.raises(OutputError, match="too large for float16"):
        merge_into_checkpoint(MergeRequest(base, (use,), out, torch.float16))
    assert not out.exists()
