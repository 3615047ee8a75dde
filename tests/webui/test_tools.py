"""What the tools make draws what the prompt draws, in the real webui: within 2 of 255 at every pixel."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from lora_lab.cli import main

if TYPE_CHECKING:
    from tests.webui.server import Webui

pytestmark = pytest.mark.slow

CLOSE = 2
"""Of 255."""


@pytest.fixture(scope="module")
def files(webui: Webui, data: Path) -> Any:
    """The webui's checkpoint and LoRA, and a folder for each kind where the tests put theirs."""
    checkpoints, loras = data / "models" / "Stable-diffusion", data / "models" / "Lora"
    base = next(path for path in sorted(checkpoints.glob("*.safetensors")) if path.stem != "other")
    before = {*checkpoints.iterdir(), *loras.iterdir()}
    yield base, loras / "probe_lora.safetensors"
    for path in {*checkpoints.iterdir(), *loras.iterdir()} - before:
        path.unlink()
    webui.post("/sdapi/v1/refresh-checkpoints")


def tool(*words: object) -> None:
    """Run a verb."""
    assert main([str(word) for word in words]) == 0


def far(one: bytes, other: bytes) -> int:
    """The largest difference of two pictures' pixels, in 255ths."""
    a, b = (np.frombuffer(pixels, np.uint8).astype(int) for pixels in (one, other))
    return int(np.abs(a - b).max())


def drawn_by(webui: Webui, base: Path, merged: Path) -> bytes:
    """The picture of another checkpoint."""
    shutil.copy(base.with_suffix(".yaml"), merged.with_suffix(".yaml"))
    webui.post("/sdapi/v1/refresh-checkpoints")
    return webui.picture(override_settings={"sd_model_checkpoint": merged.name})


def test_merge_is_the_prompts_picture_and_extract_gives_it_back(webui: Webui, files: tuple[Path, Path]) -> None:
    base, lora = files
    merged, back = base.with_name("merged.safetensors"), lora.with_name("extracted.safetensors")
    plain, wanted = webui.picture(), webui.picture("1girl, hat <lora:probe_lora:0.8>")
    assert far(plain, wanted) > 10 * CLOSE, "the LoRA shows"
    tool("merge", f"{lora}:0.8", "--into", base, "-o", merged, "--precision", "float")
    assert far(drawn_by(webui, base, merged), wanted) <= CLOSE
    tool("extract", base, merged, "-o", back, "--rank", "4", "--precision", "float")
    assert far(webui.picture("1girl, hat <lora:extracted:1>"), wanted) <= CLOSE
    assert webui.picture() == plain
    tool("merge", lora, "--undo", merged, "-o", base.with_name("unmerged.safetensors"))
    assert far(drawn_by(webui, base, base.with_name("unmerged.safetensors")), plain) <= CLOSE


def test_bake_draws_the_strengths_picture(webui: Webui, files: tuple[Path, Path]) -> None:
    base, lora = files
    wanted = webui.picture("1girl, hat <lora:probe_lora:0.5:0.9>")
    tool("bake", f"{lora}:te=0.5:unet=0.9", "-o", lora.with_name("baked.safetensors"))
    assert far(webui.picture("1girl, hat <lora:baked:1>"), wanted) <= CLOSE
    # No prompt of the bare webui has block weights: the judge is a checkpoint with them merged in.
    use = f"{lora}:0.9:M00=0.2:IN=0.5"
    tool("bake", use, "-o", lora.with_name("blocks.safetensors"))
    tool("merge", use, "--into", base, "-o", base.with_name("blocks.safetensors"), "--precision", "float")
    picture = webui.picture("1girl, hat <lora:blocks:1>")
    assert far(picture, drawn_by(webui, base, base.with_name("blocks.safetensors"))) <= CLOSE
    assert far(picture, wanted) > CLOSE


def test_resize_and_convert_draw_the_same_picture(webui: Webui, files: tuple[Path, Path]) -> None:
    _, lora = files
    wanted = webui.picture("1girl, hat <lora:probe_lora:1>")
    twice = lora.with_name("twice.safetensors")
    tool("merge", f"{lora}:0.4", f"{lora}:0.6", "-o", twice, "--method", "concat")
    tool("resize", twice, "-o", lora.with_name("resized.safetensors"), "--rank", "4")
    away = lora.parent.parent / "diffusers.safetensors"  # a layout that the webui does not read
    tool("convert", lora, "-o", away, "--layout", "diffusers")
    tool("convert", away, "-o", lora.with_name("converted.safetensors"), "--layout", "kohya")
    away.unlink()
    for name in ("twice", "resized", "converted"):
        assert far(webui.picture(f"1girl, hat <lora:{name}:1>"), wanted) <= CLOSE, name
