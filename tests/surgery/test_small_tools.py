"""Bake, split, convert, edit, compare."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from lora_lab.errors import AdapterFileError, OutputError, SettingsError
from lora_lab.families import Family
from lora_lab.network.deltas import Kind, delta
from lora_lab.network.header import spec_of
from lora_lab.network.streams import TensorFile
from lora_lab.surgery import places
from lora_lab.surgery.adapters import AdapterReader, SiteEntry
from lora_lab.surgery.bake import BakeRequest, bake, scaled
from lora_lab.surgery.convert import ConvertRequest, convert
from lora_lab.surgery.edit import edit_card, edit_metadata
from lora_lab.surgery.look import compare, spectra
from lora_lab.surgery.split import SplitRequest, split
from lora_lab.surgery.uses import AdapterUse
from tests.surgery.test_into_checkpoint import every_kind
from tests.surgery.worlds import checkpoint, dense, load, lora, save, sites

SD1 = Family.SD1


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return checkpoint(SD1)


@pytest.fixture
def source(tmp_path: Path, state: dict[str, Tensor]) -> Path:
    return save(tmp_path / "a.safetensors", lora(state, SD1, 4), {"ss_network_module": "networks.lora", "n": "1"})


def test_bake_is_exact_by_part_and_block(tmp_path: Path, source: Path) -> None:
    use = AdapterUse(source, 0.7, -0.5, {"M00": 2.0, "OUT": 0.0, "OUT05": 1.0})
    outcome = bake(BakeRequest(use, tmp_path / "o.safetensors"))
    old, new = load(source), load(tmp_path / "o.safetensors")
    for site in sites(old):
        block = places.block_of(site, SD1)
        own = {"M00": 2.0, "OUT05": 1.0}.get(block, 0.0 if "OUT" in block else 1.0)
        factor = -0.5 if block == "BASE" else 0.7 * own
        if factor == 0:
            assert site not in sites(new)
            continue
        assert torch.equal(new[f"{site}.lora_up.weight"], old[f"{site}.lora_up.weight"])
        assert torch.allclose(dense(new, site), factor * dense(old, site), rtol=1e-6)
    assert outcome.error == 0
    assert "OUT03" not in outcome.blocks
    bake(BakeRequest(AdapterUse(source), tmp_path / "f.safetensors", fold_alpha=True))
    folded = load(tmp_path / "f.safetensors")
    for site in sites(old):
        assert float(folded[f"{site}.alpha"]) == 4
        assert torch.allclose(dense(folded, site), dense(old, site), rtol=1e-6)


def test_a_baked_glora_has_its_strength_in_its_factors() -> None:
    """The webui passes over a GLoRA's alpha: a strength that stood there would do nothing."""
    generator = torch.Generator().manual_seed(1)
    shapes = {"a1": (8, 2), "a2": (2, 8), "b1": (8, 2), "b2": (2, 8)}
    tensors = {f"{n}.weight": torch.randn(shape, generator=generator) for n, shape in shapes.items()}
    tensors["alpha"] = torch.tensor(2.0)
    entry = SiteEntry("s", Kind.GLORA, 2, dict.fromkeys(tensors, ""), {n: tuple(t.shape) for n, t in tensors.items()})
    new = scaled(entry, tensors, -0.5, Path("x"))
    base = torch.randn(8, 8, generator=generator)
    old_delta, new_delta = (delta(Kind.GLORA, t, base, "s").weight for t in (tensors, new))
    assert old_delta is not None
    assert new_delta is not None
    assert float(new["alpha"]) == 2
    assert torch.allclose(new_delta, -0.5 * old_delta, rtol=1e-5, atol=1e-6)


def test_bake_every_kind_that_can(tmp_path: Path, state: dict[str, Tensor]) -> None:
    tensors = every_kind(state)
    cannot = ("attn1_to_out_0", "attn2_to_q")
    source = save(tmp_path / "a.safetensors", {k: v for k, v in tensors.items() if not any(c in k for c in cannot)})
    bake(BakeRequest(AdapterUse(source, 0.5), tmp_path / "o.safetensors"))
    found = places.places({k: spec_of(v) for k, v in state.items()}, SD1)
    with AdapterReader(source) as old, AdapterReader(tmp_path / "o.safetensors") as new:
        assert len(new.sites) == len(old.sites) == 5
        for name, entry in new.sites.items():
            weight = state[found[name].key]
            got, was = new.delta(entry, weight), old.delta(old.sites[name], weight)
            assert got.weight is not None
            assert was.weight is not None
            assert torch.allclose(got.weight, 0.5 * was.weight, atol=1e-6), entry.kind
            assert (got.bias is None) == (was.bias is None)
            if got.bias is not None and was.bias is not None:
                assert torch.allclose(got.bias, 0.5 * was.bias)
    for name, kind in zip(cannot, ("oft", "DoRA"), strict=True):
        one = save(tmp_path / f"{kind}.safetensors", {k: v for k, v in tensors.items() if name in k})
        with pytest.raises(AdapterFileError, match=f"is {kind}, whose file has no place for a strength"):
            bake(BakeRequest(AdapterUse(one, 0.5), tmp_path / "x.safetensors"))
    with pytest.raises(SettingsError, match="nothing is left"):
        bake(BakeRequest(AdapterUse(source, 0.0, 0.0), tmp_path / "x.safetensors"))
    assert not (tmp_path / "x.safetensors").exists()


def test_split_takes_what_was_trained(tmp_path: Path, source: Path) -> None:
    first, second = split(SplitRequest(source, (1, 3), tmp_path / "s.safetensors"))
    old = load(source)
    assert [p.name for p in (first.out, second.out) if p] == ["s-0001.safetensors", "s-0003.safetensors"]
    new = load(tmp_path / "s-0003.safetensors")
    for site in sites(old):
        up, down = old[f"{site}.lora_up.weight"].flatten(1)[:, :3], old[f"{site}.lora_down.weight"].flatten(1)[:3]
        trained = (2 / 4) * (4 / 3) ** 0.5 * up @ down  # kohya's forward: alpha / R * sqrt(R / k)
        assert torch.allclose(dense(new, site).float(), trained, atol=1e-6)
    split(SplitRequest(source, (2,), tmp_path / "k.safetensors", "keep"))
    assert float(load(tmp_path / "k-0002.safetensors")[f"{min(sites(old))}.alpha"]) == 2
    with pytest.raises(SettingsError, match="rank 4 is not below the file's 4"):
        split(SplitRequest(source, (4,), tmp_path / "s.safetensors"))
    with pytest.raises(SettingsError, match="no rank is given"):
        split(SplitRequest(source, (), tmp_path / "s.safetensors"))
    mixed = save(tmp_path / "m.safetensors", {k: v for k, v in load(source).items() if "_te_" in k} | every_kind({}))
    with pytest.raises(AdapterFileError, match="a DyLoRA is a LoRA of one rank"):
        split(SplitRequest(mixed, (1,), tmp_path / "s.safetensors"))


@pytest.mark.parametrize("family", list(Family))
def test_layouts_there_and_back(tmp_path: Path, family: Family) -> None:
    state = checkpoint(family)
    meta = {"ss_base_model_version": "sd_v2_v"} if family is Family.SD2 else {}
    old = lora(state, family, 3, conv=True)
    a = save(tmp_path / "a.safetensors", old, meta or None)
    convert(ConvertRequest(a, tmp_path / "d.safetensors", "diffusers"))
    theirs = load(tmp_path / "d.safetensors")
    assert "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0.lora_A.weight" in theirs
    assert "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_B.weight" in theirs
    assert len(theirs) == 2 * len(sites(old))
    convert(ConvertRequest(tmp_path / "d.safetensors", tmp_path / "k.safetensors", "kohya"))
    back = load(tmp_path / "k.safetensors")
    assert sites(back) == sites(old)
    for site in sites(old):
        assert torch.allclose(dense(back, site), dense(old, site), atol=1e-6)
        assert back[f"{site}.lora_down.weight"].shape == old[f"{site}.lora_down.weight"].shape
    convert(ConvertRequest(a, tmp_path / "kd.safetensors", "kohya-diffusers", torch.bfloat16))
    assert "lora_unet_mid_block_attentions_0_proj_in.lora_up.weight" in load(tmp_path / "kd.safetensors")
    convert(ConvertRequest(tmp_path / "kd.safetensors", tmp_path / "kk.safetensors", "kohya"))
    assert sites(load(tmp_path / "kk.safetensors")) == sites(old)
    assert load(tmp_path / "kk.safetensors")[f"{min(sites(old))}.lora_up.weight"].dtype == torch.bfloat16


OLD_NAMES = {
    "unet.mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.{}.weight": "attn1_to_q",
    "unet.mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora.{}.weight": "attn1_to_out_0",
    "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.lora.{}.weight": "attn2_to_k",
    "base_model.model.mid_block.attentions.0.transformer_blocks.0.ff.net.2.lora_{}.default.weight": "ff_net_2",
}


def test_the_old_names_that_float_about(tmp_path: Path) -> None:
    tensors: dict[str, Tensor] = {}
    for key in OLD_NAMES:
        words = ("A", "B") if "default" in key else ("down", "up")
        tensors[key.format(words[0])] = torch.randn(2, 6)
        tensors[key.format(words[1])] = torch.randn(5, 2)
    te = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_linear_layer.{}.weight"
    tensors |= {te.format("down"): torch.randn(2, 6), te.format("up"): torch.randn(5, 2)}
    convert(ConvertRequest(save(tmp_path / "a.safetensors", tensors), tmp_path / "o.safetensors"))
    got = load(tmp_path / "o.safetensors")
    stem = "lora_unet_mid_block_attentions_0_transformer_blocks_0_"
    assert sites(got) == {stem + name for name in OLD_NAMES.values()} | {
        "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    }


def test_diffusers_loads_what_we_convert(tmp_path: Path) -> None:
    """Into a real UNet: the weights that its own loader fuses are base plus our delta."""
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
    pytest.importorskip("peft", reason="peft is not installed")
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        sample_size=8, norm_num_groups=4, attention_head_dim=4, block_out_channels=(8, 8, 8, 8), cross_attention_dim=12
    )
    site = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
    old = {f"{site}.lora_up.weight": torch.randn(8, 2), f"{site}.lora_down.weight": torch.randn(2, 12)}
    old[f"{site}.alpha"] = torch.tensor(0.5)
    convert(ConvertRequest(save(tmp_path / "a.safetensors", old), tmp_path / "d.safetensors", "diffusers"))
    layer = unet.mid_block.attentions[0].transformer_blocks[0].attn2.to_k
    before = layer.weight.detach().clone()
    unet.load_lora_adapter(load(tmp_path / "d.safetensors"), prefix="unet")
    unet.fuse_lora()
    after = unet.mid_block.attentions[0].transformer_blocks[0].attn2.to_k.base_layer.weight
    assert torch.allclose(after - before, dense(old, site).float(), atol=1e-5)


def test_peft_dora_and_its_metadata(tmp_path: Path) -> None:
    key = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    t = {f"{key}.lora_A.weight": torch.randn(2, 6), f"{key}.lora_B.weight": torch.randn(5, 2)}
    t[f"{key}.lora_magnitude_vector"] = torch.rand(5) + 1
    config = json.dumps({"unet.r": 2, "unet.lora_alpha": 8})
    a = save(tmp_path / "a.safetensors", t, {"lora_adapter_metadata": config})
    with AdapterReader(a) as reader:
        [entry] = reader
        assert reader.kinds == ["dora", "lora"]
        base = torch.randn(5, 6)
        got = reader.delta(entry, base).weight
    change = 4 * t[f"{key}.lora_B.weight"] @ t[f"{key}.lora_A.weight"]
    new = base + change
    want = new * (t[f"{key}.lora_magnitude_vector"] / new.norm(dim=1))[:, None] - base
    assert got is not None
    assert torch.allclose(got, want, atol=1e-5)


def test_convert_refuses_what_a_layout_cannot_hold(tmp_path: Path, state: dict[str, Tensor]) -> None:
    a = save(tmp_path / "a.safetensors", every_kind(state))
    with pytest.raises(AdapterFileError, match="which diffusers' layout cannot hold"):
        convert(ConvertRequest(a, tmp_path / "o.safetensors", "diffusers"))
    with pytest.raises(SettingsError, match="'onnx' is no layout"):
        ConvertRequest(a, tmp_path / "o.safetensors", "onnx")  # type: ignore[arg-type]
    two = {f"lora_unet_{p}_proj_in.{s}": torch.ones(2, 2) for p in ("middle_block_1", "mid_block_attentions_0")
           for s in ("lora_up.weight", "lora_down.weight")}  # fmt: skip
    with pytest.raises(AdapterFileError, match="two names in the file mean"):
        convert(ConvertRequest(save(tmp_path / "t.safetensors", two), tmp_path / "o.safetensors"))


def test_metadata_is_edited_and_no_tensor_touched(tmp_path: Path, source: Path) -> None:
    before = source.read_bytes()
    edited = edit_metadata(source, {"title": "Mika", "trigger": "mika girl", "own": "größe"}, ["n"])
    assert edited.changed == ["modelspec.title", "modelspec.trigger_phrase", "n", "own"]
    with TensorFile(source) as file:
        assert file.metadata["modelspec.title"] == "Mika"
        assert "n" not in file.metadata
        digest = file.data_hash()
    old, new = safetensors.torch.load(before), load(source)
    assert old.keys() == new.keys()
    assert all(torch.equal(new[key], tensor) for key, tensor in old.items())
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]
    dry = edit_metadata(source, {"title": "Other"}, dry_run=True)
    assert dry.changed == ["modelspec.title"]
    edit_metadata(source, {"title": "Copy"}, out=tmp_path / "c.safetensors")
    with TensorFile(source) as file, TensorFile(tmp_path / "c.safetensors") as copy:
        assert (file.metadata["modelspec.title"], copy.metadata["modelspec.title"]) == ("Mika", "Copy")
        assert copy.data_hash() == digest
    with pytest.raises(SettingsError, match="computed from the tensors"):
        edit_metadata(source, {"sshs_model_hash": "1"})
    with pytest.raises(SettingsError, match="no entry gone"):
        edit_metadata(source, {}, ["gone"])
    with pytest.raises(OutputError, match="exists already"):
        edit_metadata(source, {"a": "b"}, out=tmp_path / "c.safetensors")


def test_the_webuis_card(tmp_path: Path, source: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"sd version": "SD1", "notes": "old"}), encoding="utf-8")
    edit_card(source, {"trigger": "mika", "weight": "0.8", "notes": ""})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {
        "sd version": "SD1", "activation text": "mika", "preferred weight": 0.8,
    }  # fmt: skip
    with pytest.raises(SettingsError, match="is no weight"):
        edit_card(source, {"weight": "much"})
    with pytest.raises(SettingsError, match="the card has no 'colour'"):
        edit_card(source, {"colour": "red"})
    (tmp_path / "a.json").write_text("[1", encoding="utf-8")
    with pytest.raises(OutputError, match="cannot be read"):
        edit_card(source, {"trigger": "x"})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == "[1"


def test_spectrum_and_effective_rank(tmp_path: Path, source: Path) -> None:
    tensors = load(source)
    found = {one.site: one for one in spectra(source)}
    assert set(found) == sites(tensors)
    for site, one in found.items():
        s = torch.linalg.svdvals(dense(tensors, site))[:4]
        assert torch.allclose(torch.tensor(one.s, dtype=torch.float64), s, rtol=1e-4)
        shares = s / s.sum()
        assert one.effective_rank == pytest.approx(float((-(shares * shares.log()).sum()).exp()), rel=1e-4)
        assert 1 <= one.rank_99 <= 4
        assert one.norm == pytest.approx(float(dense(tensors, site).norm()), rel=1e-5)


def test_compare(tmp_path: Path, source: Path, state: dict[str, Tensor]) -> None:
    bake(BakeRequest(AdapterUse(source, 0.5, 0.5), tmp_path / "half.safetensors"))
    same, half = compare(source, source), compare(source, tmp_path / "half.safetensors")
    assert (same.distance, same.metadata) == (pytest.approx(0, abs=1e-6), ())
    assert same.cosine == pytest.approx(1)
    assert half.distance == pytest.approx(0.5)
    assert half.cosine == pytest.approx(1)
    other = save(tmp_path / "b.safetensors", {k: v for k, v in lora(state, SD1, 3, seed=5).items() if "_te_" in k})
    far = compare(source, other)
    a, b = load(source), load(other)
    apart = sum(float((dense(a, s) - (dense(b, s) if s in sites(b) else 0)).square().sum()) for s in sites(a))
    whole = sum(float(dense(a, s).square().sum()) for s in sites(a))
    assert far.distance == pytest.approx((apart / whole) ** 0.5, rel=1e-4)
    assert len(far.only_a) == len(sites(a)) - len(sites(b))
