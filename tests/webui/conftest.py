"""A real webui for the tests of this folder, where LORA_LAB_WEBUI and LORA_LAB_WEBUI_PYTHON name one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.webui.server import Webui

REASON = "no real webui here: LORA_LAB_WEBUI (its folder) and LORA_LAB_WEBUI_PYTHON name one"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all of this folder, and skip it where there is no webui."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.webui)
            if not (os.environ.get("LORA_LAB_WEBUI") and os.environ.get("LORA_LAB_WEBUI_PYTHON")):
                item.add_marker(pytest.mark.skip(reason=REASON))


def started(data: Path, *flags: str) -> Webui:
    """A webui started with a data folder of its own."""
    from tests.webui.server import Webui, lay_out

    folder = Path(os.environ["LORA_LAB_WEBUI"])
    if not (data / "extensions").exists():
        lay_out(folder, data)
    webui = Webui(folder, Path(os.environ["LORA_LAB_WEBUI_PYTHON"]), data, flags)
    try:
        webui.start()
    except BaseException:
        webui.stop()
        raise
    return webui


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The webui's data folder."""
    return tmp_path_factory.mktemp("webui") / "data"


@pytest.fixture(scope="session")
def webui(data: Path) -> Iterator[Webui]:
    """The webui that most tests share: each leaves it as it found it."""
    found = started(data)
    yield found
    found.stop()
