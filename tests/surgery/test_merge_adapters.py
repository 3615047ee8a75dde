"""Merging adapters into one, against plain sums of dense deltas and peft's own TIES."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lora_lab.errors import AdapterFileError, SettingsError
from lora_lab.families import Family
from lora_lab.network.streams import TensorFile
from lora_lab.surgery import mixing
from lora_lab.surgery.compress import Compression
from lora_lab.surgery.merge_adapters import MixRequest, merge_adapters
from lora_lab.surgery.ranks import parse
from lora_lab.surgery.uses import AdapterUse
from tests.surgery.test_resize import best
from tests.surgery.worlds import checkpoint, dense, load, lora, save, sites

SD1 = Family.SD1
Pair = tuple[dict[str, Tensor], dict[str, Tensor]]
Files = tuple[Path, Path]


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return checkpoint(SD1)


@pytest.fixture(scope="module")
def pair(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    first = lora(state, SD1, 2, seed=1)
    first = {k: v for k, v in first.items() if "_te_" in k or "mid_block" in k or "up_blocks_1" in k}
    second = lora(state, SD1, 3, seed=2, conv=True)
    return first, {k: v for k, v in second.items() if "_te_" in k or "mid_block" in k}


@pytest.fixture
def files(tmp_path: Path, pair: tuple[dict[str, Tensor], dict[str, Tensor]]) -> tuple[Path, Path]:
    tags = {"ss_tag_frequency": json.dumps({"10_a": {"red": 3}})}
    return save(tmp_path / "a.safetensors", pair[0], tags), save(tmp_path / "b.safetensors", pair[1])


def want(pair: tuple[dict[str, Tensor], dict[str, Tensor]], site: str, *strengths: float) -> Tensor:
    parts = [s * dense(tensors, site) for tensors, s in zip(pair, strengths, strict=True) if site in sites(tensors)]
    return torch.stack(parts).sum(0)


@pytest.mark.parametrize("method", ["concat", "svd"])
def test_both_are_exact_where_the_ranks_add_up(tmp_path: Path, files: Files, pair: Pair, method: str) -> None:
    uses = (AdapterUse(files[0], 0.5, 2.0), AdapterUse(files[1], -1.5, 1.0, {"M00": 0.5}))
    how = Compression(parse("error=0"))
    outcome = merge_adapters(MixRequest(uses, tmp_path / "o.safetensors", method, how))  # type: ignore[arg-type]
    got = load(tmp_path / "o.safetensors")
    assert sites(got) == sites(pair[0]) | sites(pair[1])
    for site in sites(got):
        te = "_te_" in site
        full = want(pair, site, 2.0 if te else 0.5, 1.0 if te else -1.5 * (0.5 if "mid_block" in site else 1))
        assert (dense(got, site) - full).norm() <= 2e-5 * full.norm()
        if method == "concat":
            rank = sum(t[f"{site}.lora_down.weight"].shape[0] for t in pair if site in sites(t))
            assert got[f"{site}.lora_down.weight"].shape[0] == rank
            assert float(got[f"{site}.alpha"]) == rank
    assert outcome.error < 1e-6
    with TensorFile(tmp_path / "o.safetensors") as file:
        assert json.loads(file.metadata["ss_tag_frequency"]) == {"10_a": {"red": 3}}
        assert file.metadata["modelspec.merged_from"] == "a, b"
        assert json.loads(file.metadata["lora_lab_recipe"])["adapters"][1]["unet"] == -1.5


def test_svd_cuts_the_sum_best(tmp_path: Path, files: Files, pair: Pair) -> None:
    uses = tuple(AdapterUse(path) for path in files)
    merge_adapters(MixRequest(uses, tmp_path / "o.safetensors", "svd", Compression(parse("2"))))
    got = load(tmp_path / "o.safetensors")
    for site in sites(got):
        full = best(want(pair, site, 1.0, 1.0), 2)
        assert (dense(got, site) - full).norm() <= 1e-4 * full.norm()


def test_strength_is_the_strength(tmp_path: Path, files: Files, pair: Pair) -> None:
    """Merging A at 0.5 gives half of A, not a quarter."""
    merge_adapters(MixRequest((AdapterUse(files[0], 0.5, 0.5),), tmp_path / "o.safetensors", "concat"))
    got = load(tmp_path / "o.safetensors")
    for site in sites(got):
        assert torch.allclose(dense(got, site), 0.5 * dense(pair[0], site), atol=1e-6)


def test_add_only_where_it_is_exact(tmp_path: Path, files: Files, pair: Pair) -> None:
    with pytest.raises(AdapterFileError, match="one's up with another's down"):
        merge_adapters(MixRequest(tuple(AdapterUse(p) for p in files), tmp_path / "o.safetensors", "add"))
    other = {k: v + 0.1 if "lora_up" in k else v for k, v in pair[0].items()}
    b = save(tmp_path / "fa.safetensors", other)
    merge_adapters(MixRequest((AdapterUse(files[0]), AdapterUse(b, 2.0, 2.0)), tmp_path / "o.safetensors", "add"))
    got = load(tmp_path / "o.safetensors")
    for site in sites(got):
        assert got[f"{site}.lora_down.weight"].shape[0] == 2
        full = dense(pair[0], site) + 2 * dense(other, site)
        assert (dense(got, site) - full).norm() <= 1e-5 * full.norm()


def test_ties_is_pefts() -> None:
    merge_utils = pytest.importorskip("peft.utils.merge_utils", reason="peft is not installed")
    g = torch.Generator().manual_seed(0)
    deltas = [torch.randn(20, 30, generator=g) for _ in range(3)]
    theirs = merge_utils.ties(deltas, torch.ones(3), 0.4, "total")
    assert torch.allclose(mixing.ties(deltas, 0.4), theirs)
    assert torch.allclose(mixing.trimmed(deltas[0], 0.3), merge_utils.prune(deltas[0], 0.3, "magnitude"))


def test_dare_keeps_the_share_and_the_mean() -> None:
    ones = [torch.ones(200, 200), torch.full((200, 200), 3.0)]
    got = mixing.dare(ones, 0.25, "s")
    assert got.mean() == pytest.approx(4, rel=0.03)
    assert (got == 0).float().mean() == pytest.approx(0.75**2, abs=0.02)
    assert set(got.unique().tolist()) == {0.0, 4.0, 12.0, 16.0}
    assert torch.equal(got, mixing.dare(ones, 0.25, "s"))
    assert not torch.equal(got, mixing.dare(ones, 0.25, "t"))


@pytest.mark.parametrize("method", ["ties", "dare"])
def test_masked_ways_end_to_end(tmp_path: Path, files: Files, pair: Pair, method: str) -> None:
    how = Compression(parse("error=0"))
    uses = tuple(AdapterUse(path, 0.5, 0.5) for path in files)
    request = MixRequest(uses, tmp_path / "o.safetensors", method, how, 0.5)  # type: ignore[arg-type]
    merge_adapters(request)
    got = load(tmp_path / "o.safetensors")
    site = "lora_unet_mid_block_attentions_0_transformer_blocks_0_ff_net_2"
    deltas = [0.5 * dense(tensors, site).float() for tensors in pair]
    full = mixing.ties(deltas, 0.5) if method == "ties" else mixing.dare(deltas, 0.5, f"0/{site}")
    assert torch.allclose(dense(got, site).float(), full, atol=1e-4)


def test_other_kinds_and_norms(tmp_path: Path, state: dict[str, Tensor]) -> None:
    site, norm = "lora_unet_mid_block_attentions_0_proj_in", "lora_unet_mid_block_attentions_0_norm"
    loha = {f"{site}.hada_w{i}_{x}": torch.randn(*((8, 2) if x == "a" else (2, 8))) for i in (1, 2) for x in "ab"}
    one = loha | {f"{norm}.w_norm": torch.ones(8), f"{norm}.b_norm": torch.ones(8)}
    two = {k: v for k, v in lora(state, SD1, 2).items() if k.startswith(site)} | {f"{norm}.w_norm": torch.ones(8)}
    ia3 = {f"{site}.weight": torch.ones(8), f"{site}.on_input": torch.tensor(1)}
    a, b, c = (save(tmp_path / f"{n}.safetensors", t) for n, t in (("a", one), ("b", two), ("c", ia3)))
    base = save(tmp_path / "base.safetensors", state)
    with pytest.raises(AdapterFileError, match=r"\(loha\) is no product of two factors"):
        merge_adapters(MixRequest((AdapterUse(a), AdapterUse(b)), tmp_path / "o.safetensors", "concat"))
    with pytest.raises(AdapterFileError, match="give the checkpoint too"):
        merge_adapters(MixRequest((AdapterUse(a), AdapterUse(c)), tmp_path / "o.safetensors"))
    uses = (AdapterUse(a), AdapterUse(b, 2.0), AdapterUse(c))
    how = Compression(parse("error=0"))
    merge_adapters(MixRequest(uses, tmp_path / "o.safetensors", "svd", how, base=base))
    got = load(tmp_path / "o.safetensors")
    halves = [one[f"{site}.hada_w{i}_a"] @ one[f"{site}.hada_w{i}_b"] for i in (1, 2)]
    plain = halves[0] * halves[1]
    weight = state["model.diffusion_model.middle_block.1.proj_in.weight"].flatten(1)
    full = plain + 2 * dense(two, site).float() + weight
    assert torch.allclose(dense(got, site).float(), full, atol=1e-4)
    assert got[f"{norm}.w_norm"].eq(3).all()
    assert got[f"{norm}.b_norm"].eq(1).all()


def test_bad_input(tmp_path: Path, files: tuple[Path, Path], state: dict[str, Tensor]) -> None:
    out = tmp_path / "o.safetensors"
    with pytest.raises(SettingsError, match="no way of merging"):
        MixRequest((), out, "blend")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="density"):
        MixRequest((), out, density=0)
    with pytest.raises(SettingsError, match="nothing is left"):
        merge_adapters(MixRequest((AdapterUse(files[0], 0, 0),), out))
    xl = checkpoint(Family.SDXL)
    other = save(tmp_path / "xl.safetensors", lora(xl, Family.SDXL, 2))
    with pytest.raises(AdapterFileError, match="for sdxl"):
        merge_adapters(MixRequest((AdapterUse(files[0]), AdapterUse(other)), out))
    site = "lora_unet_mid_block_attentions_0_proj_in"
    wide = {f"{site}.lora_up.weight": torch.ones(9, 2), f"{site}.lora_down.weight": torch.ones(2, 9)}
    with pytest.raises(AdapterFileError, match=r"for a layer \[9, 9\] here, \[8, 8, 1, 1\] in a\.safetensors"):
        merge_adapters(MixRequest((AdapterUse(files[0]), AdapterUse(save(tmp_path / "w.safetensors", wide))), out))
    assert not out.exists()
