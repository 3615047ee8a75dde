"""SDXL and SD2 (v-prediction) trained from the tab of a real webui, as a person does it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from safetensors import safe_open

from tests.webui.test_families import MATCHED, SITES, family, picture, servers  # noqa: F401 - fixtures
from tests.webui.test_tab import Page, browser  # noqa: F401 - a fixture
from tests.webui.test_training import SMALL, pictures  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from tests.webui.server import Webui

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_it_trains_from_the_tab(
    browser: Any, family: str, servers: Webui, pictures: dict[str, Path], tmp_path: Path  # noqa: F811
) -> None:
    """The live line names the family, the LoRA has a layer for each site, and the webui matches each of them."""
    page = Page(browser, servers)
    page.says("live_line", f"tiny_{family}[^]*{family.upper()}")
    name = f"tab_{family}"
    values = {**SMALL, "unet_lr": 1e-2, "text_encoder_lr": 1e-2, "max_train_epochs": 2}
    page.load(tmp_path, output_name=name, **values, train_data_dir=str(pictures["character"]))
    page.says("train_plan", r"epochs\s*2 × 3")
    page.click("train_start")
    page.says("train_card", f"{name}[^]*finished")
    lora = servers.data / "models" / "Lora" / f"{name}.safetensors"
    with safe_open(lora, "pt") as file:
        keys = list(file.keys())
    assert len(keys) == 3 * sum(SITES[family].values())
    plain, changed = picture(servers, "1girl"), picture(servers, f"1girl <lora:{name}:1>")
    assert abs(plain - changed).mean() > 0.5
    assert servers.check("families.matched", lora=name) == MATCHED[family]
    page.page.close()
    assert page.failures == []
