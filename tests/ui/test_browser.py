"""The standalone tab in a real browser: check a folder, train, see the loss, reload, see the run again."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest

from lora_lab.training import jobs

pytestmark = [pytest.mark.browser, pytest.mark.slow]

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None:
    pytest.skip("Chromium is not installed", allow_module_level=True)
pytest.importorskip("diffusers", reason="diffusers is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

from tests.training.tiny import TinyHost, run_settings, write_pictures  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
LONG = 120_000
"""Milliseconds; a machine may be busy with other things."""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> TinyHost:
    folder = tmp_path_factory.mktemp("browser")
    write_pictures(folder / "train" / "1_mika", 4)
    (folder / "train" / "1_mika" / "<b>broken.png").write_bytes(b"no picture")
    return TinyHost(folder)


@pytest.fixture(scope="module")
def address(host: TinyHost) -> Iterator[str]:
    from lora_lab.ui.standalone import launch

    blocks = launch(host, wait=False)
    yield blocks.local_url
    jobs.queue().stop_all()
    for run in jobs.queue().runs():
        run.wait(60)
    blocks.close(verbose=False)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.set_default_timeout(LONG)
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.set_default_navigation_timeout(LONG)
    page.goto(address)
    page.wait_for_selector(box("dataset", "train_data_dir"))
    yield page
    page.close()
    assert failures == [], "our JavaScript failed"


def box(panel: str, name: str) -> str:
    return f"#lora_lab_{panel}_{name} :is(input, textarea)"


def show(page: Any, panel: str) -> None:
    page.locator("#lora_lab_panels > .tab-nav > button").filter(has_text=panel).click()


def test_check_train_reload_interrupt(page: Any, host: TinyHost) -> None:
    page.fill(box("dataset", "train_data_dir"), str(host.folder / "train"))
    page.fill(box("dataset", "resolution"), "64")
    page.click("#lora_lab_dataset_more .label-wrap")
    page.fill(box("dataset", "min_bucket_reso"), "64")
    page.click("#lora_lab_dataset_check")
    page.wait_for_selector("#lora_lab_dataset_pictures img")
    assert page.locator("#lora_lab_dataset_problems code").filter(has_text="<b>broken.png").count() == 1
    assert page.locator("#lora_lab_dataset_buckets svg").count() == 1

    page.click("button#lora_lab_dataset_use:not([disabled])")
    page.wait_for_function(f"document.querySelector('{box('train', 'output_name')}').value === 'mika'")
    page.fill(box("train", "network_dim"), "2")
    page.fill(box("train", "network_alpha"), "1")
    page.fill(box("train", "max_train_epochs"), "2000")
    page.locator(box("train", "max_train_epochs")).blur()
    page.locator("#lora_lab_train_plan b").filter(has_text="4,000").wait_for()
    page.click("#lora_lab_train_start")
    page.wait_for_selector("#lora_lab_train_card polyline.lora-lab-average")
    assert page.locator("#lora_lab_live_line").first.inner_text().count("mika") >= 1

    page.reload()
    page.wait_for_selector(box("dataset", "train_data_dir"))
    show(page, "Train")
    page.wait_for_selector("#lora_lab_train_card polyline.lora-lab-average")
    step = jobs.queue().current().status().step  # type: ignore[union-attr]
    assert step > 0
    assert page.input_value(box("train", "output_name")) == "", "what was typed is the page's own"

    page.click("button#lora_lab_live_interrupt:not([disabled])")
    page.locator("#lora_lab_train_card .lora-lab-head").filter(has_text="stopped, what was learnt is kept").wait_for()
    page.wait_for_selector("#lora_lab_train_snapshots .lora-lab-use")
    assert "<lora:mika-step" in page.locator("#lora_lab_train_snapshots code").first.inner_text()
    kept = list((host.folder / "loras").glob("mika-step*.safetensors"))
    assert len(kept) == 1


def test_an_error_is_told_and_the_field_stays(page: Any, tmp_path: Path) -> None:
    gone = str(tmp_path / "<b>gone")
    page.fill(box("dataset", "train_data_dir"), gone)
    page.click("#lora_lab_dataset_check")
    toast = page.locator(".toast-text")
    toast.wait_for()
    assert "there is no such folder" in toast.inner_text()
    assert "<b>gone" in toast.inner_text(), "shown as text"
    assert page.input_value(box("dataset", "train_data_dir")) == gone


def test_several_pictures_are_chosen_and_repaired(page: Any, host: TinyHost, tmp_path: Path) -> None:
    write_pictures(tmp_path / "set" / "1_rin", 4)
    page.fill(box("dataset", "train_data_dir"), str(tmp_path / "set"))
    page.click("#lora_lab_dataset_check")
    page.click("#lora_lab_pictures .label-wrap")
    picks = page.locator("#lora_lab_pictures_grid .lora-lab-pick")
    picks.nth(0).click()
    picks.nth(2).click(modifiers=["Shift"])
    picks.nth(1).click()
    chosen = page.locator("#lora_lab_pictures_grid .lora-lab-on")
    assert chosen.count() == 2
    page.click("#lora_lab_pictures_flip")
    page.locator("#lora_lab_pictures_told .lora-lab-good").filter(has_text="2 pictures new").wait_for()
    assert len(list((tmp_path / "set").rglob("*_flip.png"))) == 2
    assert picks.count() == 6
    assert chosen.count() == 2, "what was chosen stays chosen"


def test_sliders_of_blocks_write_the_fields_and_follow_them(page: Any) -> None:
    show(page, "Train")
    page.click("#lora_lab_train_group_blocks .label-wrap")
    u = page.locator('.lora-lab-blocks-shape[data-for="sd1"]')
    u.wait_for()
    assert u.locator("input[type=range]").count() == 12 + 1 + 12 + 1
    assert page.locator('.lora-lab-blocks-shape[data-for="sdxl"]').is_hidden()

    u.get_by_label("IN04", exact=True).fill("0.5")
    assert page.input_value(box("train", "down_lr_weight")) == "1,1,1,1,0.5,1,1,1,1,1,1,1"
    page.get_by_role("button", name="OUT", exact=True).click()
    assert page.input_value(box("train", "down_lr_weight")) == ",".join(["0"] * 12)
    assert page.input_value(box("train", "mid_lr_weight")) == "0"
    assert page.input_value(box("train", "up_lr_weight")) == ""

    page.fill(box("train", "up_lr_weight"), "sine+.25")
    page.wait_for_function("document.querySelector('[data-for=sd1] [aria-label=OUT11]').value === '1.25'")
    page.fill(box("train", "unet_lr"), "1e-4")
    u.get_by_label("BASE", exact=True).fill("0.25")
    assert page.input_value(box("train", "text_encoder_lr")) == "0.000025"


def test_answers_fill_the_form_a_rule_mends_it_and_a_value_comes_back(page: Any, host: TinyHost) -> None:
    show(page, "Train")
    page.fill(box("train", "train_data_dir"), str(host.folder / "train"))
    page.fill(box("train", "output_name"), "mika")
    page.click("#lora_lab_advice .label-wrap")
    page.click("#lora_lab_advice_recommend")
    page.wait_for_selector("#lora_lab_advice_told tr[data-setting=network_dim]")
    dim = page.input_value(box("train", "network_dim"))
    assert page.input_value(box("train", "optimizer_type")) == "Prodigy"
    back = page.locator("#lora_lab_advice_told tr[data-setting=network_dim] .lora-lab-advise")
    assert back.is_hidden(), "the form is as recommended"

    page.fill(box("train", "network_dim"), "2")
    page.locator(box("train", "network_dim")).blur()
    back.wait_for()
    rule = page.locator("#lora_lab_train_plan [data-rule=alpha-above-dim]")
    page.fill(box("train", "network_alpha"), "64")
    page.locator(box("train", "network_alpha")).blur()
    rule.wait_for()
    rule.locator(".lora-lab-advise").first.click()
    page.wait_for_function(f"document.querySelector('{box('train', 'network_alpha')}').value === '2'")
    back.click()
    page.wait_for_function(f"document.querySelector('{box('train', 'network_dim')}').value === '{dim}'")
    rule.wait_for(state="detached")


def test_a_drawn_example_is_chosen_by_click_and_key(page: Any) -> None:
    show(page, "Train")
    page.click("#lora_lab_advice .label-wrap")
    page.click("#lora_lab_advice_examples summary")
    chosen = page.locator("#lora_lab_advice_examples [aria-pressed=true]")
    assert chosen.get_attribute("value") == page.input_value(box("advice", "difficulty"))[0] == "B"
    for letter, press in (("F", "click"), ("H", "Enter"), ("A", " ")):
        example = page.locator(f"#lora_lab_advice_examples button[value={letter}]")
        example.click() if press == "click" else example.press(press)
        page.wait_for_selector(f"#lora_lab_advice_examples button[value={letter}][aria-pressed=true]")
        assert page.input_value(box("advice", "difficulty")).startswith(f"{letter}: ")
        assert chosen.count() == 1


def test_a_sweep_says_its_runs_shows_its_table_and_is_stopped_and_gone_on_with(page: Any, tmp_path: Path) -> None:
    write_pictures(tmp_path / "train" / "1_mika", 2)
    values = run_settings(tmp_path, max_train_epochs=1, output_name="swept", sample_prompts="mika --d 3 --s 1")
    file = tmp_path / "swept.json"
    file.write_text(json.dumps({"lora_lab": 1, **values}), encoding="utf-8")
    show(page, "Train")
    page.locator("#lora_lab_train_form input[type=file]").set_input_files(str(file))
    page.locator("#lora_lab_train_told").filter(has_text="swept.json").first.wait_for()
    page.click("#lora_lab_sweep .label-wrap")
    counted = page.locator("#lora_lab_sweep_counted p")
    page.fill("#lora_lab_sweep_over textarea", "network_dim=1,2\nnetwork_dims=3")
    counted.filter(has_text="network_dims").wait_for()
    page.fill("#lora_lab_sweep_over textarea", "network_dim=1,2\nmax_train_epochs=1,2000")
    counted.filter(has_text="4 runs, from network_dim 1, max_train_epochs 1 to network_dim 2").wait_for()
    page.click("#lora_lab_sweep_start")
    rows = page.locator("#lora_lab_sweep_table tr")
    rows.nth(1).filter(has_text="finished").wait_for()
    rows.nth(2).filter(has_text="under way").wait_for()
    assert rows.nth(3).filter(has_text="to come").count() == 1
    page.click("button#lora_lab_sweep_stop:not([disabled])")
    told = page.locator("#lora_lab_sweep_told p")
    told.filter(has_text="Stopped.").wait_for()
    assert page.locator("#lora_lab_sweep_grid img").evaluate("i => i.decode().then(() => i.naturalWidth)") > 256

    page.fill("#lora_lab_sweep_over textarea", "network_dim=1,2")
    counted.filter(has_text="2 runs").wait_for()
    page.click("#lora_lab_sweep_start")
    told.filter(has_text="All runs are done").wait_for()
    assert rows.filter(has_text="finished").count() == 2
    assert page.locator("#lora_lab_sweep_grid img").evaluate("i => i.decode().then(() => i.naturalHeight)") > 2 * 256


NAMES = ("$& <b>", "$1 it's", "{0}", "{1*}.png", "\\1 [x]^$", "(.*)|a+?", "Ünï 猫", '"a"', "no. 3", "mika\nrin")
"""Of LoRAs, folders and tags."""
HOLE = re.compile(r"\{\d+\*?\}")
FILL = """async (texts) => {
    const place = document.createElement("div"), wait = () => new Promise((go) => setTimeout(go, 100));
    const put = (kind, text) => {
        place.append(document.createElement(kind));
        place.lastChild.textContent = text;
        return place.lastChild;
    };
    const nodes = texts.map((text) => put("span", text)), labels = texts.map((text) => put("i", ""));
    labels.forEach((label, n) => label.setAttribute("aria-label", texts[n]));
    const own = ["code", "textarea", "b", "p"].map((kind) => put(kind, "3 pictures"));
    own[2].translate = false;
    document.body.append(own[3]); // outside of the tab
    document.getElementById("lora_lab_root").append(place);
    await wait();
    const found = nodes.map((node) => node.textContent), said = labels.map((label) => label.getAttribute("aria-label"));
    nodes[0].firstChild.data = " 4 pictures "; // as gradio changes a text that is there
    await wait();
    return {found, said, changed: nodes[0].textContent, own: own.map((one) => one.textContent)};
}"""


def test_texts_with_values_are_filled_again_and_the_users_own_are_left_alone(browser: Any, address: str) -> None:
    strings = json.loads((ROOT / "docs" / "strings.json").read_text(encoding="utf-8"))
    words, cases = {"path of a folder": "Pfad"}, {}
    for number, key in enumerate(key for key in strings if HOLE.search(key)):
        holes = HOLE.findall(key)
        values = [NAMES[(number + n) % 10] if hole.endswith("*}") else f"{number:,}.5" for n, hole in enumerate(holes)]
        words[key] = f"Satz {number}: " + " / ".join(reversed(holes))
        text = "".join(piece + value for piece, value in zip_longest(HOLE.split(key), values, fillvalue=""))
        cases[text] = f"Satz {number}: " + " / ".join(reversed(values))
    page = browser.new_page()
    page.set_default_timeout(LONG)
    page.add_init_script(f"window.localization = {json.dumps(words)}")
    page.goto(address)
    page.wait_for_selector("#lora_lab_root [placeholder=Pfad]")
    found = page.evaluate(FILL, list(cases))
    assert {text: got for text, got in zip(cases, found["found"], strict=True) if got != cases[text]} == {}
    assert found["said"] == list(cases.values())
    assert found["changed"] == f" {words['{0} pictures'].replace('{0}', '4')} "
    assert found["own"] == ["3 pictures"] * 4
    page.close()


def test_tooltips_and_placeholders_are_looked_up_in_the_webuis_dictionary(browser: Any, address: str) -> None:
    from lora_lab.ui.tips import dataset

    tips = dataset.TIPS
    words = {tips["dataset_check"]: "Sieht nach.", tips["dataset"]: "Bilder.", "path of a folder": "Pfad"}
    page = browser.new_page()
    page.set_default_timeout(LONG)
    page.add_init_script(f"window.localization = {json.dumps(words)}")
    page.goto(address)
    page.wait_for_selector("#lora_lab_dataset_check[title='Sieht nach.']")
    first = page.locator("#lora_lab_panels > .tab-nav > button").first
    page.wait_for_selector("#lora_lab_panels > .tab-nav > button[title='Bilder.']")
    assert page.locator(box("dataset", "train_data_dir")).get_attribute("placeholder") == "Pfad"
    show(page, "Tags")
    page.wait_for_function("document.querySelector('#lora_lab_tags').getClientRects().length")
    page.wait_for_selector("#lora_lab_panels > .tab-nav > button[title='Bilder.']")
    assert first.get_attribute("title") == "Bilder."
    assert page.locator("#lora_lab_dataset_use").get_attribute("title") == tips["dataset_use"]
    assert page.locator("#lora_lab_concepts .label-wrap").first.get_attribute("title") == tips["concepts"]
    assert page.locator("#lora_lab_concepts").get_attribute("title") is None, "not over all that is inside"
    page.close()
