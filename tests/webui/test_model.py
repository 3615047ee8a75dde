"""Our calls of the live model beside the webui's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.webui.server import Webui

PLAIN = ["1girl", "1girl, red hair, smile", "", "a photo of a cat in a hat, 3 dogs; été"]


@pytest.mark.parametrize("clip_skip", [1, 2])
@pytest.mark.parametrize("caption", PLAIN)
def test_tokens_and_states_of_plain_captions(webui: Webui, caption: str, clip_skip: int) -> None:
    found = webui.check("tokens_and_states", caption=caption, clip_skip=clip_skip)
    assert found["ours"] == found["theirs"]
    assert found["equal"]
    assert found["counted"] == found["length"]


def test_brackets_are_text(webui: Webui) -> None:
    found = webui.check("tokens_and_states", caption="saber (fate), [x]", clip_skip=1)
    assert found["ours"] != found["theirs"]


def test_long_caption_without_commas_is_cut_into_the_same_chunks(webui: Webui) -> None:
    found = webui.check("tokens_and_states", caption="red hair " * 60, clip_skip=1)
    assert len(found["ours"]) == 2
    assert found["ours"] == found["theirs"]


def test_conditioning_of_the_whole_pipeline(webui: Webui) -> None:
    assert webui.check("webui_conditioning", caption="1girl, blue hair") == 0


def test_unet_and_vae(webui: Webui) -> None:
    found = webui.check("predict_and_vae")
    assert found["unet"] < 1e-5
    assert found["unet_same_attention"]
    assert found["vae"]
    assert found["decoded"]
    assert found["drawn"] > 0
    assert found["alphas"] == [1000]


def test_what_the_host_says(webui: Webui, data: Path) -> None:
    found = webui.check("settings")
    assert found["lora_dir"] == str(data / "models" / "Lora")
    assert found["data_dir"] == str(data / "lora-lab")
    assert found["roots"] == []
    assert found["info"][1:3] == ["sd1", "epsilon"]
    assert found["hashes"][0] is None, "the webui runs with --no-hashing"
    assert len(found["hashes"][1]) == 8
    assert found["memory"][2] > found["memory"][0] > 0


def test_interrupts(webui: Webui) -> None:
    assert webui.check("interrupts") == {
        "nobody pressed": False,
        "pressed while idle": True,
        "told once": False,
        "pressed in a lease": True,
        "pressed in a lease, a picture began since": True,
        "pressed in a picture": False,
        "and the picture still knows": True,
        "after that picture": False,
        "a picture's, left over from before a lease": False,
    }


def test_a_saved_lora_is_listed_at_once(webui: Webui, data: Path) -> None:
    folder = data / "models" / "Lora"
    path = folder / "just saved.safetensors"
    path.write_bytes((folder / "probe_lora.safetensors").read_bytes())
    assert "just saved" in webui.check("saved", path=str(path))
    assert "just saved" in {found["name"] for found in webui.get("/sdapi/v1/loras")}
    assert webui.picture("1girl <lora:just saved:1>") != webui.picture("1girl")


def test_an_overwritten_lora_is_not_stale(webui: Webui, data: Path) -> None:
    import os

    from safetensors.torch import load_file, save_file

    folder = data / "models" / "Lora"
    path = folder / "overwritten.safetensors"
    tensors = load_file(folder / "probe_lora.safetensors")
    save_file(tensors, path)
    webui.check("saved", path=str(path))
    plain, first = webui.picture("1girl"), webui.picture("1girl <lora:overwritten:1>")
    save_file({key: tensor * (0 if "up" in key else 1) for key, tensor in tensors.items()}, path)
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime + 5))
    webui.check("saved", path=str(path))
    assert plain != first
    assert webui.picture("1girl <lora:overwritten:1>") == plain
