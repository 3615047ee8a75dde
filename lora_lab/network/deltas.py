"""What each kind of adapter adds to a weight: pure functions of the tensors of one site as they stand on disk.

``tensors`` maps what follows the site's name in a key (`lora_up.weight`, `hada_w1_a`, ...) to its tensor. All
results are float32 at strength 1; a strength multiplies the finished delta, as the webui does it.

Sources: LoRA arXiv 2106.09685, LoHa and LoKr LyCORIS arXiv 2309.14859, IA3 2205.05638, OFT 2306.07280,
BOFT 2311.06243, GLoRA 2306.07967, DoRA 2402.09353.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from lora_lab.errors import AdapterFileError

Tensors = Mapping[str, Tensor]


class Kind(str, Enum):
    """The kinds of adapters that files hold."""

    LORA = "lora"
    LOHA = "loha"
    LOKR = "lokr"
    IA3 = "ia3"
    FULL = "full"
    NORM = "norm"
    GLORA = "glora"
    OFT = "oft"
    BOFT = "boft"


@dataclass(frozen=True)
class Delta:
    """What is added to a layer's weight and to its bias; None where nothing is."""

    weight: Tensor | None
    bias: Tensor | None = None


MARKS: tuple[tuple[Kind, tuple[str, ...]], ...] = (
    (Kind.LORA, ("lora_up.weight", "lora_down.weight")),
    (Kind.LOHA, ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")),
    (Kind.IA3, ("weight", "on_input")),
    (Kind.GLORA, ("a1.weight", "a2.weight", "b1.weight", "b2.weight")),
    (Kind.NORM, ("w_norm",)),
    (Kind.FULL, ("diff",)),
)
"""A kind is told by the tensors that it cannot lack; LoKr and OFT have two forms each and stand in the code."""

KNOWN: dict[Kind, frozenset[str]] = {
    Kind.LORA: frozenset({"lora_up.weight", "lora_down.weight", "lora_mid.weight", "alpha", "scale", "dora_scale"}),
    Kind.LOHA: frozenset(
        {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2", "alpha", "scale", "dora_scale"}
    ),
    Kind.LOKR: frozenset(
        {"lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"}
        | {"alpha", "scale", "dora_scale"}
    ),
    Kind.IA3: frozenset({"weight", "on_input"}),
    Kind.FULL: frozenset({"diff"}),
    Kind.NORM: frozenset({"w_norm", "b_norm"}),
    Kind.GLORA: frozenset({"a1.weight", "a2.weight", "b1.weight", "b2.weight", "bm.weight", "alpha", "scale"}),
    Kind.OFT: frozenset({"oft_blocks", "oft_diag", "rescale", "alpha"}),
    Kind.BOFT: frozenset({"oft_blocks", "rescale", "alpha"}),
}


def kind_of(shapes: Mapping[str, tuple[int, ...]], site: str) -> Kind:
    """The kind of a site's tensors, told by their names and shapes.

    Raises:
        AdapterFileError: no kind that we know, one tensor of a pair is missing, or one too many is there.
    """
    found = next((kind for kind, marks in MARKS if all(mark in shapes for mark in marks)), None)
    if found is None and any(n.startswith("lokr_w1") for n in shapes) and any(n.startswith("lokr_w2") for n in shapes):
        found = Kind.LOKR
    if found is None and "oft_diag" in shapes:
        found = Kind.OFT
    if found is None and "oft_blocks" in shapes:
        found = Kind.BOFT if len(shapes["oft_blocks"]) == 4 else Kind.OFT
    names = ", ".join(sorted(shapes))
    if found is None:
        raise AdapterFileError(
            f"the site {site} has only {names}: no kind of adapter that we know, or a part of it is missing",
            remedy="get the file again",
        )
    strange = set(shapes) - KNOWN[found] - {"diff_b"}
    if strange:
        raise AdapterFileError(
            f"the site {site} ({found.value}) has the unknown tensor {min(strange)}",
            remedy="it would be lost: use the tool that made the file",
        )
    return found


def needs_base(kind: Kind, names: Mapping[str, object]) -> bool:
    """Whether the delta depends on the weight that it is added to."""
    return kind in (Kind.IA3, Kind.GLORA, Kind.OFT, Kind.BOFT) or "dora_scale" in names


def scale_of(tensors: Tensors, rank: int | None) -> float:
    """`scale`, else `alpha / rank`, else 1: the webui's order."""
    if "scale" in tensors:
        return float(tensors["scale"])
    if "alpha" in tensors and rank:
        return float(tensors["alpha"]) / rank
    return 1.0


def rank_of(kind: Kind, shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """The rank that a site's alpha is divided by; None for a kind without one."""
    if kind is Kind.LORA:
        return shapes["lora_down.weight"][0]
    if kind is Kind.LOHA:
        return shapes["hada_w1_b"][0]
    if kind is Kind.GLORA:
        return shapes["b2.weight"][0] if _new_glora(shapes) else shapes["b1.weight"][0]
    if kind is Kind.LOKR:
        factored = [shapes[name] for name in ("lokr_w2_b", "lokr_w1_b") if name in shapes]
        return factored[0][0] if factored else None
    return None


def factors(kind: Kind, tensors: Tensors) -> tuple[Tensor, Tensor] | None:
    """`up` (out, r) and `down` (r, everything else) with the delta as their product, the scale folded into `up`;
    None for a kind that is no product, and for DoRA."""
    if kind is not Kind.LORA or "dora_scale" in tensors:
        return None
    up, down = tensors["lora_up.weight"].float().flatten(1), tensors["lora_down.weight"].float()
    if "lora_mid.weight" in tensors:
        down = torch.einsum("mnkl,nj->mjkl", tensors["lora_mid.weight"].float(), down.flatten(1))
    return up * scale_of(tensors, down.shape[0]), down.flatten(1)


def delta(kind: Kind, tensors: Tensors, base: Tensor | None, site: str) -> Delta:
    """What the site adds.

    Args:
        base: the layer's weight; it may be None for a kind that does not need it, and the result then has the
            shape that the tensors themselves give it.

    Raises:
        AdapterFileError: the tensors do not fit each other or the weight.
    """
    bias = tensors["b_norm" if kind is Kind.NORM else "diff_b"].float() if _has_bias(kind, tensors) else None
    weight = None if base is None else base.float()
    try:
        found = _WAYS[kind](tensors, weight)
        if found.dim() < 2 and kind not in (Kind.FULL, Kind.NORM):
            raise ValueError("a layer's weight has two dimensions or four")
        if weight is not None:
            found = found.reshape(weight.shape)
            if "dora_scale" in tensors:
                found = decomposed(weight, found, tensors["dora_scale"].float())
    except (RuntimeError, IndexError, ValueError) as wrong:
        shapes = ", ".join(f"{name} {list(t.shape)}" for name, t in sorted(tensors.items()))
        layer = "each other" if weight is None else f"a layer of shape {list(weight.shape)}"
        raise AdapterFileError(
            f"the site {site} does not fit {layer}: {shapes}", remedy="use it with the family that it was trained for"
        ) from wrong
    return Delta(found, bias)


def change(kind: Kind, tensors: Tensors, base: Tensor) -> Tensor:
    """What is added to the weight before DoRA's lengths, with as many numbers as `base`; unchecked, differentiable."""
    return _WAYS[kind](tensors, base)


def kronecker(tensors: Tensors) -> tuple[Tensor, Tensor]:
    """LoKr's two matrices, the second as (b, d) or with a kernel behind, the scale in the first: their Kronecker
    product is the delta."""
    t = {name: tensor.float() for name, tensor in tensors.items()}
    scale = scale_of(tensors, rank_of(Kind.LOKR, {name: tuple(x.shape) for name, x in t.items()}))
    one = t["lokr_w1"] if "lokr_w1" in t else t["lokr_w1_a"] @ t["lokr_w1_b"]
    if "lokr_w2" in t:
        return scale * one, t["lokr_w2"]
    if "lokr_t2" in t:
        return scale * one, _tucker(t["lokr_t2"], t["lokr_w2_a"], t["lokr_w2_b"])
    return scale * one, t["lokr_w2_a"] @ t["lokr_w2_b"].flatten(1)


def _has_bias(kind: Kind, tensors: Tensors) -> bool:
    return ("b_norm" if kind is Kind.NORM else "diff_b") in tensors


def decomposed(base: Tensor, change: Tensor, magnitude: Tensor) -> Tensor:
    """DoRA: W + D scaled to the learned norms, less W. The norms are per output (LyCORIS's default since 3.2) or
    per input, which the magnitude's shape tells: (out, 1, ..) or (1, in, ..)."""
    new = base + change
    per_output = magnitude.numel() == new.shape[0] and (magnitude.shape[0] == new.shape[0] or magnitude.dim() == 1)
    flat = new.flatten(1) if per_output else new.transpose(0, 1).flatten(1)
    norm = flat.norm(dim=1) + torch.finfo(new.dtype).eps
    shape = [1] * new.dim()
    shape[0 if per_output else 1] = -1
    scaled: Tensor = new * (magnitude.reshape(shape) / norm.reshape(shape))
    return scaled - base


def _lora(tensors: Tensors, base: Tensor | None) -> Tensor:
    up, down = tensors["lora_up.weight"].float().flatten(1), tensors["lora_down.weight"].float()
    rank = down.shape[0]
    if "lora_mid.weight" in tensors:
        down = torch.einsum("mn...,nj->mj...", tensors["lora_mid.weight"].float(), down.flatten(1))
    out = (up * scale_of(tensors, rank)) @ down.flatten(1)
    return out.reshape(up.shape[0], *down.shape[1:])


def _tucker(core: Tensor, out_side: Tensor, in_side: Tensor) -> Tensor:
    """A core (r, r, k, k) between sides (r, out) and (r, in), which is LyCORIS's order."""
    return torch.einsum("ij...,ip,jr->pr...", core, out_side, in_side)


def _loha(tensors: Tensors, base: Tensor | None) -> Tensor:
    t = {name: tensor.float() for name, tensor in tensors.items()}
    scale = scale_of(tensors, t["hada_w1_b"].shape[0])
    if "hada_t1" in t:
        one = _tucker(t["hada_t1"], t["hada_w1_a"], t["hada_w1_b"])
        return scale * one * _tucker(t["hada_t2"], t["hada_w2_a"], t["hada_w2_b"])
    one = (scale * t["hada_w1_a"]) @ t["hada_w1_b"].flatten(1)
    return one * (t["hada_w2_a"] @ t["hada_w2_b"].flatten(1))


def _lokr(tensors: Tensors, base: Tensor | None) -> Tensor:
    one, two = kronecker(tensors)
    return torch.kron(one.reshape([*one.shape, *[1] * (two.dim() - 2)]), two.contiguous())


def _full(tensors: Tensors, base: Tensor | None) -> Tensor:
    return tensors["diff"].float()


def _norm(tensors: Tensors, base: Tensor | None) -> Tensor:
    return tensors["w_norm"].float()


def _ia3(tensors: Tensors, base: Tensor | None) -> Tensor:
    assert base is not None
    axis = 1 if int(tensors["on_input"]) else 0
    shape = [1] * base.dim()
    shape[axis] = base.shape[axis]
    return base * tensors["weight"].float().reshape(shape)


def _new_glora(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """LyCORIS has turned the names of both pairs round once: b1 is (out, r) now, and was (r, in), which is the order
    that the webui reads. In a square layer both fit, but a rank is smaller than a layer."""
    first, second = shapes["b1.weight"], shapes["b2.weight"]
    return first[1] == second[0] and first[0] >= second[0]


def _glora(tensors: Tensors, base: Tensor | None) -> Tensor:
    assert base is not None
    t = {name: tensor.float() for name, tensor in tensors.items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in t.items()}
    new = _new_glora(shapes)
    first, second = (t["a1.weight"], t["a2.weight"]) if new else (t["a2.weight"], t["a1.weight"])
    up, down = (t["b1.weight"], t["b2.weight"]) if new else (t["b2.weight"], t["b1.weight"])
    if "bm.weight" in t:
        down = torch.einsum("mn...,nj->mj...", t["bm.weight"], down.flatten(1))
    turned = torch.einsum("oi...,ij->oj...", base, first.flatten(1) @ second.flatten(1))
    added = (up.flatten(1) @ down.flatten(1)).reshape(base.shape)
    return scale_of(tensors, rank_of(Kind.GLORA, shapes)) * (turned + added)


def _rotations(tensors: Tensors, out_features: int) -> Tensor:
    """The orthogonal blocks (.., b, b): Cayley's (I + Q)(I - Q)^-1 of a skew Q, whose norm alpha may limit."""
    if "oft_diag" in tensors:
        return tensors["oft_diag"].float()
    blocks = tensors["oft_blocks"].float()
    q = blocks - blocks.transpose(-1, -2)
    limit = float(tensors["alpha"]) * out_features if "alpha" in tensors else 0.0
    if limit > 0:
        norm = q.norm() + 1e-8
        if limit < float(norm.detach()):
            q = q * (limit / norm)
    eye = torch.eye(q.shape[-1], device=q.device)
    rotations: Tensor = (eye + q) @ torch.linalg.inv(eye - q)
    return rotations


def _rescaled(new: Tensor, tensors: Tensors) -> Tensor:
    """Each output's factor, where there is one."""
    if "rescale" not in tensors:
        return new
    return new * tensors["rescale"].float().reshape(-1, *[1] * (new.dim() - 1))


def _oft(tensors: Tensors, base: Tensor | None) -> Tensor:
    assert base is not None
    r = _rotations(tensors, base.shape[0])
    blocks = base.reshape(r.shape[0] if "oft_diag" not in tensors else -1, r.shape[-1], *base.shape[1:])
    new = torch.einsum("knm,kn...->km...", r.expand(blocks.shape[0], -1, -1), blocks)
    return _rescaled(new.reshape(base.shape), tensors) - base


def _boft(tensors: Tensors, base: Tensor | None) -> Tensor:
    """Stage i turns blocks of rows that lie 2^i * b/2 apart, a butterfly (arXiv 2311.06243, section 4)."""
    assert base is not None
    r = _rotations(tensors, base.shape[0])
    size = r.shape[-1]
    new = base
    for i, stage in enumerate(r):
        far = 2**i * (size // 2)
        mixed = new.reshape(-1, 2, far, *base.shape[1:]).transpose(1, 2)
        turned = torch.einsum("bij,bj...->bi...", stage, mixed.reshape(-1, size, *base.shape[1:]))
        new = turned.reshape(-1, far, 2, *base.shape[1:]).transpose(1, 2).reshape(base.shape)
    return _rescaled(new, tensors) - base


_WAYS: dict[Kind, Callable[[Tensors, Tensor | None], Tensor]] = {
    Kind.LORA: _lora,
    Kind.LOHA: _loha,
    Kind.LOKR: _lokr,
    Kind.IA3: _ia3,
    Kind.FULL: _full,
    Kind.NORM: _norm,
    Kind.GLORA: _glora,
    Kind.OFT: _oft,
    Kind.BOFT: _boft,
}
