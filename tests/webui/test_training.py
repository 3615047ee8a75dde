"""Whole runs on a real webui's live checkpoint, with pictures of its own in between."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.host.fingerprint import differences

if TYPE_CHECKING:
    from tests.webui.server import Webui

ENDED = ("finished", "stopped", "interrupted", "failed", "unknown")
SMALL = {
    "resolution": 64,
    "min_bucket_reso": 64,
    "network_dim": 4,
    "network_alpha": 4,
    "train_batch_size": 6,
    "optimizer_type": "AdamW",
    "unet_lr": 2e-3,
    "text_encoder_lr": 1e-3,
    "seed": 1,
    "sample_prompts": "1girl --d 5 --s 4",
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The demo dataset."""
    from lora_lab.demo import assets

    return assets.write_dataset(tmp_path_factory.mktemp("pictures"))


def start(webui: Webui, pictures: dict[str, Path], **changes: Any) -> str:
    data = {"train_data_dir": str(pictures["character"]), "validation_data_dir": str(pictures["character_validation"])}
    run: str = webui.check("start_training", values={**SMALL, **data, **changes})
    return run


def wait(webui: Webui, run: str, until: Any = lambda found: found["state"] in ENDED) -> dict[str, Any]:
    end = time.monotonic() + 400
    while time.monotonic() < end:
        found: dict[str, Any] = webui.check("training", run_id=run)
        if until(found) or found["state"] in ENDED:
            return found
        time.sleep(0.3)
    raise AssertionError(f"still {found['state']} at step {found['step']}")


def test_a_run_from_pictures_to_a_lora_that_acts(webui: Webui, pictures: dict[str, Path], data: Path) -> None:
    plain, with_lora = webui.picture("1girl"), webui.picture("1girl, hat <lora:probe_lora:1>")
    run = start(webui, pictures, output_name="first", max_train_epochs=3, save_every_n_epochs=1)
    done = wait(webui, run)
    assert (done["state"], done["error"]) == ("finished", "")
    assert done["sites"] == 264
    assert done["step"] == 9
    assert done["losses"][-1] < 2
    assert len(done["validations"]) >= 2
    assert done["lora"] == str(data / "models" / "Lora" / "first.safetensors")
    assert [Path(path).is_file() for path in done["previews"]] == [True] * len(done["previews"])
    assert done["previews"]
    assert {"first", "first-000001", "first-000002"} <= {found["name"] for found in webui.get("/sdapi/v1/loras")}
    # Nothing is left: the same pictures as before, also the one with a LoRA whose weights we took out.
    assert webui.picture("1girl") == plain
    assert webui.picture("1girl, hat <lora:probe_lora:1>") == with_lora
    assert webui.picture("1girl <lora:first:1>") != plain
    assert webui.picture("1girl <lora:first:0>") == plain
    assert webui.picture("1girl") == plain


def test_the_model_is_as_found_after_a_run(webui: Webui, pictures: dict[str, Path]) -> None:
    webui.check("weights_in_lease")
    before = webui.check("state_of_everything")
    done = wait(webui, start(webui, pictures, output_name="as_found", max_train_steps=2, sample_prompts=""))
    assert (done["state"], done["error"]) == ("finished", "")
    after = webui.check("state_of_everything")
    assert differences(before, after) == []


def test_pictures_come_in_between(webui: Webui, pictures: dict[str, Path]) -> None:
    plain = webui.picture("1girl")
    run = start(webui, pictures, output_name="between", max_train_epochs=40)
    assert wait(webui, run, lambda found: found["step"] >= 2)["state"] == "running"
    assert webui.picture("1girl") == plain, "while our adapter trains"
    assert webui.picture("1girl <lora:probe_lora:1>") != plain
    webui.picture("1girl", tiling=True)
    found = wait(webui, run, lambda found: found["step"] >= 6)
    assert found["state"] == "running"
    webui.check("training", run_id=run, stop=True)
    done = wait(webui, run)
    assert done["state"] == "stopped"
    assert Path(done["lora"]).is_file()
    assert webui.picture("1girl") == plain


def test_the_webuis_interrupt_stops_it_and_keeps_what_it_has(webui: Webui, pictures: dict[str, Path]) -> None:
    run = start(webui, pictures, output_name="interrupted", max_train_epochs=40, sample_prompts="")
    before = wait(webui, run, lambda found: found["step"] >= 2)["step"]
    webui.post("/sdapi/v1/interrupt")
    done = wait(webui, run)
    assert done["state"] == "interrupted"
    assert done["step"] <= before + 30
    assert Path(done["lora"]).is_file()


def test_a_picture_that_is_interrupted_does_not_stop_a_run(webui: Webui, pictures: dict[str, Path]) -> None:
    import threading

    run = start(webui, pictures, output_name="goes_on", max_train_epochs=40, sample_prompts="")
    wait(webui, run, lambda found: found["step"] >= 1)
    picture = threading.Thread(target=lambda: webui.picture("1girl", steps=60))
    picture.start()
    end = time.monotonic() + 120
    while webui.get("/sdapi/v1/progress")["state"]["sampling_step"] < 2 and time.monotonic() < end:
        time.sleep(0.05)
    webui.post("/sdapi/v1/interrupt")
    picture.join()
    step = webui.check("training", run_id=run)["step"]
    assert wait(webui, run, lambda found: found["step"] > step + 1)["state"] == "running"
    webui.check("training", run_id=run, stop=True)
    assert wait(webui, run)["state"] == "stopped"


def test_a_run_waits_while_another_checkpoint_is_live(webui: Webui, pictures: dict[str, Path]) -> None:
    name = webui.check("settings")["info"][0]
    run = start(webui, pictures, output_name="waits", max_train_epochs=40, sample_prompts="")
    wait(webui, run, lambda found: found["step"] >= 1)
    webui.post("/sdapi/v1/options", {"sd_model_checkpoint": "other.safetensors"})
    try:
        found = wait(webui, run, lambda found: any("other.safetensors" in text for text in found["warnings"]))
        assert found["state"] == "running"
        step = found["step"]
    finally:
        webui.post("/sdapi/v1/options", {"sd_model_checkpoint": name})
    assert wait(webui, run, lambda found: found["step"] > step)["state"] == "running"
    webui.check("training", run_id=run, stop=True)
    assert wait(webui, run)["state"] == "stopped"


def test_reload_ui_does_not_end_a_run(webui: Webui, pictures: dict[str, Path]) -> None:
    run = start(webui, pictures, output_name="reloaded", max_train_epochs=60, sample_prompts="")
    step = wait(webui, run, lambda found: found["step"] >= 1)["step"]
    starts = webui.starts
    webui.check("reload_ui")
    webui.wait(starts + 1)
    assert wait(webui, run, lambda found: found["step"] > step + 1)["state"] == "running"
    webui.check("training", run_id=run, stop=True)
    assert wait(webui, run)["state"] == "stopped"


def test_a_checkpoint_that_is_gone_when_a_waiting_run_begins(
    webui: Webui, pictures: dict[str, Path], data: Path
) -> None:
    name = webui.check("settings")["info"][0]
    first = start(webui, pictures, output_name="in_front", max_train_epochs=40, sample_prompts="")
    wait(webui, first, lambda found: found["step"] >= 1)
    second = start(webui, pictures, output_name="too_late", max_train_epochs=40, sample_prompts="")
    webui.post("/sdapi/v1/options", {"sd_model_checkpoint": "other.safetensors"})
    try:
        webui.check("training", run_id=first, stop=True)
        assert wait(webui, first)["state"] == "stopped"
        done = wait(webui, second)
    finally:
        webui.post("/sdapi/v1/options", {"sd_model_checkpoint": name})
    assert (done["state"], done["step"], done["lora"]) == ("failed", 0, None)
    assert done["error"] == (
        "the run has ended before its first step, since another checkpoint is live now: other.safetensors: "
        f"load {name} and start again with the same settings."
    )
    assert not list((data / "models" / "Lora").glob("too_late*"))
