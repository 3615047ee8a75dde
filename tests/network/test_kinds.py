"""Every kind of adapter on a live UNet, judged by lycoris-lora's own modules on the same weights and noise."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lora_lab.errors import AdapterFileError, SettingsError
from lora_lab.network.adapter import Adapter
from lora_lab.network.make import LYCORIS
from lora_lab.network.reach import C3LIER, LIERLA, Reach
from lora_lab.network.recipe import Recipe
from lora_lab.network.sites import Site
from lora_lab.network.sizes import Size, by_kernel
from tests.network.models import World, inputs

lycoris = pytest.importorskip("lycoris.modules", reason="lycoris-lora is not installed")

CASES: dict[str, Recipe] = {
    "lora": Recipe(),
    "rslora": Recipe(rs_lora=True),
    "locon tucker": Recipe("locon", use_tucker=True),
    "locon scalar": Recipe("locon", use_scalar=True),
    "dora": Recipe(dora_wd=True),
    "dora output": Recipe(dora_wd=True, wd_on_output=True),
    "loha": Recipe("loha"),
    "loha tucker": Recipe("loha", use_tucker=True),
    "loha dora scalar": Recipe("loha", dora_wd=True, use_scalar=True),
    "lokr": Recipe("lokr", factor=4),
    "lokr rslora": Recipe("lokr", factor=4, rs_lora=True),
    "lokr both": Recipe("lokr", factor=8, decompose_both=True),
    "lokr tucker": Recipe("lokr", factor=2, use_tucker=True),
    "lokr full": Recipe("lokr", factor=4, full_matrix=True),
    "lokr unbalanced": Recipe("lokr", factor=4, unbalanced_factorization=True),
    "lokr dora": Recipe("lokr", factor=4, dora_wd=True),
    "lokr scalar": Recipe("lokr", factor=4, use_scalar=True),
    "ia3": Recipe("ia3"),
    "ia3 input": Recipe("ia3", train_on_input=True),
    "diag-oft": Recipe("diag-oft"),
    "diag-oft limited": Recipe("diag-oft", constraint=1e-3, rescaled=True),
    "boft": Recipe("boft"),
    "boft limited": Recipe("boft", constraint=1e-3, rescaled=True),
    "glora": Recipe("glora"),
    "full": Recipe("full"),
}
DIM, CONV_DIM = 4, 3
MOST = (r"down_blocks\.[023]", r"up_blocks\.[013]", r"up_blocks\.2\.\w+\.[01]", r"text_model\.encoder\.layers\.[^08]")
WIDE = dataclasses.replace(C3LIER, norms=True, exclude=(*MOST, r".*transformer_blocks.*to_k"))
"""Some sites of each sort: two levels, the middle, two layers of the text encoder."""
STEP = 1e-4


def made(world: World, how: Recipe, reach: Reach = WIDE, *, moved: float = 0.05) -> Adapter:
    """A fresh adapter, its numbers moved away from where they begin."""
    sizes = by_kernel(Size(dim_of(how, "linear"), 2.0), Size(dim_of(how, "conv"), 2.0))
    adapter = Adapter.create(world.sites(reach=reach), sizes=sizes, how=how, generator=seeded(5))
    g = seeded(6)
    for parameter in adapter.parameters():
        parameter.data += moved * torch.randn(parameter.shape, generator=g)
    return adapter


def dim_of(how: Recipe, kind: str) -> int:
    """Butterflies need powers of two beside them: 48 is 6 times 8."""
    return {"boft": 6, "diag-oft": 4}.get(how.algo, CONV_DIM if kind == "conv" else DIM)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def loss_of(world: World) -> Tensor:
    """Of the prediction of noise, and of the text states, which train nothing of each other here."""
    noise = torch.randn(inputs()[0].shape, generator=seeded(9))
    text = world.encode()
    return (world.predict() - noise).square().mean() + (text * torch.randn(text.shape, generator=seeded(8))).mean()


def oracle(world: World, adapter: Adapter) -> Iterator[tuple[int, Any]]:
    """lycoris-lora's module at each site of a copy of the model, holding our numbers."""
    roots = {"unet": world.unet, "text_encoder": world.encoder}
    for number, piece in enumerate(adapter.pieces):
        site, how = piece.site, piece.how
        module = theirs(site, roots[site.part].get_submodule(site.path), how)
        ours = list(piece.parameters)
        for (name, parameter), mine in zip(in_our_order(module, how, site), ours, strict=True):
            assert parameter.shape == mine.shape, (site.name, name)
            parameter.data.copy_(mine.data)
        module.apply_to()
        module.eval()
        yield number, module


def theirs(site: Site, layer: nn.Module, how: Recipe) -> Any:
    given = {f.name: getattr(how, f.name) for f in dataclasses.fields(how)}
    for ours in ("algo", "dropout", "module_dropout", "rank_dropout", "block_size"):
        given.pop(ours)
    given |= {"weight_decompose": given.pop("dora_wd"), "wd_on_out": given.pop("wd_on_output"), "bypass_mode": False}
    if site.kind == "norm":
        return lycoris.NormModule(site.name, layer, 1.0)
    if how.algo == "full":
        return lycoris.FullModule(site.name, layer, 1.0)
    given |= {"lora_dim": dim_of(how, site.kind), "alpha": 2.0}
    module = getattr(lycoris, LYCORIS[how.algo][0])(site.name, layer, 1.0, **given)
    if how.rs_lora and how.algo == "lokr" and module.use_w1 and module.use_w2:
        module.scale = 1.0  # theirs trains with sqrt(dim) here, and every reader of the file takes 1
    return module


def in_our_order(module: Any, how: Recipe, site: Site) -> list[tuple[str, nn.Parameter]]:
    """Their parameters in the order of ours: LoRA has down first, the scalar is last, GLoRA has its older names."""
    found = dict(module.named_parameters())
    if site.kind != "norm" and how.plain:
        return [(name, found[name]) for name in ("lora_down.weight", "lora_up.weight")]
    if "scalar" in found:
        found["scalar"] = found.pop("scalar")
    if how.algo == "glora" and site.kind != "norm":
        return [(n, found[n]) for n in ("a2.weight", "a1.weight", "b2.weight", "b1.weight") if n in found]
    return list(found.items())


def copied(world: World) -> World:
    unet, encoder = copy.deepcopy(world.unet), copy.deepcopy(world.encoder)
    calls = {"ldm": lambda x, t, c: unet(x, timesteps=t, context=c), "diffusers": lambda x, t, c: unet(x, t, c).sample}
    return World(world.layout, unet, encoder, calls[world.layout])


@pytest.mark.parametrize("name", CASES)
def test_a_steps_loss_and_gradients_are_lycoris_own(some_world: World, name: str) -> None:
    adapter = made(some_world, CASES[name])
    bare = loss_of(some_world)
    with adapter.attached():
        ours = loss_of(some_world)
        ours.backward()
    copy_of = copied(some_world)
    modules = dict(oracle(copy_of, adapter))
    want = loss_of(copy_of)
    want.backward()
    assert abs(ours.item() - want.item()) <= 0.1 * STEP * want.item()
    assert abs(ours.item() - bare.item()) > STEP * float(bare)
    pairs = [
        (f"{piece.site.name} {key}", mine.grad, other.grad)
        for number, piece in enumerate(adapter.pieces)
        for mine, (key, other) in zip(
            piece.parameters, in_our_order(modules[number], piece.how, piece.site), strict=True
        )
    ]
    apart = [(where, float((mine - other).norm()), float(other.norm())) for where, mine, other in pairs]
    assert sum(gap**2 for _, gap, _ in apart) <= STEP**2 * sum(size**2 for *_, size in apart)
    floor = 0.02 * max(size for *_, size in apart)  # some layers before a norm have no gradient but rounding
    for where, gap, size in apart:
        assert gap <= 20 * STEP * max(size, floor), where


@pytest.mark.parametrize("name", CASES)
def test_a_fresh_one_changes_nothing_and_detached_the_model_is_as_before(some_world: World, name: str) -> None:
    before = {key: value.clone() for key, value in some_world.unet.state_dict().items()}
    bare, text = some_world.predict(), some_world.encode()
    adapter = made(some_world, CASES[name], moved=0.0)
    with adapter.attached():
        assert torch.allclose(some_world.predict(), bare, atol=2e-5)
        assert torch.allclose(some_world.encode(), text, atol=2e-5)
        with adapter.off():
            assert torch.equal(some_world.predict(), bare)
    assert torch.equal(some_world.predict(), bare)
    assert all(torch.equal(value, before[key]) for key, value in some_world.unet.state_dict().items())
    assert not any(m._forward_hooks or "forward" in m.__dict__ for m in some_world.unet.modules())


@pytest.mark.parametrize("name", CASES)
def test_the_file_says_what_the_live_one_does(some_world: World, name: str) -> None:
    adapter = made(some_world, CASES[name])
    with adapter.attached():
        live, text = some_world.predict(), some_world.encode()
    again = Adapter.from_tensors(some_world.sites(reach=WIDE), adapter.to_tensors())
    assert len(again.pieces) == len(adapter.pieces)
    with again.attached():
        assert torch.allclose(some_world.predict(), live, atol=1e-5)
        assert torch.allclose(some_world.encode(), text, atol=1e-5)
    tensors = again.to_tensors()
    assert all(torch.allclose(tensor, tensors[key]) for key, tensor in adapter.to_tensors().items())


@pytest.mark.parametrize("name", CASES)
def test_each_sample_has_its_own_strength(some_world: World, name: str) -> None:
    adapter = made(some_world, CASES[name])
    with adapter.attached():
        with adapter.scaled(per_sample=torch.tensor([0.0, 0.5])):
            both = some_world.predict()
        alone = []
        for strength in (0.0, 0.5):
            with adapter.scaled(unet=strength):
                alone.append(some_world.predict())
    assert torch.allclose(both[0], alone[0][0], atol=2e-5)
    assert torch.allclose(both[1], alone[1][1], atol=2e-5)
    assert not torch.allclose(alone[0][1], alone[1][1], atol=1e-3)


@pytest.mark.parametrize("name", [n for n in CASES if n not in ("locon scalar", "loha dora scalar", "lokr scalar")])
def test_half_precision_keeps_the_layers_type(name: str) -> None:
    how = CASES[name]
    for site, x in layers(torch.bfloat16):
        adapter = Adapter.create([site], sizes=Size(4, 2.0), how=how, generator=seeded(1))
        for parameter in adapter.parameters():
            parameter.data += 0.2 * torch.randn(parameter.shape, generator=seeded(2))
        assert all(parameter.dtype == torch.float32 for parameter in adapter.parameters())
        bare = site.module(x)
        with adapter.attached():
            y = site.module(x)
        y.float().sum().backward()
        assert y.dtype == torch.bfloat16
        assert not torch.equal(y, bare)
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in adapter.parameters())


def layers(dtype: torch.dtype = torch.float32) -> list[tuple[Site, Tensor]]:
    torch.manual_seed(1)
    linear, wide = nn.Linear(12, 16).to(dtype), nn.Conv2d(12, 16, 3, padding=1).to(dtype)
    for layer in (linear, wide):
        layer.requires_grad_(False)
    return [
        (Site("lora_unet_a", "unet", "M00", "a", linear, "linear", 12, 16), torch.randn(2, 5, 12).to(dtype)),
        (Site("lora_unet_b", "unet", "M00", "b", wide, "conv", 12, 16, (3, 3)), torch.randn(2, 12, 5, 5).to(dtype)),
    ]


MERGED = ("lora", "locon tucker", "dora output", "loha", "loha tucker", "lokr", "lokr full", "lokr tucker", "diag-oft",
          "diag-oft limited", "boft", "full")  # fmt: skip
"""Those whose own files lycoris-lora reads again. It has no way back for IA3 and DoRA by inputs, and has turned GLoRA's
names round since the webui learnt to read them."""


@pytest.mark.parametrize("name", MERGED)
def test_lycoris_own_merge_of_the_file_computes_the_same(name: str) -> None:
    if name == "full" and int(version("lycoris-lora").partition(".")[0]) < 4:
        pytest.skip("lycoris-lora before 4 adds a list to a tensor where it merges full with a bias")
    for site, x in layers():
        adapter = Adapter.create([site], sizes=Size(4, 4.0), how=CASES[name], generator=seeded(1))
        for parameter in adapter.parameters():
            parameter.data += 0.2 * torch.randn(parameter.shape, generator=seeded(2))
        with adapter.attached():
            ours = site.module(x)
        tensors = {key: tensor.detach() for key, tensor in adapter.to_tensors().items()}
        layer = copy.deepcopy(site.module)
        kind, weights = lycoris.get_module(tensors, site.name)
        with torch.no_grad():
            module = lycoris.make_module(kind, weights, site.name, layer)
            module.merge_to(1.0)
            assert torch.allclose(layer(x), ours, atol=1e-4), site.kind


@pytest.mark.parametrize("name", CASES)
def test_the_norm_is_limited_as_lycoris_or_kohya_do(name: str) -> None:
    how = CASES[name]
    for site, _ in layers():
        adapter = Adapter.create([site], sizes=Size(4, 2.0), how=how, generator=seeded(1))
        for parameter in adapter.parameters():
            parameter.data += 0.5 * torch.randn(parameter.shape, generator=seeded(2))
        piece: Any = adapter.pieces[0]
        if how.algo in ("ia3", "full", "glora"):
            continue
        before = float(delta_of(piece).norm())
        most = 0.5 if how.algo in ("diag-oft", "boft") else before / 2
        adapter.limit_norms(most)
        if how.algo in ("diag-oft", "boft"):
            assert float(piece._values["oft_blocks"].norm()) == pytest.approx(0.5, rel=1e-4)
        else:
            assert float(delta_of(piece).norm()) == pytest.approx(most, rel=1e-4)
            again = Adapter.from_tensors([site], adapter.to_tensors()).pieces[0]
            assert torch.allclose(delta_of(again), delta_of(piece), atol=1e-6)
            adapter.limit_norms(100 * before)  # far below: max(norm, most / 2) is kept whole
            assert float(delta_of(piece).norm()) == pytest.approx(most, rel=1e-4)


def delta_of(piece: Any) -> Tensor:
    """The change of the weight without DoRA's lengths."""
    from lora_lab.network.deltas import Kind, change

    kind = getattr(piece, "kind", Kind.LORA)
    return change(kind, piece.tensors(), piece.site.module.weight.detach())


def test_both_layouts_get_the_same_numbers_and_chance_is_left_alone() -> None:
    pytest.importorskip("diffusers")
    pytest.importorskip("ldm")
    from tests.network.models import make_world

    state = torch.get_rng_state()
    how = Recipe("loha")
    one, two = (
        Adapter.create(make_world(layout).sites(), sizes=Size(4, 1.0), how=how, generator=seeded(3)).to_tensors()
        for layout in ("ldm", "diffusers")
    )
    assert list(one) == list(two)
    assert all(torch.equal(one[key], two[key]) for key in one)
    torch.set_rng_state(state)
    before = torch.rand(1)
    torch.set_rng_state(state)
    Adapter.create([layers()[0][0]], sizes=Size(4, 1.0), how=how, generator=seeded(3))
    torch.set_rng_state(state)
    assert torch.equal(torch.rand(1), before)


def test_glora_has_the_names_that_the_webui_reads() -> None:
    """There W + (W a2 a1 + b2 b1) is worked out with plain products of matrices, and alpha is passed over."""
    square = nn.Linear(16, 16)
    site = Site("lora_unet_a", "unet", "M00", "a", square, "linear", 16, 16)
    adapter = Adapter.create([site], sizes=Size(4, 2.0), how=Recipe("glora"), generator=seeded(1))
    for parameter in adapter.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=seeded(2))
    t = {key.split(".", 1)[1]: tensor for key, tensor in adapter.to_tensors().items()}
    webui = t["b2.weight"] @ t["b1.weight"] + (square.weight @ t["a2.weight"]) @ t["a1.weight"]  # whatever alpha says
    piece: Any = adapter.pieces[0]
    assert torch.allclose(webui, piece.change()[0], atol=1e-6)


def test_dora_has_the_form_that_the_webui_reads() -> None:
    for site, _ in layers():
        adapter = Adapter.create([site], sizes=Size(4, 2.0), how=CASES["dora"], generator=seeded(1))
        magnitude = adapter.to_tensors()[f"{site.name}.dora_scale"]
        assert magnitude.shape == (1, 12, *([1, 1] if site.kind == "conv" else []))


@pytest.mark.parametrize(
    ("name", "tensors"),
    [
        ("a", {"hada_w1_a": (16, 4), "hada_w1_b": (4, 11), "hada_w2_a": (16, 4), "hada_w2_b": (4, 11)}),
        ("a", {"lokr_w1": (4, 4), "lokr_w2": (4, 4)}),
        ("a", {"oft_blocks": (3, 5, 5)}),
        ("a", {"weight": (12,), "on_input": ()}),
        ("a", {"w_norm": (16,), "b_norm": (16,)}),
        ("a", {"diff": (16, 12), "diff_b": (12,)}),
        ("b", {"lora_up.weight": (16, 4, 1, 1), "lora_down.weight": (4, 12, 1, 1), "lora_mid.weight": (4, 4, 5, 5)}),
        ("b", {"a1.weight": (4, 12), "a2.weight": (12, 5), "b1.weight": (4, 12, 3, 3), "b2.weight": (16, 4, 1, 1)}),
    ],
    ids=["loha", "lokr", "oft", "ia3", "norm", "bias", "tucker", "glora"],
)
def test_tensors_that_do_not_fit_their_layer_are_one_clear_line(name: str, tensors: dict[str, Any]) -> None:
    held = {f"lora_unet_{name}.{key}": torch.zeros(shape) for key, shape in tensors.items()}
    with pytest.raises(AdapterFileError, match=f"site lora_unet_{name} is 12 to 16 wide") as caught:
        Adapter.from_tensors([site for site, _ in layers()], held, file="x.safetensors")
    assert "\n" not in str(caught.value)


def test_kohyas_oft_is_read_by_its_own_prefix_and_counts_blocks() -> None:
    site, x = layers()[0]
    adapter = Adapter.create([site], sizes=Size(8, 1.0), how=Recipe("oft", constraint=0.1), generator=seeded(1))
    adapter.parameters()[0].data.normal_(0, 0.1)
    tensors = adapter.to_tensors()
    assert tensors["lora_unet_a.oft_blocks"].shape == (8, 2, 2)
    with adapter.attached():
        ours = site.module(x)
    kohyas = {key.replace("lora_unet_", "oft_unet_"): tensor for key, tensor in tensors.items()}
    with Adapter.from_tensors([site], kohyas).attached():
        assert torch.allclose(site.module(x), ours)
    with pytest.raises(SettingsError, match="16 outputs of lora_unet_a cannot be parted into network_dim 3"):
        Adapter.create([site], sizes=Size(3), how=Recipe("oft"), generator=seeded(1))


def test_a_size_that_boft_cannot_have_is_one_clear_line() -> None:
    odd = nn.Linear(7, 7)
    site = Site("lora_unet_odd", "unet", "M00", "a", odd, "linear", 7, 7)
    with pytest.raises(SettingsError, match=r"boft with network_dim 4 does not fit lora_unet_odd"):
        Adapter.create([site], sizes=Size(4), how=Recipe("boft"), generator=seeded(1))


def test_lora_fa_trains_up_alone(some_world: World) -> None:
    adapter = Adapter.create(some_world.sites(reach=LIERLA), sizes=Size(4), how=Recipe("lora-fa"), generator=seeded(1))
    assert len(adapter.parameters()) == len(adapter.pieces)
    downs = [piece.down.clone() for piece in adapter.pieces]  # type: ignore[attr-defined]
    with adapter.attached():
        some_world.predict().square().mean().backward()
    assert all(p.grad is not None for p in adapter.parameters("unet"))
    assert all(piece.down.grad is None for piece in adapter.pieces)  # type: ignore[attr-defined]
    adapter.to("cpu")
    assert all(torch.equal(a, b.down) for a, b in zip(downs, adapter.pieces, strict=True))  # type: ignore[attr-defined]
    spread = torch.cat([down.flatten() * (2 / (down.shape[1] + 4)) ** -0.5 for down in downs]).std()
    assert float(spread) == pytest.approx(1, abs=0.02)  # kohya's networks.lora_fa
