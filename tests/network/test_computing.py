"""The adapter in every way in which a model is run: checkpointing, autocast, half precision, inference, dropout."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lora_lab.network.adapter import Adapter
from lora_lab.network.recipe import Recipe
from lora_lab.network.sites import Site
from lora_lab.network.sizes import Size
from tests.network.models import World


def linear_site(bias: bool = True, dtype: torch.dtype = torch.float32) -> Site:
    torch.manual_seed(1)
    layer = nn.Linear(6, 10, bias=bias).to(dtype).requires_grad_(False)
    return Site("lora_unet_mid_block_attentions_0_proj_in", "unet", "M00", "x", layer, "linear", 6, 10)


def conv_site(dtype: torch.dtype = torch.float32) -> Site:
    torch.manual_seed(1)
    layer = nn.Conv2d(6, 10, 1).to(dtype).requires_grad_(False)
    return Site("lora_unet_mid_block_attentions_0_proj_in", "unet", "M00", "x", layer, "conv1x1", 6, 10)


def wide_site(dtype: torch.dtype = torch.float32, stride: int = 1) -> Site:
    torch.manual_seed(1)
    layer = nn.Conv2d(6, 10, 3, stride=stride, padding=1).to(dtype).requires_grad_(False)
    return Site("lora_unet_mid_block_resnets_0_conv1", "unet", "M00", "x", layer, "conv", 6, 10, (3, 3))


def adapter_on(site: Site, dropout: float = 0.0) -> Adapter:
    g = torch.Generator().manual_seed(2)
    adapter = Adapter.create([site], sizes=Size(3, 2.0), how=Recipe(dropout=dropout), generator=g)
    adapter.parameters()[1].data.normal_(generator=g)
    return adapter


SITES: dict[str, tuple[Callable[..., Site], tuple[int, ...]]] = {
    "linear": (linear_site, (4, 5, 6)),
    "linear without bias": (lambda **how: linear_site(bias=False, **how), (4, 5, 6)),
    "linear on rows": (linear_site, (4, 6)),
    "conv": (conv_site, (4, 6, 3, 3)),
    "conv of one": (conv_site, (1, 6, 3, 3)),
    "3x3": (wide_site, (4, 6, 5, 4)),
    "3x3 of one with steps of 2": (lambda **how: wide_site(stride=2, **how), (1, 6, 6, 4)),
}


def merged(site: Site, adapter: Adapter, x: Tensor) -> Tensor:
    """The layer with the delta in its weight, in float64."""
    down, up = (p.double() for p in adapter.parameters())
    weight = site.module.weight.double() + (2.0 / 3 * up.flatten(1) @ down.flatten(1)).view_as(site.module.weight)  # type: ignore[operator,union-attr]
    bias = None if site.module.bias is None else site.module.bias.double()  # type: ignore[union-attr,operator]
    if site.kind == "linear":
        return nn.functional.linear(x.double(), weight, bias)
    layer: Any = site.module
    return nn.functional.conv2d(x.double(), weight, bias, layer.stride, layer.padding)


@pytest.mark.parametrize("name", list(SITES))
@pytest.mark.parametrize("needs_x", [True, False])
def test_value_and_every_derivative(name: str, needs_x: bool) -> None:
    make, shape = SITES[name]
    site = make()
    adapter = adapter_on(site)
    x = torch.randn(shape).requires_grad_(needs_x)
    wanted_of = [*adapter.parameters(), *([x] if needs_x else [])]
    with adapter.attached():
        y = site.module(x)
    wanted = merged(site, adapter, x)
    assert torch.allclose(y.double(), wanted, atol=1e-5)
    weights = torch.randn_like(y)
    ours = torch.autograd.grad((y * weights).sum(), wanted_of)
    theirs = torch.autograd.grad((wanted * weights).sum(), wanted_of)
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == torch.float32
        assert torch.allclose(one, other.float(), atol=1e-4)


@pytest.mark.parametrize("name", list(SITES))
def test_memory_that_is_not_contiguous(name: str) -> None:
    make, shape = SITES[name]
    site = make()
    adapter = adapter_on(site)
    plain = torch.randn(shape)
    strided = plain.transpose(0, -1).contiguous().transpose(0, -1)
    if len(shape) == 4:
        strided = plain.to(memory_format=torch.channels_last)
    with adapter.attached():
        assert torch.allclose(site.module(strided), merged(site, adapter, plain).float(), atol=1e-5)


def test_what_the_layer_gives_may_be_used_twice() -> None:
    """The in-place sum must not reach into what somebody else's backward keeps."""
    site = linear_site()
    adapter = adapter_on(site)
    x = torch.randn(2, 5, 6, requires_grad=True)
    site.module.register_forward_hook(lambda module, args, output: output.exp())  # keeps its result for its backward
    with adapter.attached():
        y = site.module(x)
        y.sum().backward()
    base = nn.functional.linear(x, site.module.weight, site.module.bias).exp()  # type: ignore[arg-type]
    assert torch.allclose(y, base + (merged(site, adapter, x) - merged_bare(site, x)).float(), atol=1e-4)
    assert x.grad is not None


def merged_bare(site: Site, x: Tensor) -> Tensor:
    return nn.functional.linear(x.double(), site.module.weight.double(), site.module.bias.double())  # type: ignore[operator,union-attr]


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_gives_the_same_gradients(some_world: World, reentrant: bool) -> None:
    adapter = some_world.adapter(parts=frozenset({"text_encoder"}))
    encoder = some_world.encoder
    layers = getattr(encoder, "text_model", encoder).encoder.layers
    states = torch.randn(2, 7, 24, requires_grad=True)

    def run(layer: nn.Module, x: Tensor) -> Tensor:
        names = inspect.signature(layer.forward).parameters  # transformers 4 wants two masks
        y = layer(x, **{name: None for name in ("attention_mask", "causal_attention_mask") if name in names})
        return y if isinstance(y, Tensor) else y[0]

    def chain(checkpointed: bool) -> Tensor:
        x = states
        for layer in layers[:3]:
            if checkpointed:
                x = torch.utils.checkpoint.checkpoint(run, layer, x, use_reentrant=reentrant)
            else:
                x = run(layer, x)
        return x.square().sum()

    used = [p for piece in adapter.pieces[:18] for p in piece.parameters]
    with adapter.attached():
        found = []
        for checkpointed in (False, True):
            for p in used:
                p.grad = None
            chain(checkpointed).backward()  # type: ignore[no-untyped-call]
            found.append([p.grad.clone() for p in used if p.grad is not None])
    assert len(found[0]) == len(found[1]) == 36
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", list(SITES))
def test_autocast_computes_in_half_and_trains_in_full(name: str) -> None:
    make, shape = SITES[name]
    site = make()
    adapter = adapter_on(site)
    x = torch.randn(shape, requires_grad=True)
    with adapter.attached(), torch.autocast("cpu", torch.bfloat16):
        y = site.module(x)
    assert y.dtype == torch.bfloat16
    assert torch.allclose(y.double(), merged(site, adapter, x), atol=0.1)
    y.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in adapter.parameters())
    assert x.grad is not None
    assert x.grad.dtype == torch.float32


@pytest.mark.parametrize("name", list(SITES))
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_model_in_half_precision(name: str, dtype: torch.dtype) -> None:
    make, shape = SITES[name]
    site = make(dtype=dtype)
    adapter = adapter_on(site)
    x = torch.randn(shape, dtype=dtype, requires_grad=True)
    try:
        site.module(x)
    except RuntimeError as error:  # older torch computes half precision on a GPU only
        pytest.skip(f"this torch cannot: {error}")
    with adapter.attached():
        y = site.module(x)
        assert y.dtype == dtype
        assert torch.allclose(y.double(), merged(site, adapter, x), atol=0.1)
        y.float().square().sum().backward()
        with adapter.scaled(per_sample=torch.linspace(0, 1, shape[0])):
            assert site.module(x).dtype == dtype
    assert all(p.dtype == torch.float32 and p.grad is not None for p in adapter.parameters())
    assert bool(torch.isfinite(adapter.parameters()[0].grad).all())  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("name", list(SITES))
def test_pictures_without_gradients(name: str, mode: Callable[[], torch.no_grad]) -> None:
    make, shape = SITES[name]
    site = make()
    adapter = adapter_on(site)
    x = torch.randn(shape)
    with adapter.attached(), mode():
        y = site.module(x)
        again = site.module(x)
    assert torch.equal(y, again)
    assert torch.allclose(y.double(), merged(site, adapter, x), atol=1e-5)


def test_dropout_acts_in_training_only_and_keeps_the_mean() -> None:
    site = linear_site()
    adapter = adapter_on(site, dropout=0.5)
    x = torch.randn(1, 1, 6).expand(20_000, 1, 6).contiguous()
    torch.manual_seed(0)
    with adapter.attached(), torch.no_grad():
        still = site.module(x)
        with adapter.training():
            dropped = site.module(x)
        assert torch.equal(site.module(x), still)
    assert float(dropped.std(0).max()) > 0.05
    assert torch.allclose(dropped.mean(0), still[0], atol=0.05)


def test_dropout_is_the_same_when_a_checkpoint_computes_again() -> None:
    site = linear_site()
    adapter = adapter_on(site, dropout=0.5)
    x = torch.randn(3, 5, 6, requires_grad=True)
    with adapter.attached(), adapter.training():
        grads = []
        for reentrant in (True, False):
            torch.manual_seed(4)
            y = torch.utils.checkpoint.checkpoint(site.module, x, use_reentrant=reentrant)
            grads.append(torch.autograd.grad(y.square().sum(), adapter.parameters()) if not reentrant else None)
            if reentrant:
                y.square().sum().backward()
                first = [p.grad for p in adapter.parameters()]
    for one, other in zip(first, grads[1] or (), strict=True):
        assert torch.allclose(one, other)  # type: ignore[arg-type]


def test_two_adapters_add_up(some_world: World) -> None:
    one, other = some_world.adapter(seed=1), some_world.adapter(seed=2)
    tensors = {name: torch.cat([one.to_tensors()[name], t], 1 if "lora_up" in name else 0) if t.dim() else t * 2
               for name, t in other.to_tensors().items()}  # fmt: skip
    both = Adapter.from_tensors(some_world.sites(), tensors)
    with both.attached(), torch.no_grad():
        wanted = some_world.predict()
    with one.attached(), other.attached():
        together = some_world.predict()
        assert torch.allclose(together, wanted, atol=2e-5)
        together.square().sum().backward()
    assert all(p.grad is not None for adapter in (one, other) for p in adapter.parameters("unet"))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize(
    ("make", "tail"), [(linear_site, (144, 6)), (conv_site, (6, 12, 12)), (wide_site, (6, 12, 12))]
)
def test_samples_at_strength_0_are_left_out_of_large_layers(
    make: Callable[..., Site], tail: tuple[int, ...], mode: Callable[[], torch.no_grad]
) -> None:
    """Two rounds of five samples: those at 0 are the bare layer's to the bit, the others as if all were computed."""
    site, strengths = make(), torch.tensor([0.0, 0.5, -1.0, 0.0, 2.0])
    adapter, x = adapter_on(site), torch.randn(10, *tail)
    bare = site.module(x)
    with adapter.attached():
        with mode(), FlopCounterMode(display=False) as all_of_them:
            full = site.module(x)
        with adapter.scaled(per_sample=strengths):
            with mode(), FlopCounterMode(display=False) as some:
                found = site.module(x)
            wanted = site.module(x)  # with gradients, all are computed
    assert torch.allclose(found, wanted, atol=1e-5)
    assert not torch.allclose(found, full, atol=1e-2)
    off = [0, 3, 5, 8]
    assert torch.equal(found[off], bare[off])
    if mode is torch.no_grad:  # torch 2.1 counts no layer, and no convolution, in inference_mode
        layer = bare.numel() * site.module.weight[0].numel() * 2  # type: ignore[index, union-attr]
        assert some.get_total_flops() - layer == 3 / 5 * (all_of_them.get_total_flops() - layer)
