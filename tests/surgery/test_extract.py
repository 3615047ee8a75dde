"""Extract on small checkpoints with every family's real names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from lora_lab.errors import CheckpointError, OutputError, SettingsError
from lora_lab.families import Family
from lora_lab.network.header import spec_of
from lora_lab.surgery import places
from lora_lab.surgery.adapters import AdapterReader
from lora_lab.surgery.compress import Compression
from lora_lab.surgery.extract import ExtractRequest, extract
from lora_lab.surgery.outcome import Outcome
from lora_lab.surgery.ranks import parse
from tests.surgery.worlds import checkpoint, dense, load, lora, save, site_shapes, sites


def merged(state: dict[str, Tensor], family: Family, adapter: dict[str, Tensor]) -> dict[str, Tensor]:
    """The checkpoint with a LoRA put in, in the plainest way: rows of a key, deltas in double."""
    found = places.places({k: spec_of(v) for k, v in state.items()}, family)
    new = {key: tensor.clone() for key, tensor in state.items()}
    for site in sites(adapter):
        place = found[site]
        rows = slice(None) if place.rows is None else slice(*place.rows)
        new[place.key][rows] += dense(adapter, site).reshape(place.shape).float()
    return new


def run(tmp_path: Path, base: dict[str, Tensor], tuned: dict[str, Tensor], how: Compression, **more: bool) -> Outcome:
    save(tmp_path / "base.safetensors", base)
    save(tmp_path / "tuned.safetensors", tuned)
    paths = (tmp_path / f"{name}.safetensors" for name in ("base", "tuned", "out"))
    return extract(ExtractRequest(*paths, how, **more))


FLOAT = Compression(parse("3"), dtype=torch.float32)


@pytest.mark.parametrize("conv", [False, True])
@pytest.mark.parametrize("family", list(Family))
def test_a_known_lora_comes_back(tmp_path: Path, family: Family, conv: bool) -> None:
    state = checkpoint(family)
    adapter = lora(state, family, 3, conv=conv)
    outcome = run(tmp_path, state, merged(state, family, adapter), FLOAT, convs=conv)
    got = load(tmp_path / "out.safetensors")
    assert sites(got) == sites(adapter)
    for site in sites(adapter):
        want = dense(adapter, site)
        assert (dense(got, site) - want).norm() <= 1e-4 * want.norm()
        assert got[f"{site}.lora_up.weight"].shape == adapter[f"{site}.lora_up.weight"].shape
        assert got[f"{site}.lora_down.weight"].shape == adapter[f"{site}.lora_down.weight"].shape
    assert outcome.error < 1e-4
    assert len(site_shapes(state, family, conv)) == len(sites(got))


def test_rank_and_error_are_the_full_svds(tmp_path: Path) -> None:
    state = checkpoint(Family.SD1)
    tuned = merged(state, Family.SD1, lora(state, Family.SD1, 6))
    outcome = run(tmp_path, state, tuned, Compression(parse("2"), dtype=torch.float32))
    lost = total = 0.0
    for site in site_shapes(state, Family.SD1):
        place = places.places({k: spec_of(v) for k, v in state.items()}, Family.SD1)[site]
        s = torch.linalg.svdvals((tuned[place.key].double() - state[place.key].double()).flatten(1))
        lost, total = lost + float(s[2:].square().sum()), total + float(s.square().sum())
    assert outcome.error == pytest.approx((lost / total) ** 0.5, rel=1e-3)


def test_text_encoders_are_always_compared(tmp_path: Path) -> None:
    """kohya's threshold would call this text encoder the same."""
    state = checkpoint(Family.SD1)
    tuned = {k: v.clone() for k, v in state.items()}
    key = "cond_stage_model.transformer.text_model.encoder.layers.1.mlp.fc1.weight"
    tuned[key][0] += 1e-4
    run(tmp_path, state, tuned, FLOAT)
    got = load(tmp_path / "out.safetensors")
    assert sites(got) == {"lora_te_text_model_encoder_layers_1_mlp_fc1"}
    assert dense(got, min(sites(got)))[0, 0] == pytest.approx(1e-4, rel=2e-3)


def changed_everywhere(state: dict[str, Tensor]) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(9)
    return {k: v + 0.01 * torch.randn(v.shape, generator=g) for k, v in state.items()}


def test_norms_biases_and_outside_on_wish_else_told_as_lost(tmp_path: Path) -> None:
    state = checkpoint(Family.SD1)
    tuned = changed_everywhere(state)
    outcome = run(tmp_path, state, tuned, Compression(parse("4"), dtype=torch.float32))
    for words in ("residual blocks", "outside the blocks", "norms", "biases", "embeddings"):
        assert any(words in note for note in outcome.notes), words
    (tmp_path / "out.safetensors").unlink()
    whole = Compression(parse("error=0"), dtype=torch.float32)
    outcome = run(tmp_path, state, tuned, whole, convs=True, norms=True, biases=True, outside=True)
    got = load(tmp_path / "out.safetensors")
    block = "down_blocks_0_attentions_0_transformer_blocks_0"
    key = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0"
    for site, suffix, layer in (
        ("norm1", "w_norm", "norm1.weight"),
        ("norm1", "b_norm", "norm1.bias"),
        ("ff_net_2", "diff_b", "ff.net.2.bias"),
    ):
        want = tuned[f"{key}.{layer}"] - state[f"{key}.{layer}"]
        assert torch.equal(got[f"lora_unet_{block}_{site}.{suffix}"], want)
    assert "lora_unet_conv_in.lora_up.weight" in got
    left = [note for note in outcome.notes if "left out" in note]
    assert len(left) == 1
    assert "embeddings" in left[0]


@pytest.mark.parametrize("how", [Compression(parse("error=0.9")), Compression(max_bytes=200_000)])
def test_a_bias_never_stands_alone(tmp_path: Path, how: Compression) -> None:
    """The webui, and our own readers, refuse a site that has a bias only: its factors are zeros of rank 1."""
    state = checkpoint(Family.SD1)
    tuned = changed_everywhere(state)
    same = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.ff.net.2.weight"
    tuned[same] = state[same].clone()
    outcome = run(tmp_path, state, tuned, how, biases=True)
    got = load(tmp_path / "out.safetensors")
    biased = {key.partition(".")[0] for key in got if key.endswith("diff_b")}
    assert len(biased) > 16
    assert all(f"{site}.lora_up.weight" in got for site in biased)
    still = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_ff_net_2"
    assert not dense(got, still).any()
    assert how.max_bytes is None or outcome.size <= how.max_bytes
    with AdapterReader(tmp_path / "out.safetensors") as reader:
        assert set(reader.sites) == sites(got) | biased


def test_file_size_ranks_by_block_and_conv_rank(tmp_path: Path) -> None:
    state = checkpoint(Family.SD1)
    tuned = changed_everywhere(state)
    how = Compression(parse("4"), parse("1"), {"M00": parse("2")})
    run(tmp_path, state, tuned, how, convs=True)
    got = load(tmp_path / "out.safetensors")
    assert got["lora_unet_mid_block_resnets_0_conv1.lora_down.weight"].shape == (2, 8, 3, 3)
    assert got["lora_unet_down_blocks_0_resnets_0_conv1.lora_down.weight"].shape == (1, 8, 3, 3)
    assert got["lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight"].shape == (4, 8, 1, 1)
    (tmp_path / "out.safetensors").unlink()
    outcome = run(tmp_path, state, tuned, Compression(max_bytes=150_000))
    assert outcome.size <= 150_000
    assert (tmp_path / "out.safetensors").stat().st_size == outcome.size
    assert outcome.size > 120_000


def test_half_precision_tells_its_limit(tmp_path: Path) -> None:
    state = {k: v.half() for k, v in checkpoint(Family.SD1).items()}
    adapter = lora(checkpoint(Family.SD1), Family.SD1, 3, size=0.01)
    tuned = {k: v.half() for k, v in merged({k: v.float() for k, v in state.items()}, Family.SD1, adapter).items()}
    outcome = run(tmp_path, state, tuned, FLOAT)
    got = load(tmp_path / "out.safetensors")
    off = sum(float((dense(got, s) - dense(adapter, s)).square().sum()) for s in sites(adapter))
    share = (off / sum(float(dense(adapter, s).square().sum()) for s in sites(adapter))) ** 0.5
    [note] = [n for n in outcome.notes if "own rounding" in n]
    told = float(note.split("about ")[1].split("%")[0]) / 100
    assert share <= 2 * told
    assert told <= 4 * share, "an honest estimate, not a blanket excuse"


def test_bad_input(tmp_path: Path) -> None:
    sd1, sdxl = checkpoint(Family.SD1), checkpoint(Family.SDXL)
    a = save(tmp_path / "a.safetensors", sd1)
    out = tmp_path / "o.safetensors"
    with pytest.raises(SettingsError, match="the same file"):
        extract(ExtractRequest(a, a, out, FLOAT))
    with pytest.raises(CheckpointError, match="do not differ"):
        run(tmp_path, sd1, sd1, FLOAT)
    with pytest.raises(CheckpointError, match="this is sdxl, the base base.safetensors is sd1"):
        run(tmp_path, sd1, sdxl, FLOAT)
    with pytest.raises(CheckpointError, match="no Stable Diffusion"):
        run(tmp_path, sd1, lora(sd1, Family.SD1, 2), FLOAT)
    only_te = {k: v for k, v in sd1.items() if not k.startswith("model.")}
    with pytest.raises(CheckpointError, match="has no UNet"):
        run(tmp_path, sd1, only_te, FLOAT)
    wide = {k: v.repeat(*[2] * v.dim()) for k, v in sd1.items()}
    with pytest.raises(CheckpointError, match="other shapes"):
        run(tmp_path, sd1, wide, FLOAT)
    norm = {k: v.clone() for k, v in sd1.items()}
    norm["model.diffusion_model.out.0.weight"] += 1
    with pytest.raises(CheckpointError, match="do not differ but in norms, which were not asked for"):
        run(tmp_path, sd1, norm, FLOAT)
    nan = {k: v.clone() for k, v in sd1.items()}
    nan["model.diffusion_model.time_embed.0.weight"][0] = torch.nan
    with pytest.raises(CheckpointError, match=r"NaN.*tuned\.safetensors"):
        run(tmp_path, sd1, nan, FLOAT)
    huge = {k: v * 1e6 for k, v in sd1.items()}
    with pytest.raises(OutputError, match="too large for float16"):
        run(tmp_path, sd1, {k: v * 1e12 for k, v in huge.items()}, Compression(parse("2")))
    assert not (tmp_path / "out.safetensors").exists()


def test_inpainting_ema_and_mixed_precision_are_told(tmp_path: Path) -> None:
    base = checkpoint(Family.SD1)
    tuned = merged(base, Family.SD1, lora(base, Family.SD1, 2))
    tuned["model.diffusion_model.input_blocks.0.0.weight"] = torch.randn(8, 9, 3, 3)
    tuned |= {"model_ema.decay": torch.tensor(0.9)}
    outcome = run(tmp_path, base, {k: v.half() for k, v in tuned.items()}, FLOAT)
    told = " ".join(outcome.notes)
    assert "inpainting" in told
    assert "lora_unet_conv_in" in told
    assert "EMA" in told
    assert "stored in float32 (base) and float16 (tuned)" in told


def test_dry_run_tells_the_same(tmp_path: Path) -> None:
    state = checkpoint(Family.SD1)
    tuned = merged(state, Family.SD1, lora(state, Family.SD1, 4))
    dry = run(tmp_path, state, tuned, FLOAT, dry_run=True)
    assert not (tmp_path / "out.safetensors").exists()
    wet = run(tmp_path, state, tuned, FLOAT)
    assert (dry.error, dry.notes, dry.out) == (wet.error, wet.notes, None)
    with pytest.raises(OutputError, match="exists already"):
        run(tmp_path, state, tuned, FLOAT)
    again = run(tmp_path, state, tuned, FLOAT, force=True)
    assert again.error == wet.error
