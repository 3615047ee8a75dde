"""Products added to a weight piece by piece, against the plain sum."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_lab.surgery import adding
from lora_lab.surgery.adding import Product, added, energy, stacked


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 30), st.data())
def test_equals_the_plain_sum(rows: int, columns: int, data: st.DataObject) -> None:
    g = torch.Generator().manual_seed(data.draw(st.integers(0, 999)))
    held = torch.randn(rows, columns, generator=g).half()
    edges = data.draw(st.lists(st.integers(0, rows), max_size=3, unique=True))
    spans = list(zip(sorted({0, rows, *edges}), sorted({0, rows, *edges})[1:], strict=False))
    products = [
        Product(first, torch.randn(end - first, rank, generator=g), torch.randn(rank, columns, generator=g))
        for first, end in spans
        for rank in data.draw(st.lists(st.integers(1, 4), max_size=3))
    ]
    moved = torch.zeros(rows, columns, dtype=torch.float64)
    for one in products:
        moved[one.first : one.end] += one.up.double() @ one.down.double()
    dtype = data.draw(st.sampled_from([torch.float16, torch.bfloat16, torch.float32]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adding, "PIECE", data.draw(st.sampled_from([1, 64, 1 << 18])))
        stored, lost = added(held, stacked(products), dtype)
    want = held.double() + moved
    unit = {torch.float16: 2**-11, torch.bfloat16: 2**-8, torch.float32: 2**-23}[dtype]
    assert stored.dtype == dtype
    assert ((stored.double() - want).abs() <= unit * want.abs() + 1e-5).all()
    assert energy(stacked(products)) == pytest.approx(float(moved.square().sum()), rel=1e-5, abs=1e-9)
    true = float((stored.double() - want).square().sum())
    assert lost == pytest.approx(0.0 if dtype is torch.float32 else true, rel=2e-2, abs=1e-9)


@pytest.mark.parametrize("number", [math.nan, math.inf, 65_000.0])
def test_what_cannot_be_stored_is_told(number: float) -> None:
    held = torch.full((4, 4), 1000.0)
    held[2, 3] = number
    products = [Product(0, torch.full((4, 1), 1000.0), torch.ones(1, 4))]
    assert not math.isfinite(added(held, products, torch.float16)[1])
    if number != 65_000.0:
        assert not math.isfinite(added(held, products, torch.float32)[1])
