"""A dense change of the weight: the plain way's numbers, with nothing as large as the weight kept for the way back."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from lora_lab.network.adapter import Adapter  # noqa: E402
from lora_lab.network.formula_piece import FormulaPiece  # noqa: E402
from lora_lab.network.piece import Piece  # noqa: E402
from lora_lab.network.recipe import Recipe  # noqa: E402
from lora_lab.network.sites import Site  # noqa: E402
from lora_lab.network.sizes import Size  # noqa: E402

KINDS = {
    "loha": Recipe("loha"),
    "glora": Recipe("glora"),
    "diag-oft": Recipe("diag-oft"),
    "boft": Recipe("boft"),
    "dora": Recipe(dora_wd=True),
    "lokr dora": Recipe("lokr", factor=4, dora_wd=True),
    "full": Recipe("full"),
}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def piece_at(layer: str, how: Recipe) -> tuple[FormulaPiece, Tensor]:
    """A piece away from zero at a layer of 64 to 32 (its weight is larger than its inputs), and an input."""
    module: nn.Module = nn.Linear(64, 32) if layer == "linear" else nn.Conv2d(64, 32, 3, padding=1)
    module.requires_grad_(False)
    kernel = {} if layer == "linear" else {"kernel": (3, 3)}
    site = Site("lora_unet_a", "unet", "M00", "a", module, "linear" if layer == "linear" else "conv", 64, 32, **kernel)
    adapter = Adapter.create([site], sizes=Size(4, 2.0), how=how, generator=seeded(1))
    for parameter in adapter.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=seeded(2))
    piece = adapter.pieces[0]
    assert isinstance(piece, FormulaPiece)
    shape = (2, 3, 64) if layer == "linear" else (1, 64, 3, 3)
    return piece, torch.randn(shape, generator=seeded(3)).requires_grad_()


@pytest.mark.parametrize("strength", [1.0, -0.4])
@pytest.mark.parametrize("layer", ["linear", "conv"])
@pytest.mark.parametrize("kind", KINDS)
def test_value_and_gradients_are_the_plain_ways(kind: str, layer: str, strength: float) -> None:
    piece, x = piece_at(layer, KINDS[kind])
    found = []
    for way in (Piece.add, FormulaPiece.add):
        x.grad = None
        for parameter in piece.parameters:
            parameter.grad = None
        output = way(piece, piece.site.module(x), x, strength)
        (output * torch.randn(output.shape, generator=seeded(4))).sum().backward()
        found.append([output.detach(), x.grad, *[p.grad for p in piece.parameters]])
    for plain, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer", ["linear", "conv"])
@pytest.mark.parametrize("kind", ["loha", "glora", "diag-oft", "dora"])
def test_nothing_of_the_weights_size_is_kept(kind: str, layer: str) -> None:
    piece, x = piece_at(layer, KINDS[kind])
    module = piece.site.module
    assert isinstance(module.weight, Tensor)
    live, size, kept = module.weight.data_ptr(), module.weight.numel(), []

    def pack(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() != live:
            kept.append(tensor.numel())
        return tensor

    for way in (Piece.add, FormulaPiece.add):
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            way(piece, module(x), x, 1.0)
        assert (max(kept) >= size) is (way is Piece.add)


def test_what_is_drawn_at_random_is_not_drawn_again() -> None:
    piece, x = piece_at("linear", Recipe("loha", rank_dropout=0.5))
    piece.dropping = True
    piece.add(piece.site.module(x), x, 1.0).sum().backward()
    before = torch.get_rng_state()
    torch.manual_seed(5)
    output = piece.add(piece.site.module(x), x, 1.0)
    after_forward = torch.get_rng_state()
    output.sum().backward()
    assert torch.equal(torch.get_rng_state(), after_forward)
    assert not torch.equal(before, after_forward)
