"""What stands in front of the UNet while pictures are made."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lora_lab.errors import Interrupted
from lora_lab.testing.watch import Trajectory, Watch


class Unet(nn.Module):
    """Answers its rows times a factor; as diffusers' does, if asked to."""

    def __init__(self, *, wraps: bool) -> None:
        super().__init__()
        self.wraps, self.factor, self.rows = wraps, 1.0, list[int]()

    def forward(self, x: Tensor) -> Any:  # noqa: ANN401 - both forms
        """Two rounds of rows, the prompt's first."""
        self.rows.append(len(x))
        found = x * self.factor
        return SimpleNamespace(sample=found) if self.wraps else found


def _answer(found: Any) -> Tensor:  # noqa: ANN401 - both forms
    return found if isinstance(found, Tensor) else found.sample  # type: ignore[no-any-return]


@pytest.mark.parametrize("wraps", [False, True])
def test_lent_guidance_computes_the_prompt_alone_and_keeps_the_base_s_way_to_it(*, wraps: bool) -> None:
    unet, paths = Unet(wraps=wraps), [Trajectory(), Trajectory()]
    calls = [torch.randn(4, 3) for _ in range(3)]
    with Watch(lambda: False, record=paths, pictures=2).over(unet):
        base = [_answer(unet(x)) for x in calls]
    unet.factor, unet.rows = 2.0, []
    with Watch(lambda: False, replay=paths, shared=1, lent=2, pictures=2).over(unet):
        found = [_answer(unet(x)) for x in calls]
    assert unet.rows == [4, 2]
    assert torch.equal(found[0], base[0])
    assert torch.equal(found[1], 2 * calls[1])
    prompt, without = found[2].chunk(2)
    assert torch.equal(prompt, 2 * calls[2][:2])
    assert torch.allclose(prompt - without, base[2][:2] - base[2][2:], atol=1e-6)


def test_calls_without_guidance_are_computed_as_they_are() -> None:
    unet, paths = Unet(wraps=False), [Trajectory(), Trajectory()]
    with Watch(lambda: False, record=paths, pictures=2).over(unet):
        unet(torch.ones(2, 3))
    with Watch(lambda: False, replay=paths, lent=0, pictures=2).over(unet):
        assert torch.equal(unet(torch.ones(2, 3)), torch.ones(2, 3))


def test_it_stops_before_a_call_and_leaves_the_unet_as_it_was() -> None:
    unet, asked = Unet(wraps=False), iter((False, True))
    with Watch(lambda: next(asked)).over(unet):
        unet(torch.ones(1))
        with pytest.raises(Interrupted):
            unet(torch.ones(1))
    assert unet.rows == [1]
    assert "forward" not in unet.__dict__
