"""Our axes in the webui's own X/Y/Z plot."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("torch")

from tests.webui.test_prompt import make, picture, shown  # noqa: E402

if TYPE_CHECKING:
    from tests.webui.server import Webui
    from tests.webui.test_prompt import Pixels

pytestmark = pytest.mark.slow

SHORT = {"steps": 2}


def plot(webui: Webui, prompt: str, x: tuple[str, Any], y: tuple[str, Any] = ("Nothing", "")) -> list[Pixels]:
    """The cells, row by row. Values are text, or a list where the axis has choices."""
    info = webui.get("/sdapi/v1/script-info")
    script = next(s for s in info if s["name"] == "x/y/z plot" and not s["is_img2img"])
    labels = script["args"][0]["choices"]
    values: list[Any] = []
    for label, given in (x, y, ("Nothing", "")):
        listed = given if isinstance(given, list) else []
        values += [labels.index(label), "" if listed else given, listed]
    # draw legend, lone images, sub grids, keep -1 for seeds, vary seeds for x, y, z, margin, csv mode
    switches = [False, True, False, False, False, False, False, 0, False]
    return shown(make(webui, prompt, script_name="x/y/z plot", script_args=[*values, *switches], **SHORT))


def test_presets_against_blocks(webui: Webui) -> None:
    presets, blocks = ["OUTALL", "ALL0.5", "NONE"], ["OUT05", "NOT M00", "IN04 M00=0.25"]
    found = plot(webui, "<lora:probe_lora:1>", ("[LoRA Lab] Preset", presets), ("[LoRA Lab] Block", ", ".join(blocks)))
    rules = "NOT OUT05::0", "M00::0", "IN04 M00::0.25"
    wanted = [
        picture(webui, f"<lora:probe_lora:1:lbw={preset}:lbwe={rule}>", **SHORT) for rule in rules for preset in presets
    ]
    assert len(found) == 10
    assert all((one == other).all() for one, other in zip(found[-9:], wanted, strict=True))
    assert (wanted[2] == picture(webui, "", **SHORT)).all()
    assert len({each.tobytes() for each in wanted}) > 5


def test_strengths_against_snapshots(webui: Webui) -> None:
    folder = webui.data / "models" / "Lora"
    shutil.copy(folder / "probe_lora.safetensors", folder / "probe_lora-000001.safetensors")
    webui.post("/sdapi/v1/refresh-loras")
    names, strengths = ["probe_lora-000001", "probe_lora"], ["1", "0.5/1", "0"]
    x, y = ("[LoRA Lab] Strength", ",".join(strengths)), ("[LoRA Lab] Snapshot", names)
    found = plot(webui, "<lora:probe_lora:0.3:lbw=OUTALL>", x, y)[-6:]
    wanted = [picture(webui, f"<lora:probe_lora:{s}:lbw=OUTALL>", **SHORT) for s in ("1:1", "0.5:1", "0:0")]
    assert all((one == other).all() for one, other in zip(found, wanted * 2, strict=True))


@pytest.mark.parametrize(
    ("prompt", "label", "values", "sentence"),
    [
        ("", "Preset", ["OUTALL"], "the prompt has no LoRA to change"),
        ("<lora:probe_lora:1>", "Preset", ["OUTALL", "OUTAL"], "there are no block weights named 'OUTAL'"),
        ("<lora:probe_lora:1>", "Block", "OUT04, OUT99", "OUT99"),
        ("<lora:probe_lora:1>", "Strength", "1,much", "'much' is no strength"),
        ("<lora:probe_lora:1>", "Snapshot", ["probe_lora", "nothing"], "there is no LoRA named 'nothing'"),
    ],
)
def test_what_is_wrong_is_said_before_the_first_picture(
    webui: Webui, prompt: str, label: str, values: str | list[str], sentence: str
) -> None:
    with pytest.raises(RuntimeError, match=sentence):
        plot(webui, prompt, (f"[LoRA Lab] {label}", values))
