"""SD2 (v-prediction) and SDXL in a real webui: called as it calls them, trained, their LoRAs read by its own code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.webui.conftest import started
from tests.webui.test_training import SMALL, pictures, wait  # noqa: F401 - `pictures` is a fixture

if TYPE_CHECKING:
    from tests.webui.server import Webui

pytestmark = pytest.mark.slow

PROMPT = "1girl, hat"
SITES = {"sd2": {"unet": 192, "text_encoder": 138}, "sdxl": {"unet": 722, "text_encoder": 72, "text_encoder_2": 192}}
MATCHED = {
    # The UNet's 192 are linear in SD2; of each layer's six in open_clip three hang on the attention itself.
    "sd2": {"Linear": 192 + 23 * 2, "NonDynamicallyQuantizableLinear": 23, "MultiheadAttention": 23 * 3},
    "sdxl": {"Linear": 722 + 72 + 32 * 2, "NonDynamicallyQuantizableLinear": 32, "MultiheadAttention": 32 * 3},
}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webui]:
    """A webui with a checkpoint of each family."""
    import os

    from tests.webui.server import add_families, lay_out

    data = tmp_path_factory.mktemp("families") / "data"
    folder, python = Path(os.environ["LORA_LAB_WEBUI"]), Path(os.environ["LORA_LAB_WEBUI_PYTHON"])
    lay_out(folder, data)
    add_families(folder, python, data)
    found = started(data)
    yield found
    found.stop()


@pytest.fixture(scope="module", params=["sd2", "sdxl"])
def family(request: pytest.FixtureRequest, servers: Webui) -> str:
    """One of them, loaded."""
    servers.post("/sdapi/v1/options", {"sd_model_checkpoint": f"tiny_{request.param}.safetensors"})
    return str(request.param)


@pytest.fixture(scope="module")
def trained(family: str, servers: Webui, pictures: dict[str, Path]) -> dict[str, Any]:  # noqa: F811
    """A LoRA trained on it, strong enough to be seen."""
    values = {**SMALL, "unet_lr": 1e-2, "text_encoder_lr": 1e-2, "max_train_epochs": 2}
    data = {"train_data_dir": str(pictures["character"]), "output_name": f"of_{family}"}
    run = servers.check("start_training", values={**values, **data})
    return wait(servers, run)


def picture(servers: Webui, prompt: str) -> np.ndarray[Any, Any]:
    return np.frombuffer(servers.picture(prompt), dtype=np.uint8).astype(int)


@pytest.mark.parametrize("caption", [PROMPT, "", "red hair " * 60])
def test_the_unet_is_told_what_the_webui_tells_it(family: str, servers: Webui, caption: str) -> None:
    found = servers.check("families.conditioning", caption=caption)
    assert found["context"] == 0
    assert found["size"] > 0
    assert found["unet"] < 1e-5
    assert found["tokens"] == (154 if len(caption) > 99 else 77)


def test_latents(family: str, servers: Webui) -> None:
    found = servers.check("families.latents")
    assert found["scale"] == pytest.approx(0.13025 if family == "sdxl" else 0.18215)
    assert 0 < found["spread"] < 1
    assert found["back"] == 0
    assert (found["family"], found["prediction"]) == (family, "v_prediction" if family == "sd2" else "epsilon")


def test_every_site_learns_and_nothing_is_left(family: str, servers: Webui) -> None:
    found = servers.check("families.steps_leave_nothing")
    assert found["left"] == []
    assert found["open"] == 0
    wanted = dict(SITES[family])
    wanted["text_encoder"] -= 6 if family == "sdxl" else 0  # its last layer is behind the states that are taken
    assert found["reached"] == wanted


def test_it_trains_and_the_webui_reads_the_file(family: str, servers: Webui, trained: dict[str, Any]) -> None:
    assert (trained["state"], trained["error"]) == ("finished", "")
    assert trained["sites"] == sum(SITES[family].values())
    assert trained["previews"]
    plain = picture(servers, PROMPT)
    with_lora = picture(servers, f"{PROMPT} <lora:of_{family}:1>")
    assert servers.check("families.matched", lora=f"of_{family}") == MATCHED[family]
    assert np.abs(with_lora - plain).mean() > 1
    servers.check("weights_in_lease")
    ours = servers.check("families.picture_with_adapter", path=trained["lora"], prompts=[PROMPT])
    assert ours["left"] == []
    shown = np.frombuffer(bytes.fromhex(ours["pixels"]), dtype=np.uint8).astype(int)
    # The file is in half precision in both; only the order of additions differs.
    assert np.abs(shown - with_lora).mean() < 0.05 * np.abs(with_lora - plain).mean()
    assert (picture(servers, PROMPT) == plain).all()


def test_a_prompts_lora_acts_beside_our_adapter(family: str, servers: Webui, trained: dict[str, Any]) -> None:
    """In a preview of ours, also on open_clip's attention, whose own forward our adapter shadows."""
    prompts = [f"{PROMPT} <lora:of_{family}:1>"]
    twice = servers.check("families.picture_with_adapter", path=trained["lora"], prompts=prompts)
    wanted = picture(servers, f"{PROMPT} <lora:of_{family}:2>")
    once = picture(servers, f"{PROMPT} <lora:of_{family}:1>")
    shown = np.frombuffer(bytes.fromhex(twice["pixels"]), dtype=np.uint8).astype(int)
    assert np.abs(wanted - once).mean() > 0.5
    assert np.abs(shown - wanted).mean() < 0.1 * np.abs(wanted - once).mean()


def test_settings_for_another_prediction_are_refused(family: str, servers: Webui, pictures: dict[str, Path]) -> None:  # noqa: F811
    wrong = {"v2": True} if family == "sd2" else {"v_parameterization": True}
    values = {**SMALL, "train_data_dir": str(pictures["character"]), "output_name": "wrong", **wrong}
    with pytest.raises(AssertionError, match="means a checkpoint that predicts"):
        servers.check("start_training", values=values)
