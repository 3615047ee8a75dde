"""Which cells are made together: pure lists."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from lora_lab.families import Family
from lora_lab.testing import rows
from lora_lab.testing.batches import batches, cut, together
from lora_lab.testing.cells import NOTHING, WHOLE, Cell, Weights


def cell(weights: Weights = WHOLE, prompt: str = "mika", seed: int = 1, lora: str = "a") -> Cell:
    return Cell(weights, prompt, seed, Path(f"{lora}.safetensors"))


def test_cells_of_a_batch_differ_in_block_weights_and_seeds_only() -> None:
    out, inside = (cell(rows.of_text(name, Family.SD1), seed=seed) for name, seed in (("OUTALL", 1), ("INALL", 2)))
    half = cell(rows.of_text("ALL0.5", Family.SD1))
    other = cell(rows.of_text("OUTALL", Family.SD1), prompt="mika, smile")
    text = cell(rows.of_blocks("text", {}, Family.SD1, "BASE:attn:0"))
    found = list(batches([out, half, inside, other, text, cell(NOTHING)], Family.SD1, 8))
    assert found == [[out, inside], [half], [other], [text], [cell(NOTHING)]]


def test_each_lora_is_read_once() -> None:
    some = [cell(seed=seed, lora=lora) for seed in (1, 2) for lora in ("a", "b")] + [cell(NOTHING, lora="a")]
    found = [batch[0].lora.stem for batch in batches(some, Family.SD1, 1)]
    assert found == ["a", "a", "a", "b", "b"]


def test_joined_prompts_are_made_one_by_one() -> None:
    some = [cell(prompt="mika AND hat", seed=seed) for seed in range(3)]
    assert list(batches(some, Family.SD1, 8)) == [[one] for one in some]


@given(st.integers(1, 100), st.integers(1, 24))
def test_pieces_are_even_and_hold_everything(count: int, size: int) -> None:
    some = [cell(seed=seed) for seed in range(count)]
    pieces = list(cut(some, size))
    assert [one for piece in pieces for one in piece] == some
    assert max(map(len, pieces)) <= size
    assert max(map(len, pieces)) - min(map(len, pieces)) <= 1
    assert len({together(one, Family.SD1) for one in some}) == 1
