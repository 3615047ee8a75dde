"""Strengths by part, block and sample, resolved when set: rows of a batch equal separate calls."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lora_lab.network.adapter import Adapter, Strengths
from tests.network.models import World, inputs


def rows(world: World, batch: int) -> Tensor:
    with torch.no_grad():
        return world.predict(batch)


def test_strength_one_half_is_half_the_alpha(world: World) -> None:
    adapter = world.adapter(alpha=3.0)
    half = world.adapter(alpha=1.5)
    with half.attached():
        wanted = rows(world, 2)
    with adapter.attached(), adapter.scaled(unet=0.5):
        assert torch.allclose(rows(world, 2), wanted, atol=1e-5)


def test_parts_are_scaled_apart(world: World) -> None:
    adapter = world.adapter()
    bare_text, bare = world.encode(), rows(world, 2)
    with adapter.attached():
        text = world.encode()
        with adapter.scaled(unet=0.3):
            assert torch.equal(world.encode(), text)
        with adapter.scaled(text_encoder=0.0):
            assert torch.equal(world.encode(), bare_text)
            assert not torch.allclose(rows(world, 2), bare, atol=1e-3)


def test_per_sample_rows_equal_separate_calls(world: World) -> None:
    adapter = world.adapter()
    strengths = [0.0, 0.7, 1.4]
    with adapter.attached():
        with adapter.scaled(per_sample=torch.tensor(strengths)):
            together, text = rows(world, 3), world.encode(3).detach()
        for i, strength in enumerate(strengths):
            with adapter.scaled(unet=strength, text_encoder=strength):
                assert torch.allclose(together[i], rows(world, 3)[i], atol=2e-5)
                assert torch.allclose(text[i], world.encode(3)[i], atol=2e-5)


def test_guidance_stacks_the_samples_once_more(world: World) -> None:
    """k * n rows: the conditioned and the unconditioned halves each hold all samples."""
    adapter = world.adapter()
    with adapter.attached(), adapter.scaled(per_sample=torch.tensor([0.2, 1.0])), torch.no_grad():
        latents, timesteps, context = inputs(4)
        both = world.call(latents, timesteps, context)
        halves = [world.call(latents[i : i + 2], timesteps[i : i + 2], context[i : i + 2]) for i in (0, 2)]
    assert torch.allclose(both, torch.cat(halves), atol=2e-5)


def test_each_sample_has_its_own_vector_over_the_blocks(world: World) -> None:
    """The block tester's way: cell i of the grid has block i off, the rest at full strength."""
    adapter = world.adapter()
    assert len(adapter.blocks) == 17
    cells = ["M00", "OUT05", "IN04"]
    table = torch.ones(len(cells), len(adapter.blocks))
    for row, block in enumerate(cells):
        table[row, adapter.blocks.index(block)] = 0.0
    with adapter.attached():
        with adapter.scaled(per_sample=table):
            together = rows(world, 3)
        for i, block in enumerate(cells):
            with adapter.scaled(blocks={block: 0.0}):
                assert torch.allclose(together[i], rows(world, 3)[i], atol=2e-5)
    assert float((together[0] - together[1]).abs().max()) > 1e-3


def test_factors_multiply(world: World) -> None:
    adapter = world.adapter()
    with adapter.attached():
        with adapter.scaled(unet=0.5, blocks={"M00": 0.4}, per_sample=torch.tensor([2.0, 2.0])):
            one = rows(world, 2)
        with adapter.scaled(unet=1.0, blocks={"M00": 0.4}):
            assert torch.allclose(one, rows(world, 2), atol=2e-5)


def test_gradients_of_rows_are_scaled_by_their_strengths(some_world: World) -> None:
    """A sample at strength 0 teaches nothing: the gradient is that of the other one alone."""
    world, adapter = some_world, some_world.adapter(parts=frozenset({"unet"}))
    latents, timesteps, context = inputs(2)
    with adapter.attached():
        with adapter.scaled(per_sample=torch.tensor([0.0, 0.8])):
            together = torch.autograd.grad(world.call(latents, timesteps, context).square().sum(), adapter.parameters())
        with adapter.scaled(unet=0.8):
            out = world.call(latents[1:], timesteps[1:], context[1:])
            alone = torch.autograd.grad(out.square().sum(), adapter.parameters())
    for one, other in zip(together, alone, strict=True):
        assert float((one - other).norm()) <= 1e-3 * float(other.norm())


def test_strengths_are_back_afterwards_however_one_leaves(some_world: World) -> None:
    adapter = some_world.adapter()
    with adapter.scaled(unet=0.5):
        with pytest.raises(ZeroDivisionError), adapter.scaled(unet=2.0, per_sample=torch.ones(3)):
            raise ZeroDivisionError
        assert adapter.strengths == Strengths(unet=0.5)
        assert {piece.strength for piece in adapter.pieces if piece.site.part == "unet"} == {0.5}
    assert {piece.strength for piece in adapter.pieces} == {1.0}


@pytest.mark.parametrize(
    "shape", [(), (0,), (2, 16), (2, 18), (2, 17, 1), (0, 17)], ids=str
)
def test_a_table_that_does_not_fit_is_refused(some_world: World, shape: tuple[int, ...]) -> None:
    adapter = some_world.adapter()
    with pytest.raises(ValueError, match="per_sample has the shape"), adapter.scaled(per_sample=torch.ones(shape)):
        pass
    assert adapter.strengths == Strengths()


def test_a_block_that_does_not_exist_is_refused(some_world: World) -> None:
    adapter = some_world.adapter()
    with pytest.raises(ValueError, match="no block 'MID'"), adapter.scaled(blocks={"MID": 1.0}):
        pass
    with adapter.scaled(blocks={"IN00": 0.0}):  # a block without a site of this kind: vectors name them all
        pass


def test_a_batch_that_is_no_multiple_of_the_samples_is_refused(some_world: World) -> None:
    adapter: Adapter = some_world.adapter()
    with (
        adapter.attached(),
        adapter.scaled(per_sample=torch.tensor([0.5, 1.0])),
        pytest.raises(ValueError, match="a batch of 3 cannot have the strengths of 2 samples"),
    ):
        some_world.predict(3)
