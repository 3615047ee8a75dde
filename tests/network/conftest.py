from __future__ import annotations

from importlib.util import find_spec

import pytest

from tests.network.models import World, make_world


@pytest.fixture(scope="module", params=["diffusers", "ldm"])
def world(request: pytest.FixtureRequest) -> World:
    return make_world(request.param)


@pytest.fixture(scope="module")
def some_world() -> World:
    """Whichever layout this machine has, for what does not depend on it."""
    return make_world("diffusers" if find_spec("diffusers") else "ldm")
