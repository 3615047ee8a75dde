"""The delta of every kind, judged by lycoris-lora's own modules: what they do to an input, not what they say."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lora_lab.errors import AdapterFileError
from lora_lab.network.deltas import Kind, delta, factors, kind_of, needs_base, rank_of

lycoris = pytest.importorskip("lycoris.modules", reason="lycoris-lora is not installed")

LAYERS = {
    "linear": lambda: nn.Linear(24, 32),
    "square": lambda: nn.Linear(32, 32),
    "conv1x1": lambda: nn.Conv2d(12, 16, 1),
    "conv3x3": lambda: nn.Conv2d(12, 16, 3, padding=1),
}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("LoConModule", {}),
    "locon tucker": ("LoConModule", {"use_tucker": True}),
    "rslora": ("LoConModule", {"rs_lora": True}),
    "dora out": ("LoConModule", {"weight_decompose": True}),
    "dora in": ("LoConModule", {"weight_decompose": True, "wd_on_out": False}),
    "loha": ("LohaModule", {}),
    "loha tucker": ("LohaModule", {"use_tucker": True}),
    "loha dora": ("LohaModule", {"weight_decompose": True}),
    "lokr": ("LokrModule", {"factor": 4}),
    "lokr both": ("LokrModule", {"factor": 4, "decompose_both": True, "lora_dim": 1}),
    "lokr tucker": ("LokrModule", {"factor": 2, "use_tucker": True, "lora_dim": 2}),
    "lokr full": ("LokrModule", {"factor": 4, "full_matrix": True}),
    "lokr dora": ("LokrModule", {"factor": 4, "weight_decompose": True}),
    "ia3": ("IA3Module", {}),
    "ia3 input": ("IA3Module", {"train_on_input": True}),
    "full": ("FullModule", {}),
    "glora": ("GLoRAModule", {}),
    "oft": ("DiagOFTModule", {"lora_dim": 4}),
    "oft limited": ("DiagOFTModule", {"lora_dim": 4, "constraint": 1e-3}),
    "oft rescaled": ("DiagOFTModule", {"lora_dim": 4, "rescaled": True}),
    "boft": ("ButterflyOFTModule", {"lora_dim": 4}),
    "boft rescaled limited": ("ButterflyOFTModule", {"lora_dim": 4, "rescaled": True, "constraint": 1e-3}),
}


def trained(case: str, layer: nn.Module) -> tuple[Any, dict[str, Tensor]]:
    """A lycoris module with all its parameters off their starting values, and what it saves."""
    name, how = CASES[case]
    module = getattr(lycoris, name)("site", layer, 1.0, **{"lora_dim": 4, "alpha": 2.0} | how)
    generator = torch.Generator().manual_seed(3)
    for parameter in module.parameters():
        parameter.data.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    module.eval()
    return module, {k: v.detach().clone() for k, v in module.state_dict().items()}


def effect(module: Any, layer: nn.Module) -> Tensor:
    """The weight that the module's forward amounts to, less the layer's own, read off with unit inputs."""
    weight = layer.weight.data
    with torch.no_grad():
        if weight.dim() == 2:
            return (module(torch.eye(weight.shape[1])) - layer(torch.eye(weight.shape[1]))).T
        k = weight.shape[2]
        probes = torch.zeros(weight.shape[1] * k * k, weight.shape[1], k, k)
        for n in range(len(probes)):
            probes.view(len(probes), -1)[n, n] = 1
        seen = (module(probes) - layer(probes))[:, :, k // 2, k // 2]
        return seen.T.reshape(weight.shape)


@pytest.mark.parametrize("shape", LAYERS)
@pytest.mark.parametrize("case", CASES)
def test_delta_is_what_lycoris_does(case: str, shape: str) -> None:
    torch.manual_seed(1)
    layer = LAYERS[shape]()
    if case == "full":
        module, tensors = trained_full(layer)
    else:
        module, tensors = trained(case, layer)
    shapes = {name: tuple(t.shape) for name, t in tensors.items()}
    kind = kind_of(shapes, "site")
    want = effect(module, layer)
    got = delta(kind, tensors, layer.weight.data, "site")
    assert got.weight is not None
    assert got.weight.shape == layer.weight.shape
    assert want.norm() > 0.01
    assert (got.weight - want).norm() <= 2e-5 * (want.norm() + layer.weight.norm())
    if not needs_base(kind, tensors):
        free = delta(kind, tensors, None, "site").weight
        assert free is not None
        assert torch.allclose(free.reshape(want.shape), got.weight)
    if (product := factors(kind, tensors)) is not None:
        assert torch.allclose((product[0] @ product[1]).reshape(want.shape), got.weight, atol=1e-5)
        assert product[0].shape[1] == rank_of(kind, shapes)


def trained_full(layer: nn.Module) -> tuple[Any, dict[str, Tensor]]:
    """Without a bias: LyCORIS 3.4 (for torch below 2.4) cannot add a full delta to one."""
    layer.bias = None
    module = lycoris.FullModule("site", layer)
    change = 0.1 * torch.randn(layer.weight.shape)
    module.weight.data.copy_(change)
    return module, {"diff": change}


@pytest.mark.parametrize("layer", [nn.LayerNorm(8), nn.GroupNorm(2, 8)], ids=["layer", "group"])
def test_norms(layer: Any) -> None:
    module = lycoris.NormModule("site", layer, 1.0)
    for parameter in module.parameters():
        parameter.data.normal_()
    tensors = dict(module.state_dict())
    kind = kind_of({n: tuple(t.shape) for n, t in tensors.items()}, "site")
    got = delta(kind, tensors, layer.weight.data, "site")
    assert kind is Kind.NORM
    assert got.weight is not None
    assert got.bias is not None
    x = torch.randn(3, 8, 4) if isinstance(layer, nn.GroupNorm) else torch.randn(3, 8)
    want = module(x)
    layer.weight.data += got.weight
    layer.bias.data += got.bias
    assert torch.allclose(layer(x), want, atol=1e-5)


def test_biases_come_with_full() -> None:
    got = delta(Kind.FULL, {"diff": torch.ones(2, 3), "diff_b": torch.ones(2)}, torch.zeros(2, 3), "site")
    assert got.bias is not None
    assert got.bias.tolist() == [1, 1]


def test_glora_of_the_older_order_of_names() -> None:
    layer = nn.Linear(24, 32)
    module, tensors = trained("glora", layer)
    old = tensors | {
        "a1.weight": tensors["a2.weight"],
        "a2.weight": tensors["a1.weight"],
        "b1.weight": tensors["b2.weight"],
        "b2.weight": tensors["b1.weight"],
    }
    got = delta(Kind.GLORA, old, layer.weight.data, "site").weight
    assert got is not None
    assert torch.allclose(got, effect(module, layer), atol=1e-5)


def test_scale_comes_from_scale_then_alpha_then_one() -> None:
    up, down = torch.ones(3, 2), torch.ones(2, 5)
    t = {"lora_up.weight": up, "lora_down.weight": down}
    assert float(delta(Kind.LORA, t, None, "s").weight[0, 0]) == 2  # type: ignore[index]
    assert float(delta(Kind.LORA, t | {"alpha": torch.tensor(1.0)}, None, "s").weight[0, 0]) == 1  # type: ignore[index]
    both = t | {"alpha": torch.tensor(1.0), "scale": torch.tensor(3.0)}
    assert float(delta(Kind.LORA, both, None, "s").weight[0, 0]) == 6  # type: ignore[index]


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (["lora_up.weight", "alpha"], "a part of it is missing"),
        (["hada_w1_a", "hada_w1_b"], "a part of it is missing"),
        (["lokr_w1"], "a part of it is missing"),
        (["something"], "no kind of adapter"),
        (["lora_up.weight", "lora_down.weight", "bias_indices"], "unknown tensor bias_indices"),
    ],
)
def test_unknown_or_half_sites_are_named(names: list[str], what: str) -> None:
    with pytest.raises(AdapterFileError, match=what):
        kind_of({name: (2, 2) for name in names}, "lora_unet_x")


@pytest.mark.parametrize(
    "tensors",
    [
        {"lora_up.weight": torch.ones(32, 4), "lora_down.weight": torch.ones(4, 23)},
        {"lora_up.weight": torch.ones(32, 4), "lora_down.weight": torch.ones(5, 24)},
        {"hada_w1_a": torch.ones(32, 4), "hada_w1_b": torch.ones(4, 24), "hada_w2_a": torch.ones(8, 4)}
        | {"hada_w2_b": torch.ones(4, 24)},
        {"weight": torch.ones(7), "on_input": torch.tensor(1)},
        {"oft_blocks": torch.ones(3, 5, 5)},
        {"diff": torch.ones(32, 25)},
    ],
    ids=["in", "rank", "loha", "ia3", "oft", "full"],
)
def test_shapes_that_do_not_fit_are_one_clear_line(tensors: dict[str, Tensor]) -> None:
    kind = kind_of({n: tuple(t.shape) for n, t in tensors.items()}, "lora_unet_x")
    with pytest.raises(AdapterFileError, match="lora_unet_x does not fit") as caught:
        delta(kind, tensors, torch.ones(32, 24), "lora_unet_x")
    assert "\n" not in str(caught.value)
