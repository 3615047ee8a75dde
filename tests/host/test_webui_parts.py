"""What a lease of the webui's model has to look at is listed again when it has become another."""

from __future__ import annotations

from typing import Any

from torch import nn

from lora_lab.host.webui_parts import TILED, PartsCache


class Live(nn.Module):
    """What the listing reads of the webui's model object."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        self.first_stage_model = nn.Sequential(nn.Linear(2, 2))
        self.cond_stage_model = nn.Linear(2, 2)


def test_one_listing_for_one_checkpoint() -> None:
    live: Any = Live()
    cache = PartsCache()
    parts = cache.of(live, 1)
    assert len(parts.modules) == 6
    assert cache.of(live, 1) is parts
    assert cache.of(live, 2) is not parts


def test_layers_that_hypertile_wraps_later_are_found() -> None:
    live: Any = Live()
    cache = PartsCache()
    for root in (live.model, live.first_stage_model):
        before = cache.of(live, 1).hypertile
        setattr(root[0], "__webui_hypertile_params", object())
        setattr(root, TILED, {"0": 1})
        assert cache.of(live, 1).hypertile == (*before, root[0])
