"""Nested values to JSON and tensors, and back."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from lora_lab.errors import TrainingError  # noqa: E402
from lora_lab.training.record.packing import pack, unpack  # noqa: E402

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
NESTED = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=20,
)


@given(NESTED)
def test_what_is_packed_comes_back_with_its_types(value: Any) -> None:
    tree, tensors = pack(value)
    assert not tensors
    back = unpack(json.loads(json.dumps(tree)), {})
    assert back == value
    assert repr(back) == repr(value)


def test_tensors_go_apart_and_are_copies() -> None:
    weight = torch.arange(4.0)
    tree, tensors = pack({"state": {0: {"step": torch.tensor(3.0), "m": [weight, weight]}}, "rate": np.float64(0.5)})
    weight.zero_()
    found = unpack(json.loads(json.dumps(tree)), tensors)
    assert found["rate"] == 0.5
    assert float(found["state"][0]["step"]) == 3
    assert found["state"][0]["m"][1].tolist() == [0, 1, 2, 3]
    assert len(tensors) == 3


def test_what_is_no_number_is_refused_by_its_type() -> None:
    with pytest.raises(TrainingError, match="type function"):
        pack({"hook": lambda: None}["hook"])
    with pytest.raises(TrainingError, match="type set"):
        pack([{1, 2}])


@given(st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=9))
def test_a_foreign_tree_is_a_value_error_or_a_value(tree: Any) -> None:
    try:
        found = unpack(tree, {})
    except ValueError:
        return
    assert pack(found)[0] == tree
