"""The webui with --medvram and with --lowvram: its hooks move modules about, on a CPU to where they are already."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.webui.conftest import started
from tests.webui.test_training import pictures, start, wait  # noqa: F401 - pictures is a fixture

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.webui.server import Webui


@pytest.fixture(scope="module", params=["--medvram", "--lowvram"])
def small(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webui]:
    found = started(tmp_path_factory.mktemp("small") / "data", request.param)
    yield found
    found.stop()


def test_lease_and_pictures(small: Webui) -> None:
    plain = small.picture()
    for way_out in ("normal", "error"):
        found = small.check("leave_everything_as_found", way_out=way_out)
        # The UNet may stay on the device, noted in the webui's own book; all else is as found.
        assert [line for line in found["left"] if not line.startswith("lowvram")] == []
        assert found["reached"] == found["pieces"]
        assert not found["locked"]
    assert small.picture() == plain
    made = small.check("pictures")
    assert bytes.fromhex(made["pixels"][0][1]) == plain


def test_a_run_with_a_picture_in_between(small: Webui, pictures: dict[str, Path]) -> None:  # noqa: F811 - the fixture
    plain = small.picture("1girl")
    run = start(small, pictures, output_name="small", max_train_steps=4, sample_prompts="", sharing="pictures_first")
    wait(small, run, lambda found: found["step"] >= 1)
    assert small.picture("1girl") == plain
    done = wait(small, run)
    assert (done["state"], done["error"], done["step"]) == ("finished", "", 4)
    assert small.picture("1girl") == plain
    assert small.picture("1girl <lora:small:1>") != plain
