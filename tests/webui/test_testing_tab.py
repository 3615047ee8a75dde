"""The panel Test in a real webui and a real browser: cells are the prompt's own pictures, what is liked is baked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from tests.webui.test_tab import Page, browser, page  # noqa: F401 - fixtures
from tests.webui.test_tools import CLOSE, far, files  # noqa: F401 - `files` is a fixture

if TYPE_CHECKING:
    from tests.webui.server import Webui

pytestmark = [pytest.mark.browser, pytest.mark.slow]
PROMPT = "1girl, hat"


def pixels(page: Page, label: str) -> bytes:  # noqa: F811
    """Of a row's first cell."""
    address = page.page.locator(f"#lora_lab_test_grid .lora-lab-cell[data-label='{label}']").get_attribute("data-cell")
    with Image.open(unquote(str(address).split("file=", 1)[1])) as picture:
        return picture.convert("RGB").tobytes()


def fill(page: Page, **more: str) -> None:  # noqa: F811
    """The panel Test with the probe's LoRA and prompt, and other fields by their names."""
    page.panel("Test")
    page.click("test_refresh")
    for name, value in {"lora": "probe_lora", "prompts": PROMPT, **more}.items():
        box = page.page.locator(f"#lora_lab_test_{name} :is(input, textarea)").first
        box.fill(value)
        if name == "lora":
            box.press("Enter")
        box.blur()


def test_cells_are_the_prompts_pictures(page: Page, webui: Webui, files: tuple[Path, Path]) -> None:  # noqa: F811
    plain, whole = webui.picture(PROMPT), webui.picture(f"{PROMPT} <lora:probe_lora:1>")
    fill(page, seeds="5")
    page.page.locator("#lora_lab_test_more .label-wrap").click()
    for name, value in (("width", "64"), ("height", "64"), ("steps", "4"), ("cfg_scale", "7")):
        page.page.locator(f"#lora_lab_test_{name} input").fill(value)
    sampler = page.page.locator("#lora_lab_test_sampler input")
    sampler.fill("Euler a")
    sampler.press("Enter")
    page.click("test_make")
    page.says("test_told", "Done.")
    assert far(pixels(page, "whole"), whole) <= CLOSE
    assert far(pixels(page, "NONE"), plain) <= CLOSE
    page.page.locator("#lora_lab_test_grid .lora-lab-cell[data-label='OUTALL']").click()
    page.page.locator("#lora_lab_test_grid .lora-lab-over").wait_for()
    page.page.locator("#lora_lab_test_name textarea, #lora_lab_test_name input").first.fill("outputs_only")
    page.click("test_bake")
    page.says("test_acted", "outputs_only.safetensors does at strength 1")
    assert far(webui.picture(f"{PROMPT} <lora:outputs_only:1>"), pixels(page, "OUTALL")) <= CLOSE
    assert far(pixels(page, "OUTALL"), whole) > CLOSE
    assert webui.picture(PROMPT) == plain


def test_strengths_on_checkpoints_and_the_first_is_back(
    page: Page, webui: Webui, data: Path, files: tuple[Path, Path]  # noqa: F811
) -> None:
    """The webui's second checkpoint is loaded for a while; its choice and its pictures are as before."""
    plain, chosen = webui.picture(PROMPT), webui.get("/sdapi/v1/options")["sd_model_checkpoint"]
    fill(page, seeds="5, 6", values="0.5, 1")
    page.page.locator("#lora_lab_test_mode label").filter(has_text="strengths").click()
    page.page.locator("#lora_lab_test_more .label-wrap").click()
    for name, value in (("width", "64"), ("height", "64"), ("steps", "4")):
        page.page.locator(f"#lora_lab_test_{name} input").fill(value)
    page.page.locator("#lora_lab_answers .label-wrap").click()
    page.page.locator("#lora_lab_answers_concept :is(input, textarea)").first.fill("smile")
    listed = page.page.locator("#lora_lab_answers_checkpoints input")
    names = [record["title"] for record in webui.get("/sdapi/v1/sd-models")]
    for name in names:
        listed.fill(name)
        listed.press("Enter")
    page.click("answers_strengths")
    page.says("answers_told", f"{len(names)} checkpoints with 8 pictures each: {8 * len(names)} pictures")
    page.says("answers_answer", "checkpoint")
    answer = page.page.locator("#lora_lab_answers_answer")
    images, rows = answer.locator("img").all(), answer.locator("table").first.locator("tr").all()[1:]
    assert len(images) == len(rows) == len(names) > 1
    seen = []
    for name, image, row in zip(names, images, rows, strict=True):
        with Image.open(unquote(str(image.get_attribute("src")).split("file=", 1)[1])) as picture:
            seen.append(picture.convert("RGB").tobytes())
        strength = row.locator("td").nth(1).inner_text()
        options = {"sampler_name": "Euler", "override_settings": {"sd_model_checkpoint": name}}
        assert far(webui.picture(f"{PROMPT} <lora:probe_lora:{strength}>", **options), seen[-1]) <= CLOSE
    assert far(*seen[:2]) > CLOSE
    assert webui.get("/sdapi/v1/options")["sd_model_checkpoint"] == chosen
    assert webui.picture(PROMPT) == plain


def test_a_checkpoint_that_cannot_be_loaded_leaves_the_first_whole(
    page: Page, webui: Webui, data: Path, files: tuple[Path, Path]  # noqa: F811
) -> None:
    """Its header is that of a checkpoint, its numbers are of a kind that the webui's torch does not know."""
    path = data / "models" / "Stable-diffusion" / "unreadable.safetensors"
    save_file({"model.diffusion_model.out.2.weight": np.zeros(1, np.uint16)}, path)
    webui.post("/sdapi/v1/refresh-checkpoints")
    plain, chosen = webui.picture(PROMPT), webui.get("/sdapi/v1/options")["sd_model_checkpoint"]
    try:
        fill(page, values="1")
        page.page.locator("#lora_lab_answers .label-wrap").click()
        listed = page.page.locator("#lora_lab_answers_checkpoints input")
        listed.fill(path.name)
        listed.press("Enter")
        page.click("answers_strengths")
        page.says("answers_told", "the webui cannot load it")
        assert webui.picture(PROMPT) == plain
        assert webui.get("/sdapi/v1/options")["sd_model_checkpoint"] == chosen
    finally:
        path.unlink()
        webui.post("/sdapi/v1/refresh-checkpoints")
