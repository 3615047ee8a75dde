"""Block weights, layers and steps in the webui's own prompts."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")

from lora_lab.families import BASE, Family  # noqa: E402
from lora_lab.network.blocks import block_names  # noqa: E402
from lora_lab.surgery.bake import BakeRequest, bake  # noqa: E402
from lora_lab.surgery.uses import AdapterUse  # noqa: E402
from tests.webui.test_kinds import KINDS, written  # noqa: E402, F401 - `written` is a fixture

if TYPE_CHECKING:
    from tests.webui.server import Webui

    Pixels = np.ndarray[Any, Any]

pytestmark = pytest.mark.slow

PROMPT = "1girl, hat"
NOT_BAKED = ("dora", "oft", "diag_oft", "boft", "glora")
"""Kinds whose files have no place for a strength that the webui reads."""
WEIGHTS = {BASE: 0.5, "IN04": 0.25, "M00": 0.75, "OUT05": 0.3, "IN00": 0.5, "OUT11": 0.1}
LIST = ",".join(f"{WEIGHTS.get(block, 1.0):g}" for block in block_names(Family.SD1))


def shown(answer: dict[str, Any]) -> list[Pixels]:
    """The pictures of an answer of the API."""
    files = (Image.open(io.BytesIO(base64.b64decode(image))) for image in answer["images"])
    return [np.asarray(file.convert("RGB")).astype(int) for file in files]


def make(webui: Webui, prompt: str, verb: str = "txt2img", **changes: Any) -> dict[str, Any]:
    body = {"prompt": f"{PROMPT} {prompt}", "seed": 5, "width": 64, "height": 64, "steps": 4, "sampler_name": "Euler a"}
    answer: dict[str, Any] = webui.post(f"/sdapi/v1/{verb}", {**body, **changes})
    return answer


def picture(webui: Webui, prompt: str, **changes: Any) -> Pixels:
    return shown(make(webui, prompt, **changes))[0]


def by_hand(webui: Webui, name: str, weights: dict[str, float], new: str) -> None:
    """A file with the weights baked in, in the LoRA folder."""
    folder = webui.data / "models" / "Lora"
    use = AdapterUse(folder / f"{name}.safetensors", blocks=weights)
    bake(BakeRequest(use, folder / f"{new}.safetensors", force=True))
    webui.post("/sdapi/v1/refresh-loras")


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_kind(webui: Webui, written: dict[str, Path], kind: str) -> None:  # noqa: F811
    name, short = f"kind_{kind}", {"steps": 2}
    plain, whole = picture(webui, "", **short), picture(webui, f"<lora:{name}:1>", **short)
    assert np.abs(whole - plain).mean() > 0.5, "the file does nothing"
    part = picture(webui, f"<lora:{name}:1:lbw={LIST}>", **short)
    assert min(np.abs(part - plain).mean(), np.abs(part - whole).mean()) > 0.05
    assert (picture(webui, f"<lora:{name}:1:lbw=ALL>", **short) == whole).all()
    assert (picture(webui, f"<lora:{name}:1:lbw=NONE>", **short) == plain).all()
    if kind in NOT_BAKED:
        half = picture(webui, f"<lora:{name}:0.5>", **short)
        assert (picture(webui, f"<lora:{name}:1:lbw=ALL0.5>", **short) == half).all()
    else:
        by_hand(webui, name, WEIGHTS, f"baked_{kind}")
        assert np.abs(picture(webui, f"<lora:baked_{kind}:1>", **short) - part).max() <= 2


LISTS = ("", "<lora:probe_lora:1>", "<lora:probe_lora:1:lbw=OUTALL>", f"<lora:probe_lora:1:lbw={LIST}>",
         "<lora:probe_lora:0.5:1:lbw=INALL:x=3>", "<lora:probe_lora:1:lbwe=OUT05::0>")  # fmt: skip


@pytest.mark.parametrize("limit", [0, 3])
def test_what_layers_hold_and_what_is_kept_in_memory(webui: Webui, limit: int) -> None:
    """Nothing of the picture before is left, nor taken for the next."""
    webui.post("/sdapi/v1/options", {"lora_in_memory_limit": limit})
    try:
        alone = [picture(webui, tag, steps=2) for tag in LISTS]
        assert len({each.tobytes() for each in alone}) == len(LISTS)
        for place in (3, 1, 5, 2, 4, 0, 4, 4, 1, 2, 0):
            assert (picture(webui, LISTS[place], steps=2) == alone[place]).all()
    finally:
        webui.post("/sdapi/v1/options", {"lora_in_memory_limit": 0})


def test_the_old_way_of_applying(webui: Webui) -> None:
    tags = "", "<lora:probe_lora:1>", f"<lora:probe_lora:1:lbw={LIST}>"
    new = [picture(webui, tag) for tag in tags]
    picture(webui, "")  # the old way takes nothing out of the weights
    webui.post("/sdapi/v1/options", {"lora_functional": True})
    try:
        for tag, wanted in zip(tags, new, strict=True):
            assert np.abs(picture(webui, tag) - wanted).max() <= 2
        assert (picture(webui, "<lora:probe_lora:1:lbw=NONE>") == picture(webui, "")).all()
    finally:
        webui.post("/sdapi/v1/options", {"lora_functional": False})


def test_hires(webui: Webui) -> None:
    hires = {"enable_hr": True, "hr_scale": 2, "hr_upscaler": "Latent", "denoising_strength": 0.7}
    plain = picture(webui, "", **hires)
    whole = picture(webui, "<lora:probe_lora:1>", **hires)
    assert plain.shape == (128, 128, 3)
    assert (picture(webui, "<lora:probe_lora:1:lbw=ALL>", **hires) == whole).all()
    assert (picture(webui, "<lora:probe_lora:1:lbw=NONE>", **hires) == plain).all()
    by_hand(webui, "probe_lora", WEIGHTS, "baked_hires")
    wanted = picture(webui, "<lora:baked_hires:1>", **hires)
    assert np.abs(picture(webui, f"<lora:probe_lora:1:lbw={LIST}>", **hires) - wanted).max() <= 2
    other = picture(webui, f"<lora:probe_lora:1:lbw={LIST}>", **hires, hr_prompt=f"{PROMPT} <lora:probe_lora:1>")
    assert np.abs(other - wanted).mean() > 0.05


def test_img2img(webui: Webui) -> None:
    noise = np.random.RandomState(0).randint(0, 256, (64, 64, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    start = {"verb": "img2img", "init_images": [base64.b64encode(file.getvalue()).decode()], "denoising_strength": 0.7}
    plain = picture(webui, "", **start)
    whole = picture(webui, "<lora:probe_lora:1>", **start)
    assert (picture(webui, "<lora:probe_lora:1:lbw=ALL>", **start) == whole).all()
    assert (picture(webui, "<lora:probe_lora:1:lbw=NONE>", **start) == plain).all()
    by_hand(webui, "probe_lora", WEIGHTS, "baked_img2img")
    wanted = picture(webui, "<lora:baked_img2img:1>", **start)
    assert np.abs(picture(webui, f"<lora:probe_lora:1:lbw={LIST}>", **start) - wanted).max() <= 2


def test_batches(webui: Webui) -> None:
    many = {"batch_size": 2, "n_iter": 2}
    plain, whole = shown(make(webui, "", **many)), shown(make(webui, "<lora:probe_lora:1>", **many))
    ones = shown(make(webui, "<lora:probe_lora:1:lbw=ALL>", **many))
    none = shown(make(webui, "<lora:probe_lora:1:lbw=NONE>", **many))
    by_hand(webui, "probe_lora", WEIGHTS, "baked_batch")
    wanted = shown(make(webui, "<lora:baked_batch:1>", **many))
    part = shown(make(webui, f"<lora:probe_lora:1:lbw={LIST}>", **many))
    assert len({each.tobytes() for each in part[-4:]}) == 4
    for place in range(-4, 0):
        assert (ones[place] == whole[place]).all()
        assert (none[place] == plain[place]).all()
        assert np.abs(part[place] - wanted[place]).max() <= 2


def test_several_and_the_same_twice(webui: Webui, written: dict[str, Path]) -> None:  # noqa: F811
    sides = "<lora:probe_lora:0.25:lbw=INALL> <lora:probe_lora:0.5:lbw=OUTALL>"
    one = ",".join(
        f"{0.75 if block == BASE else 0.25 if block.startswith('IN') else 0.5 if block.startswith('OUT') else 0:g}"
        for block in block_names(Family.SD1)
    )
    wanted = picture(webui, f"<lora:probe_lora:1:lbw={one}>")
    assert np.abs(picture(webui, sides) - wanted).max() <= 2
    # One of them plain: each has its own strength, where the webui alone would give both the last one's.
    twice = picture(webui, "<lora:probe_lora:0.25> <lora:probe_lora:0.5:lbw=ALL>")
    assert np.abs(picture(webui, "<lora:probe_lora:0.75>") - twice).max() <= 2
    by_hand(webui, "probe_lora", WEIGHTS, "baked_one")
    beside = picture(webui, f"<lora:probe_lora:1:lbw={LIST}> <lora:kind_lora:0.7>")
    assert np.abs(picture(webui, "<lora:baked_one:1> <lora:kind_lora:0.7>") - beside).max() <= 2


def test_steps(webui: Webui) -> None:
    whole = picture(webui, "<lora:probe_lora:1>")
    text_only = picture(webui, "<lora:probe_lora:1:0>")
    assert (picture(webui, "<lora:probe_lora:1:step=1-5>") == whole).all()
    assert (picture(webui, "<lora:probe_lora:1:stop=99>") == whole).all()
    assert (picture(webui, "<lora:probe_lora:1:start=5>") == text_only).all()
    for window, steps in {"step=2-4": [1, 2], "start=3": [2, 3], "stop=2": [0]}.items():
        wanted = webui.check("prompt.acting_in", prompt=f"{PROMPT} <lora:probe_lora:1>", steps=steps)
        found = picture(webui, f"<lora:probe_lora:1:{window}>")
        assert found.astype(np.uint8).tobytes().hex() == wanted
        # The last steps of a picture change few of its pixels.
        assert min(np.abs(found - whole).max(), np.abs(found - text_only).max()) > 0
    hires = {"enable_hr": True, "hr_scale": 2, "hr_upscaler": "Latent", "denoising_strength": 0.7}
    wanted = picture(webui, "<lora:probe_lora:1>", **hires)
    assert (picture(webui, "<lora:probe_lora:1:step=1-5>", **hires) == wanted).all()
    assert (picture(webui, "<lora:probe_lora:1>") == whole).all()


def infotext(answer: dict[str, Any]) -> str:
    return str(json.loads(answer["info"])["infotexts"][0])


def test_what_was_drawn_is_in_the_infotext(webui: Webui) -> None:
    tag = "<lora:probe_lora:1:lbw=R,1,1,U,1,1,1,X,1,1,X-0.5,1,1,1,1,1,1:x=0.75>"
    answer = make(webui, tag)
    found = re.search(r'Lora block weights: "probe_lora: ([-\d.,]+)"', infotext(answer))
    assert found, infotext(answer)
    values = found[1].split(",")
    assert (values[7], values[10], len(values)) == ("0.75", "0.25", 17)
    assert (picture(webui, f"<lora:probe_lora:1:lbw={found[1]}>") == shown(answer)[0]).all()
    assert (picture(webui, tag) == shown(answer)[0]).all()
    assert found[1] not in infotext(make(webui, tag, seed=6))
    assert "Lora block weights" not in infotext(make(webui, "<lora:probe_lora:1>"))


def test_a_drawn_base_is_encoded_anew(webui: Webui) -> None:
    """The webui keeps the states of a prompt that is the same as the last one."""
    tag = "<lora:probe_lora:1:lbw=R" + ",0" * 16 + ">"
    first, second = picture(webui, tag), picture(webui, tag, seed=6)
    assert (picture(webui, "", seed=6) != second).any()
    picture(webui, "")
    assert (picture(webui, tag, seed=6) == second).all()
    assert (picture(webui, tag) == first).all()


@pytest.mark.parametrize(
    ("tag", "sentence"),
    [
        ("<lora:probe_lora:1:lbw=1,0,1>", "<lora:probe_lora>: 3 block weights do not fit sd1: give 17 or 26 values"),
        ("<lora:probe_lora:1:lbw=OUTAL>", "there are no block weights named 'OUTAL'"),
        ("<lora:probe_lora:1:lbw=" + ",".join("1" * 12) + ">", "12 block weights, which are SDXL's, do not fit sd1"),
        ("<lora:probe_lora:1:lbw=INX:x=half>", "x is 'half', which is no number"),
    ],
)
@pytest.mark.parametrize("where", ["prompt", "hr_prompt"])
def test_a_wrong_list_ends_in_a_sentence(webui: Webui, tag: str, sentence: str, where: str) -> None:
    plain = picture(webui, "")
    body = {"enable_hr": True, "hr_upscaler": "Latent", "hr_prompt": tag} if where == "hr_prompt" else {}
    with pytest.raises(RuntimeError, match=re.escape(sentence)):
        make(webui, tag if where == "prompt" else "", **body)
    assert (picture(webui, "") == plain).all()


def test_silent_beside_the_other_extension(webui: Webui) -> None:
    found = webui.check("prompt.beside_the_other_extension")
    assert found["before"] == "PromptLoras"
    assert found["theirs"]
    assert found["said"] == ["sd-webui-lora-block-weight is installed: it reads lbw= in prompts, LoRA Lab does not"]
