"""Inputs that are made again on the way back: the same gradients for less memory."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from lora_lab.network.lean import again, keep  # noqa: E402

from .models import World  # noqa: E402


def inputs() -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(1)
    a = torch.randn(2, 5, 16, generator=g, requires_grad=True) * 1.5
    b = torch.randn(2, 5, 16, generator=g, requires_grad=True) * 0.5
    norm = nn.LayerNorm(16).requires_grad_(False)
    with torch.no_grad():
        norm.weight.copy_(torch.randn(16, generator=g))
        norm.bias.copy_(torch.randn(16, generator=g))
    return {"product": a * functional.gelu(b), "norm": norm(a), "silu": functional.silu(a), "itself": a + b}


@pytest.mark.parametrize("kind", ["product", "norm", "silu", "itself"])
def test_what_is_kept_makes_the_input_again(kind: str) -> None:
    x = inputs()[kind]
    kept = keep(x)
    assert kept.kind == kind
    torch.testing.assert_close(again(kind, kept.tensors), x.detach(), rtol=1e-6, atol=1e-6)
    assert kind == "itself" or all(tensor.grad_fn is None for tensor in kept.tensors)


def test_a_product_with_a_number_or_another_shape_is_kept_itself() -> None:
    a = torch.randn(2, 3, requires_grad=True) * 1
    assert keep(a * 2).kind == "itself"
    assert keep(a * torch.randn(3, requires_grad=True)).kind == "itself"
    assert keep(a.detach()).kind == "itself"


def test_no_memory_is_kept_twice() -> None:
    x = inputs()["product"]
    mine = {tensor.data_ptr() for tensor in keep(x).tensors}
    assert x.data_ptr() not in mine
    assert mine == {x.grad_fn._saved_self.data_ptr(), x.grad_fn._saved_other.data_ptr()}


def test_a_whole_model_learns_the_same_and_keeps_less(world: World) -> None:
    adapter = world.adapter()
    found, sizes = [], []
    for lean in (False, True):
        kept: dict[int, int] = {}

        def pack(tensor: Tensor, kept: dict[int, int] = kept) -> Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with adapter.attached(), adapter.training(lean=lean):
            with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                loss = world.predict().square().mean() + world.encode().square().mean()
            loss.backward()  # type: ignore[no-untyped-call]
        found.append([p.grad.clone() for p in adapter.parameters() if p.grad is not None])
        sizes.append(sum(kept.values()))
        for p in adapter.parameters():
            p.grad = None
    assert len(found[0]) == len(found[1]) > 0
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)
    assert sizes[1] < 0.95 * sizes[0]
