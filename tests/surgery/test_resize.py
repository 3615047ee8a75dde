"""Resize against the full SVD of every site's delta."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from lora_lab.errors import AdapterFileError, OutputError, SettingsError
from lora_lab.families import Family
from lora_lab.network.streams import TensorFile
from lora_lab.surgery.compress import Compression
from lora_lab.surgery.ranks import parse
from lora_lab.surgery.resize import ResizeTarget, resize
from tests.surgery.test_lowrank import oracle
from tests.surgery.worlds import checkpoint, dense, load, lora, save, sites


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return checkpoint(Family.SD1)


@pytest.fixture
def source(tmp_path: Path, state: dict[str, torch.Tensor]) -> Path:
    return save(tmp_path / "in.safetensors", lora(state, Family.SD1, 6, conv=True), {"ss_seed": "1", "a": "b"})


def best(delta: torch.Tensor, rank: int) -> torch.Tensor:
    u, s, vh = torch.linalg.svd(delta, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ vh[:rank]


def test_fixed_rank_is_the_best_one(source: Path, tmp_path: Path) -> None:
    [outcome] = resize(source, [ResizeTarget(tmp_path / "out.safetensors", Compression(parse("3")))])
    old, new = load(source), load(tmp_path / "out.safetensors")
    assert sites(new) == sites(old)
    lost = total = 0.0
    for site in sites(old):
        want = best(dense(old, site), 3)
        assert new[f"{site}.lora_down.weight"].shape == (3, *old[f"{site}.lora_down.weight"].shape[1:])
        assert float(new[f"{site}.alpha"]) == 3
        assert (dense(new, site) - want).norm() <= 1e-5 * want.norm()
        lost += float((dense(old, site) - want).square().sum())
        total += float(dense(old, site).square().sum())
    assert outcome.error == pytest.approx((lost / total) ** 0.5, rel=1e-4)
    assert outcome.out == tmp_path / "out.safetensors"
    assert outcome.size == (tmp_path / "out.safetensors").stat().st_size


@pytest.mark.parametrize("rule", ["sv_fro=0.8", "sv_ratio=2", "sv_cumulative=0.6", "threshold=0.4"])
def test_dynamic_rules_equal_the_oracle(source: Path, tmp_path: Path, rule: str) -> None:
    resize(source, [ResizeTarget(tmp_path / "out.safetensors", Compression(parse(rule)))])
    old, new = load(source), load(tmp_path / "out.safetensors")
    for site in sites(old):
        s = [x for x in torch.linalg.svdvals(dense(old, site)).tolist() if x > 1e-6]
        want = oracle(s, parse(rule).kind, parse(rule).value)
        if want:
            assert new[f"{site}.lora_down.weight"].shape[0] == want
        else:
            assert site not in sites(new)


def test_linear_conv_and_blocks_apart_several_files_from_one_pass(source: Path, tmp_path: Path) -> None:
    how = Compression(parse("4"), parse("2"), {"OUT03": parse("1"), "BASE": parse("5")})
    targets = [
        ResizeTarget(tmp_path / "a.safetensors", how),
        ResizeTarget(tmp_path / "b.safetensors", Compression(parse("1"))),
    ]
    first, second = resize(source, targets)
    new = load(tmp_path / "a.safetensors")
    assert new["lora_unet_down_blocks_0_resnets_0_conv1.lora_down.weight"].shape[0] == 2
    assert new["lora_unet_down_blocks_0_resnets_0_time_emb_proj.lora_down.weight"].shape[0] == 4
    assert new["lora_unet_up_blocks_1_attentions_0_proj_in.lora_down.weight"].shape[0] == 1
    assert new["lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight"].shape[0] == 5
    assert second.error > first.error
    assert set(first.blocks) == set(second.blocks) >= {"BASE", "IN00" if "IN00" in first.blocks else "IN01", "M00"}


def test_metadata_is_kept_and_says_what_was_done(source: Path, tmp_path: Path) -> None:
    resize(source, [ResizeTarget(tmp_path / "out.safetensors", Compression(parse("2")))])
    with TensorFile(tmp_path / "out.safetensors") as file:
        assert file.metadata["a"] == "b"
        assert file.metadata["ss_network_dim"] == "2"
        assert file.metadata["sshs_model_hash"] == file.data_hash()
        assert json.loads(file.metadata["lora_lab_recipe"])["source"]["name"] == "in"
    resize(source, [ResizeTarget(tmp_path / "dyn.safetensors", Compression(parse("sv_fro=0.8")))])
    with TensorFile(tmp_path / "dyn.safetensors") as file:
        assert file.metadata["ss_network_dim"] == "Dynamic"


def test_a_file_size_is_kept_and_used(source: Path, tmp_path: Path) -> None:
    room = 200_000
    [outcome] = resize(source, [ResizeTarget(tmp_path / "out.safetensors", Compression(max_bytes=room))])
    [rank_2] = resize(source, [ResizeTarget(tmp_path / "two.safetensors", Compression(parse("2")))])
    size = (tmp_path / "out.safetensors").stat().st_size
    assert room - 30_000 <= size <= room
    [like_2] = resize(source, [ResizeTarget(tmp_path / "l.safetensors", Compression(max_bytes=rank_2.size + 16384))])
    assert like_2.error < rank_2.error
    with pytest.raises(OutputError, match="too small"):
        resize(source, [ResizeTarget(tmp_path / "no.safetensors", Compression(max_bytes=1000))])
    assert not (tmp_path / "no.safetensors").exists()


def test_an_error_is_kept_with_the_smallest_file(source: Path, tmp_path: Path) -> None:
    [outcome] = resize(source, [ResizeTarget(tmp_path / "out.safetensors", Compression(max_error=0.3))])
    assert 0.27 < outcome.error <= 0.3 + 1e-6
    [each] = resize(source, [ResizeTarget(tmp_path / "each.safetensors", Compression(parse("error=0.3")))])
    assert outcome.size < each.size


def test_dry_run_writes_nothing_and_says_the_same(source: Path, tmp_path: Path) -> None:
    target = ResizeTarget(tmp_path / "out.safetensors", Compression(parse("3")))
    [dry] = resize(source, [target], dry_run=True)
    assert dry.out is None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.safetensors"]
    [wet] = resize(source, [target])
    assert (dry.error, dry.blocks, dry.notes) == (wet.error, wet.blocks, wet.notes)


def test_loha_and_lokr_become_loras_of_the_same_delta(tmp_path: Path) -> None:
    g = torch.Generator().manual_seed(0)
    conv = "lora_unet_down_blocks_0_resnets_0_conv1"
    lin = "lora_unet_mid_block_attentions_0_transformer_blocks_0_ff_net_2"
    te = "lora_te_text_model_encoder_layers_0_mlp_fc1"
    t = {
        f"{conv}.hada_w1_a": torch.randn(16, 2, generator=g),
        f"{conv}.hada_w1_b": torch.randn(2, 72, generator=g),
        f"{conv}.hada_w2_a": torch.randn(16, 2, generator=g),
        f"{conv}.hada_w2_b": torch.randn(2, 72, generator=g),
        f"{conv}.alpha": torch.tensor(1.0),
        f"{lin}.lokr_w1": torch.randn(4, 2, generator=g),
        f"{lin}.lokr_w2_a": torch.randn(4, 3, generator=g),
        f"{lin}.lokr_w2_b": torch.randn(3, 8, generator=g),
        f"{lin}.alpha": torch.tensor(3.0),
        f"{te}.diff": torch.randn(6, 5, generator=g),
    }
    source = save(tmp_path / "in.safetensors", t)
    [outcome] = resize(source, [ResizeTarget(tmp_path / "out.safetensors", Compression(parse("error=0")))])
    new = load(tmp_path / "out.safetensors")
    loha = 0.5 * (t[f"{conv}.hada_w1_a"] @ t[f"{conv}.hada_w1_b"]) * (t[f"{conv}.hada_w2_a"] @ t[f"{conv}.hada_w2_b"])
    lokr = torch.kron(t[f"{lin}.lokr_w1"], t[f"{lin}.lokr_w2_a"] @ t[f"{lin}.lokr_w2_b"])
    assert new[f"{conv}.lora_down.weight"].shape == (4, 8, 3, 3)
    assert torch.allclose(dense(new, conv).float(), loha, atol=1e-4)
    assert torch.allclose(dense(new, lin).float(), lokr, atol=1e-4)
    assert torch.equal(new[f"{te}.diff"], t[f"{te}.diff"])
    assert any("kept as they are (full)" in note for note in outcome.notes)


def test_tucker_convolutions(tmp_path: Path) -> None:
    site = "lora_unet_down_blocks_0_resnets_0_conv1"
    up, mid, down = torch.randn(9, 4, 1, 1), torch.randn(4, 4, 3, 3), torch.randn(4, 7, 1, 1)
    source = save(
        tmp_path / "in.safetensors",
        {f"{site}.lora_up.weight": up, f"{site}.lora_mid.weight": mid, f"{site}.lora_down.weight": down},
    )
    resize(source, [ResizeTarget(tmp_path / "out.safetensors", Compression(parse("2")))])
    want = torch.einsum("om,mnkl,ni->oikl", up.flatten(1), mid, down.flatten(1)).flatten(1).double()
    new = load(tmp_path / "out.safetensors")
    assert new[f"{site}.lora_down.weight"].shape == (2, 7, 3, 3)
    assert (dense(new, site) - best(want, 2)).norm() <= 1e-5 * want.norm()


def test_half_precision_stays_and_is_counted(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    tensors = {k: v.half() for k, v in lora(state, Family.SD1, 4).items()}
    source = save(tmp_path / "in.safetensors", tensors)
    [outcome] = resize(source, [ResizeTarget(tmp_path / "out.safetensors", Compression(parse("error=0")), True)])
    new = load(tmp_path / "out.safetensors")
    assert {v.dtype for k, v in new.items() if not k.endswith("alpha")} == {torch.float16}
    assert 1e-5 < outcome.error < 1e-3


def test_bad_input(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"

    def one(path: Path, how: Compression) -> None:
        resize(path, [ResizeTarget(out, how)])

    with pytest.raises(SettingsError, match="rank is 6 already"):
        one(source, Compression(parse("6")))
    with pytest.raises(SettingsError, match="no rank is given"):
        Compression()
    with pytest.raises(SettingsError, match="exclude each other"):
        Compression(max_bytes=1, max_error=0.1)
    with pytest.raises(SettingsError, match="makes no sense"):
        Compression(max_error=3)
    with pytest.raises(SettingsError, match="shares the ranks out itself"):
        Compression(parse("sv_fro=0.9"), max_error=0.1)
    ia3 = {"lora_unet_x.weight": torch.ones(3), "lora_unet_x.on_input": torch.tensor(0)}
    with pytest.raises(AdapterFileError, match="no site can be resized: the file's kind is ia3"):
        one(save(tmp_path / "i.safetensors", ia3), Compression(parse("6")))
    zero = {"lora_unet_x.lora_up.weight": torch.ones(3, 0), "lora_unet_x.lora_down.weight": torch.ones(0, 4)}
    with pytest.raises(AdapterFileError, match="rank 0"):
        one(save(tmp_path / "z.safetensors", zero), Compression(parse("6")))
    nan = {"lora_unet_x.lora_up.weight": torch.ones(3, 2) / 0, "lora_unet_x.lora_down.weight": torch.ones(2, 4)}
    with pytest.raises(AdapterFileError, match="NaN"):
        one(save(tmp_path / "n.safetensors", nan), Compression(parse("1")))
    assert not out.exists()


SCALAR, WIDE = torch.tensor(1.0), torch.ones(3, 2)
MISFITS = {
    "two alphas": {"lora_up.weight": WIDE, "lora_down.weight": torch.ones(2, 4), "alpha": torch.ones(2)},
    "halves": {"lora_up.weight": WIDE, "lora_down.weight": torch.ones(5, 4)},
    "scalar down": {"lora_up.weight": WIDE, "lora_down.weight": SCALAR},
    "scalar up": {"lora_up.weight": SCALAR, "lora_down.weight": torch.ones(2, 4)},
    "flat up": {"lora_up.weight": torch.ones(3), "lora_down.weight": torch.ones(2, 4)},
    "mid": {"lora_up.weight": WIDE, "lora_down.weight": torch.ones(2, 4), "lora_mid.weight": torch.ones(3, 3, 3, 3)},
    "flat mid": {"lora_up.weight": WIDE, "lora_down.weight": torch.ones(2, 4), "lora_mid.weight": torch.ones(3)},
    "loha": dict.fromkeys(("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"), WIDE),
    "scalar lokr": {"lokr_w1": SCALAR, "lokr_w2": SCALAR},
    "lokr": {"lokr_w1_a": WIDE, "lokr_w1_b": WIDE, "lokr_w2": torch.ones(2, 2)},
}


@pytest.mark.parametrize("tensors", MISFITS.values(), ids=MISFITS)
def test_tensors_that_do_not_fit_are_one_clear_line(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    source = save(tmp_path / "bad.safetensors", {f"lora_unet_x.{name}": t.clone() for name, t in tensors.items()})
    with pytest.raises(AdapterFileError) as caught:
        resize(source, [ResizeTarget(tmp_path / "o.safetensors", Compression(parse("1")))])
    assert "lora_unet_x" in str(caught.value)
    assert not (tmp_path / "o.safetensors").exists()
