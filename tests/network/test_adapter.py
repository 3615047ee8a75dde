"""The contract of an adapter on a live model, in both layouts: on, off, scaled, detached, and nothing left."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lora_lab.errors import AdapterFileError, SettingsError
from lora_lab.network.adapter import Adapter
from lora_lab.network.recipe import Recipe
from lora_lab.network.sizes import Size
from tests.host.fingerprint import differences, fingerprint
from tests.network.models import World, inputs, make_world, same_weights


def loss_of(world: World) -> Tensor:
    """A scalar that depends on the UNet and the text encoder."""
    latents, timesteps, _ = inputs()
    return (world.call(latents, timesteps, world.encode()) - 0.3).square().mean()


def gradients(world: World, adapter: Adapter) -> list[Tensor]:
    for parameter in adapter.parameters():
        parameter.grad = None
    loss_of(world).backward()  # type: ignore[no-untyped-call]
    return [parameter.grad.clone() for parameter in adapter.parameters() if parameter.grad is not None]


def dense(adapter: Adapter) -> dict[str, Tensor]:
    """Each site's delta as a full matrix, straight from the tensors on disk."""
    tensors = adapter.to_tensors()
    deltas = {}
    for site in adapter.sites:
        down, up = (tensors[f"{site.name}.lora_{half}.weight"].flatten(1) for half in ("down", "up"))
        deltas[site.name] = float(tensors[f"{site.name}.alpha"]) / down.shape[0] * up @ down
    return deltas


def test_on_is_the_delta_added_to_the_weights(world: World) -> None:
    adapter = world.adapter()
    with adapter.attached(), torch.no_grad():
        live = world.predict()
    deltas = dense(adapter)
    for site in adapter.sites:
        weight = site.module.weight
        assert isinstance(weight, nn.Parameter)
        weight.data += deltas[site.name].view_as(weight)
    merged = world.predict()
    for site in adapter.sites:
        site.module.weight.data -= deltas[site.name].view_as(site.module.weight)  # type: ignore[union-attr,operator,arg-type]
    assert torch.allclose(live, merged, atol=2e-5)
    assert float((live - world.predict()).abs().max()) > 0.01


def test_a_fresh_adapter_is_no_change(world: World) -> None:
    bare = world.predict()
    adapter = world.adapter(up=0.0)
    with adapter.attached():
        assert torch.equal(world.predict(), bare)


def test_off_is_bare_bit_for_bit(world: World) -> None:
    bare, text = world.predict(), world.encode()
    adapter = world.adapter()
    with adapter.attached():
        on = world.predict()
        with adapter.off():
            assert torch.equal(world.predict(), bare)
            assert torch.equal(world.encode(), text)
            with adapter.scaled(unet=2.0):
                assert torch.equal(world.predict(), bare)
        assert torch.equal(world.predict(), on)
        with adapter.scaled(unet=0.0, text_encoder=0.0):
            assert torch.equal(world.predict(), bare)
            assert torch.equal(world.encode(), text)
    assert torch.equal(world.predict(), bare)


def test_nothing_is_left(world: World) -> None:
    before = fingerprint(world.unet) | fingerprint(world.encoder)
    adapter = world.adapter()
    adapter.attach()
    assert differences(before, fingerprint(world.unet) | fingerprint(world.encoder))
    gradients(world, adapter)
    adapter.detach()
    adapter.detach()
    assert not differences(before, fingerprint(world.unet) | fingerprint(world.encoder))


def test_nothing_is_left_after_an_error_inside(world: World) -> None:
    before = fingerprint(world.unet)
    adapter = world.adapter()
    with pytest.raises(KeyboardInterrupt), adapter.attached(), adapter.scaled(unet=2.0), adapter.off():
        raise KeyboardInterrupt
    assert not differences(before, fingerprint(world.unet))
    assert adapter.strengths.unet == 1.0
    assert not adapter.attached_now


def test_nothing_is_left_when_attaching_fails_midway(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(world.unet)
    adapter = world.adapter()

    def refuse(hook: Any) -> Any:
        raise RuntimeError("no more hooks")

    monkeypatch.setattr(adapter.pieces[100].site.module, "register_forward_hook", refuse)
    with pytest.raises(RuntimeError, match="no more hooks"):
        adapter.attach()
    monkeypatch.undo()
    assert not differences(before, fingerprint(world.unet))


def test_attaching_twice_is_refused(world: World) -> None:
    adapter = world.adapter()
    with adapter.attached():
        with pytest.raises(RuntimeError, match="attached already"):
            adapter.attach()
        assert adapter.attached_now
    assert not adapter.attached_now


def test_gradients_go_to_the_adapter_and_to_nothing_else(world: World) -> None:
    adapter = world.adapter()
    with adapter.attached():
        grads = gradients(world, adapter)
    assert len(grads) == len(adapter.parameters()) == 2 * 264
    assert all(float(grad.abs().max()) > 0 for grad in grads)
    assert all(p.grad is None for model in (world.unet, world.encoder) for p in model.parameters())


def test_the_fused_derivative_is_that_of_the_plain_chain(world: World) -> None:
    adapter = world.adapter()
    strengths: list[dict[str, Any]] = [{}, {"unet": 0.5, "per_sample": torch.tensor([0.4, 1.3])}]
    for how in strengths:
        with adapter.attached(), adapter.scaled(**how):
            fused = gradients(world, adapter)
            for piece in adapter.pieces:
                piece.alone = False
            plain = gradients(world, adapter)
        for one, other in zip(fused, plain, strict=True):
            assert float((one - other).norm()) <= 1e-4 * float(other.norm())


def test_a_frozen_half_gets_no_gradient_and_the_rest_does(world: World) -> None:
    adapter = world.adapter()
    for parameter in adapter.parameters("unet"):
        parameter.requires_grad_(False)
    with adapter.attached():
        assert len(gradients(world, adapter)) == len(adapter.parameters("text_encoder")) == 144


def test_both_layouts_compute_the_same_and_save_the_same() -> None:
    ldm, diffusers = make_world("ldm"), make_world("diffusers")
    same_weights(diffusers.unet, ldm.unet)
    one, other = ldm.adapter(), diffusers.adapter()
    for world, adapter in ((ldm, one), (diffusers, other)):
        optimizer = torch.optim.SGD(adapter.parameters(), lr=0.05)
        with adapter.attached():
            for _ in range(2):
                optimizer.zero_grad()
                loss_of(world).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
    tensors = other.to_tensors()
    assert list(one.to_tensors()) == list(tensors)
    for name, tensor in one.to_tensors().items():
        assert torch.allclose(tensor, tensors[name], rtol=1e-4, atol=1e-6), name
    with one.attached(), other.attached(), torch.no_grad():
        assert torch.allclose(ldm.predict(), diffusers.predict(), atol=1e-4)


def test_equal_seeds_give_equal_tensors_and_a_part_alone_gives_its_share(world: World) -> None:
    whole = world.adapter(up=0.0).to_tensors()
    again = world.adapter(up=0.0).to_tensors()
    unet = world.adapter(up=0.0, parts=frozenset({"unet"})).to_tensors()
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert all(torch.equal(whole[name], unet[name]) for name in unet)
    assert not torch.equal(
        whole["lora_unet_mid_block_attentions_0_proj_in.lora_down.weight"],
        world.adapter(up=0.0, seed=6).to_tensors()["lora_unet_mid_block_attentions_0_proj_in.lora_down.weight"],
    )


def test_the_start_is_kohyas(world: World) -> None:
    """kaiming_uniform(a=sqrt 5): uniform up to 1 / sqrt(fan in), so that its deviation is that over sqrt 3."""
    adapter = world.adapter(dim=64, up=0.0)
    for site, tensor in zip(adapter.sites, adapter.parameters()[::2], strict=True):
        bound = site.in_features**-0.5
        assert float(tensor.detach().abs().max()) <= bound
        assert abs(float(tensor.detach().std()) / (bound / 3**0.5) - 1) < 0.1
    assert all(not bool(up.detach().any()) for up in adapter.parameters()[1::2])


def test_tensors_have_kohyas_names_and_shapes(world: World) -> None:
    tensors = world.adapter(dim=4, alpha=3.0).to_tensors()
    assert len(tensors) == 3 * 264
    name = "lora_unet_down_blocks_0_attentions_0_"
    assert tensors[f"{name}proj_in.lora_down.weight"].shape == (4, 32, 1, 1)
    assert tensors[f"{name}proj_in.lora_up.weight"].shape == (32, 4, 1, 1)
    assert tensors[f"{name}transformer_blocks_0_attn2_to_k.lora_down.weight"].shape == (4, 24)
    assert tensors[f"{name}proj_in.alpha"].shape == ()
    assert all(tensor.dtype == torch.float32 for tensor in tensors.values())
    assert "lora_te_text_model_encoder_layers_11_mlp_fc2.lora_up.weight" in tensors


def test_there_and_back_is_the_same_adapter(world: World) -> None:
    adapter = world.adapter()
    tensors = adapter.to_tensors()
    again = Adapter.from_tensors(world.sites(), tensors)
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in again.to_tensors().items())
    with adapter.attached():
        live = world.predict()
    with again.attached():
        assert torch.equal(world.predict(), live)


def test_saved_tensors_are_no_view_of_the_live_ones(world: World) -> None:
    adapter = world.adapter()
    tensors = adapter.to_tensors()
    kept = {name: tensor.clone() for name, tensor in tensors.items()}
    for parameter in adapter.parameters():
        parameter.data.zero_()
    assert all(torch.equal(kept[name], tensor) for name, tensor in tensors.items())


def test_alpha_zero_is_the_rank(world: World) -> None:
    tensors = world.adapter(dim=4, alpha=0).to_tensors()
    assert {float(t) for name, t in tensors.items() if name.endswith("alpha")} == {4.0}


@pytest.mark.parametrize(
    "wrong", [{"dim": 0}, {"dim": -3}, {"alpha": -1.0}, {"dropout": 1.0}, {"dropout": -0.1}], ids=str
)
def test_sizes_that_make_no_adapter_are_refused(world: World, wrong: dict[str, Any]) -> None:
    given = {"dim": 4, "alpha": 1.0, "dropout": 0.0, **wrong}
    size, how = Size(given["dim"], given["alpha"]), Recipe(dropout=given["dropout"])
    with pytest.raises(SettingsError):
        Adapter.create(world.sites(), sizes=size, how=how, generator=torch.Generator())


def test_a_site_without_a_size_gets_no_piece(world: World) -> None:
    table = {site.name: Size(2 + number % 3, 1.0) for number, site in enumerate(world.sites()) if number % 2}
    adapter = Adapter.create(world.sites(), sizes=lambda s: table.get(s.name), generator=torch.Generator())
    assert [site.name for site in adapter.sites] == list(table)
    tensors = adapter.to_tensors()
    assert all(tensors[f"{name}.lora_down.weight"].shape[0] == size.dim for name, size in table.items())
    with pytest.raises(SettingsError, match="nothing to train"):
        Adapter.create(world.sites(), sizes=lambda _: None, generator=torch.Generator())


def test_no_sites_is_refused() -> None:
    with pytest.raises(SettingsError, match="nothing to train"):
        Adapter.create((), sizes=Size(4, 1), generator=torch.Generator())


def test_a_site_of_another_model_is_refused_by_name(world: World) -> None:
    tensors = world.adapter().to_tensors()
    with pytest.raises(AdapterFileError, match=r"this LoRA is for SDXL, the loaded model is SD1 or SD2"):
        Adapter.from_tensors(world.sites(), {"lora_unet_input_blocks_4_1_proj_in.lora_down.weight": torch.ones(4, 8)})
    stranger = "lora_unet_down_blocks_3_attentions_0_proj_in"
    with pytest.raises(AdapterFileError, match=f"no site {stranger} .*1 of 1 sites"):
        Adapter.from_tensors(world.sites(), {f"{stranger}.lora_down.weight": torch.ones(4, 8)})
    key = "lora_unet_mid_block_attentions_0_proj_in"
    wide = {**tensors, f"{key}.lora_down.weight": torch.ones(4, 320, 1, 1)}
    sizes = r"is 64 to 64 wide .* down \(4, 320, 1, 1\) and up \(64, 4, 1, 1\)"
    with pytest.raises(AdapterFileError, match=f"{key} {sizes}"):
        Adapter.from_tensors(world.sites(), wide, file="some.safetensors")


@pytest.mark.parametrize(
    ("suffix", "tensor", "says"),
    [
        ("lora_up.weight", None, "a part of it is missing"),
        ("alpha", torch.ones(3), "alpha .* is no number"),
        ("lora_down.weight", torch.ones(()), "wide in the loaded model"),
        ("lora_down.weight", torch.ones(0, 64), "wide in the loaded model"),
        ("lora_down.weight", torch.ones(4, 64, dtype=torch.int32), "is torch.int32"),
        ("lora_mid.weight", torch.ones(4, 4, 3, 3), "wide in the loaded model"),
        ("dora_scale", torch.ones(1, 63), "wide in the loaded model"),
        ("hada_w9", torch.ones(1, 63), "unknown tensor hada_w9"),
    ],
)
def test_damaged_tensors_are_refused(world: World, suffix: str, tensor: Tensor | None, says: str) -> None:
    tensors = world.adapter().to_tensors()
    key = f"lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q.{suffix}"
    if tensor is None:
        del tensors[key]
    else:
        tensors[key] = tensor
    with pytest.raises(AdapterFileError, match=says):
        Adapter.from_tensors(world.sites(), tensors)


def test_a_missing_alpha_is_the_rank_and_flat_convolutions_are_read(world: World) -> None:
    tensors = world.adapter(dim=4, alpha=4.0).to_tensors()
    flat = {name: t.flatten(1) if t.dim() == 4 else t for name, t in tensors.items() if not name.endswith(".alpha")}
    again = Adapter.from_tensors(world.sites(), flat).to_tensors()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in again.items())


def test_rebind_follows_a_model_that_was_built_anew(some_world: World) -> None:
    adapter = some_world.adapter()
    with adapter.attached():
        live = some_world.predict()
        with pytest.raises(RuntimeError, match="detach it first"):
            adapter.rebind(some_world.sites())
    new = make_world(some_world.layout)
    adapter.rebind(new.sites())
    with adapter.attached():
        assert torch.equal(new.predict(), live)
    with pytest.raises(AdapterFileError, match="no site lora_te_"):
        adapter.rebind(new.sites(parts=frozenset({"unet"})))
    assert adapter.sites[0].module is new.sites()[0].module


def test_to_keeps_the_parameters_that_an_optimizer_holds(some_world: World) -> None:
    adapter = some_world.adapter()
    before = [id(parameter) for parameter in adapter.parameters()]
    assert adapter.to("cpu") is adapter
    assert [id(parameter) for parameter in adapter.parameters()] == before
