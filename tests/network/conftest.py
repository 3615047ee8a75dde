from __future__ import annotations

import pytest

from tests.network.models import World, make_world


@pytest.fixture(scope="module", params=["diffusers", "ldm"])
def world(request: pytest.FixtureRequest) -> World:
    return make_world(request.param)


@pytest.fixture(scope="module")
def diffusers_world() -> World:
    return make_world("diffusers")
