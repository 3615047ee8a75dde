"""Pictures through our host are txt2img's own, and leave no trace."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from tests.webui.server import Webui


def pixels(found: dict[str, Any], index: int = 0) -> bytes:
    return bytes.fromhex(found["pixels"][index][1])


@pytest.mark.parametrize(
    ("sampler", "prompt"),
    [
        ("Euler", "1girl, hat"),
        ("Euler a", "(hat:1.4), [dog]"),
        ("DDIM", "1girl <lora:probe_lora:0.7>"),
        ("DPM++ 2M", "1girl AND hat"),
        ("UniPC", ""),
    ],
)
def test_same_as_txt2img(webui: Webui, sampler: str, prompt: str) -> None:
    theirs = webui.picture(prompt, seed=9, sampler_name=sampler)
    webui.check("weights_in_lease")  # takes the prompt's LoRA out, which only its next picture puts back
    found = webui.check("pictures", prompts=[prompt], seeds=[9], sampler=sampler)
    assert found["left"] == []
    assert pixels(found) == theirs
    assert "Steps: 4" in found["texts"][0]


def test_a_batch_of_different_prompts(webui: Webui) -> None:
    found = webui.check("pictures", prompts=["hat", "dog", "cat"], seeds=[1, 2, 3], negative="bow")
    assert len({each[1] for each in found["pixels"]}) == 3
    assert [f"Seed: {seed}" in text for seed, text in zip((1, 2, 3), found["texts"], strict=True)] == [True] * 3
    assert all("Negative prompt: bow" in text for text in found["texts"])


def test_clip_skip(webui: Webui) -> None:
    theirs = webui.picture(override_settings={"CLIP_stop_at_last_layers": 2})
    found = webui.check("pictures", clip_skip=2)
    assert pixels(found) == theirs != webui.picture()
    assert found["left"] == []


def test_what_is_trained_shows_and_stays_ours(webui: Webui) -> None:
    plain = webui.picture()
    trained = webui.check("pictures", trained=True)
    assert pixels(trained) != plain
    assert trained["left"] == []
    # The same prompt again: with a conditioning of ours in the webui's cache it would be another picture.
    assert webui.picture() == plain


def test_after_a_picture_with_a_lora_and_without(webui: Webui) -> None:
    plain = webui.picture()
    webui.picture("1girl, hat <lora:probe_lora:1>")
    assert pixels(webui.check("pictures")) == plain


def test_img2img_is_the_webuis_own(webui: Webui) -> None:
    noise = np.random.RandomState(0).randint(0, 256, (64, 64, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    picture = base64.b64encode(file.getvalue()).decode()
    body = {"prompt": "1girl, hat", "seed": 5, "width": 64, "height": 64, "steps": 8, "sampler_name": "Euler a"}
    more = {"init_images": [picture], "denoising_strength": 0.6}
    answer = webui.post("/sdapi/v1/img2img", {**body, **more})
    theirs = Image.open(io.BytesIO(base64.b64decode(answer["images"][0]))).convert("RGB").tobytes()
    found = webui.check("pictures", start_from=picture, denoise=0.6, steps=8)
    assert found["left"] == []
    assert pixels(found) == theirs != webui.picture(steps=8)


def test_unknown_sampler(webui: Webui) -> None:
    found = webui.check("pictures", sampler="Eulr")
    assert found["refused"].startswith("SettingsError: The webui has no sampler 'Eulr': choose one of ")
    assert found["left"] == []


def test_lopsided_request(webui: Webui) -> None:
    found = webui.check("pictures", prompts=["a", "b"], seeds=[1])
    assert found["refused"].startswith("SettingsError: pictures need one seed for each prompt, not 1 for 2")
