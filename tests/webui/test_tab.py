"""The tab in a real webui and a real browser: train and watch, cancel what waits, use it, be told what is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.webui.test_training import SMALL, pictures, start, wait  # noqa: F401 - `pictures` is a fixture

if TYPE_CHECKING:
    from tests.webui.server import Webui

pytestmark = [pytest.mark.browser, pytest.mark.slow]

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None:
    pytest.skip("Chromium is not installed", allow_module_level=True)

LONG = 240_000
"""Milliseconds; a machine may be busy with other things."""


class Page:
    """Our tab in a page of the webui."""

    def __init__(self, browser: Any, webui: Webui) -> None:
        self.page = browser.new_page(viewport={"width": 1500, "height": 1100})
        self.page.set_default_timeout(LONG)
        self.page.set_default_navigation_timeout(LONG)
        self.failures: list[str] = []
        self.page.on("pageerror", lambda error: self.failures.append(str(error)))
        self.page.goto(webui.url(), wait_until="domcontentloaded")
        self.page.locator("#tabs > .tab-nav > button").filter(has_text="LoRA Lab").click()
        self.page.wait_for_selector(self.box("dataset", "train_data_dir"))

    @staticmethod
    def box(panel: str, name: str) -> str:
        return f"#lora_lab_{panel}_{name} :is(input, textarea)"

    def panel(self, name: str) -> None:
        self.page.locator("#lora_lab_panels > .tab-nav > button").filter(has_text=name).click()

    def click(self, ident: str) -> None:
        self.page.locator(f"button#lora_lab_{ident}:not([disabled])").click()

    def says(self, ident: str, pattern: str) -> None:
        """Wait until this part of the tab says so."""
        self.page.wait_for_function(
            "([id, pattern]) => new RegExp(pattern).test(document.getElementById(id).innerText)",
            arg=[f"lora_lab_{ident}", pattern],
        )

    def load(self, folder: Path, **values: Any) -> None:
        """Put settings into the form by a file."""
        path = folder / f"{values['output_name']}.json"
        path.write_text(json.dumps({"lora_lab": 1, **SMALL, **values}), encoding="utf-8")
        self.panel("Train")
        self.page.locator("#lora_lab_train_form input[type=file]").set_input_files(str(path))
        self.says("train_told", f"The form shows the settings of {path.name}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any, webui: Webui) -> Iterator[Page]:
    found = Page(browser, webui)
    yield found
    found.page.close()
    assert found.failures == [], "the page's JavaScript failed"


def test_train_watch_interrupt_and_use(
    page: Page, webui: Webui, pictures: dict[str, Path], data: Path, tmp_path: Path  # noqa: F811
) -> None:
    plain = webui.picture("1girl")
    page.page.fill(page.box("dataset", "train_data_dir"), str(pictures["character"]))
    page.page.fill(page.box("dataset", "resolution"), "64")
    page.page.locator("#lora_lab_dataset_more .label-wrap").click()
    page.page.fill(page.box("dataset", "min_bucket_reso"), "64")
    page.click("dataset_check")
    page.page.wait_for_selector("#lora_lab_dataset_pictures img")
    page.click("dataset_use")
    page.page.wait_for_function(f"document.querySelector('{page.box('train', 'output_name')}').value === 'zuli'")
    values = {"train_data_dir": str(pictures["character"]), "max_train_epochs": 200, "save_every_n_epochs": 2}
    page.load(tmp_path, output_name="watched", **values)
    page.says("train_plan", "600")
    webui.picture("1girl <lora:probe_lora:1>")  # its weights are taken out before the first step
    page.click("train_start")
    page.page.wait_for_selector("#lora_lab_train_card polyline.lora-lab-average")
    page.page.wait_for_selector("#lora_lab_train_previews img")
    # Another tab is shown when the run ends: the webui's cards show the LoRA all the same.
    page.click("live_interrupt")
    page.page.locator("#tabs > .tab-nav > button").filter(has_text="txt2img").click()
    page.page.wait_for_selector("#txt2img_lora_cards .card[data-name^=watched-step]", state="attached")
    page.page.locator("#tabs > .tab-nav > button").filter(has_text="LoRA Lab").click()
    page.says("train_card", "stopped, what was learnt is kept")
    page.page.locator("#lora_lab_train_snapshots .lora-lab-use").first.click()
    prompt = page.page.locator("#txt2img_prompt textarea")
    prompt.wait_for()
    name = next((data / "models" / "Lora").glob("watched-step*.safetensors")).stem
    assert prompt.input_value() == f"<lora:{name}:1> zuli"
    assert webui.picture("1girl") == plain, "nothing is left in the model"
    assert webui.picture(f"1girl <lora:{name}:0>") == plain
    assert webui.picture(f"1girl <lora:{name}:1>") != plain


def test_a_waiting_run_is_cancelled_alone(
    page: Page, webui: Webui, pictures: dict[str, Path], data: Path, tmp_path: Path  # noqa: F811
) -> None:
    first = start(webui, pictures, output_name="under_way", max_train_epochs=400, sample_prompts="")
    folder = {"train_data_dir": str(pictures["character"])}
    for name in ("cancelled", "stays"):
        page.load(tmp_path, output_name=name, max_train_epochs=400, **folder)
        page.page.locator("#lora_lab_train_start").click()
        page.page.locator("#lora_lab_train_card .lora-lab-waiting li").filter(has_text=name).wait_for()
    row = page.page.locator("#lora_lab_train_card .lora-lab-waiting li").filter(has_text="cancelled")
    row.locator(".lora-lab-cancel").click()
    row.wait_for(state="detached")
    step = webui.check("training", run_id=first)["step"]
    assert wait(webui, first, lambda found: found["step"] > step + 1)["state"] == "running"
    assert page.page.locator("#lora_lab_train_card .lora-lab-waiting li").count() == 1
    page.page.locator("#lora_lab_train_card .lora-lab-waiting button").click()
    page.page.locator("#lora_lab_train_card .lora-lab-waiting").wait_for(state="detached")
    page.click("train_stop")
    assert wait(webui, first)["state"] == "stopped"
    assert not [*(data / "models" / "Lora").glob("cancelled*"), *(data / "models" / "Lora").glob("stays*")]


def test_what_is_wrong_is_told_in_one_line_and_nothing_starts(
    page: Page, webui: Webui, pictures: dict[str, Path], data: Path, tmp_path: Path  # noqa: F811
) -> None:
    runs = data / "lora-lab" / "runs"
    before = sorted(runs.iterdir()) if runs.exists() else []
    there = data / "models" / "Lora" / "probe_lora.safetensors"
    precious = there.read_bytes()
    page.load(tmp_path, output_name="bad", train_data_dir=str(pictures["character"]))
    for name, value, wrong in (
        ("network_dim", "0", "network_dim is 0: give 1 or more"),
        ("train_batch_size", "many", "train_batch_size is 'many'"),
        ("unet_lr", "7", "learns nothing"),
        ("train_data_dir", str(tmp_path / "none"), "train_data_dir is no folder"),
        ("output_name", "probe_lora", "a LoRA of that name is there already"),
    ):
        box = page.page.locator(page.box("train", name))
        good = box.input_value()
        box.fill(value)
        box.blur()
        page.page.locator("#lora_lab_train_start").click()
        page.page.locator(".toast-text").filter(has_text=wrong).first.wait_for()
        assert box.input_value() == value, "the field stays as it was typed"
        box.fill(good)
        box.blur()
    assert (sorted(runs.iterdir()) if runs.exists() else []) == before
    assert there.read_bytes() == precious
