"""A grid's cells in the real webui are its own pictures of a file with the weights baked in: every kind and family."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("torch")

from lora_lab.families import Family  # noqa: E402
from lora_lab.surgery.bake import BakeRequest, bake  # noqa: E402
from lora_lab.surgery.uses import AdapterUse  # noqa: E402
from lora_lab.testing import rows  # noqa: E402
from tests.webui.test_families import servers  # noqa: E402, F401 - a fixture
from tests.webui.test_kinds import KINDS, SIZES, STRONG  # noqa: E402
from tests.webui.test_prompt import PROMPT, picture, shown  # noqa: E402

if TYPE_CHECKING:
    from tests.webui.server import Webui

pytestmark = pytest.mark.slow

SEEDS, SHORT, CLOSE = (5, 9), {"steps": 2}, 2
SPREAD = {**STRONG, "full": 0.002}
"""More makes of the random checkpoints ones in which rounding alone moves pixels."""
NO_STRENGTH = ("dora", "oft", "diag_oft", "boft")
"""Kinds whose files have no place for a strength: blocks are left out of them, or stay."""
OWN = {
    Family.SD1: "0.5,1,0.25,1,1,0,1,0.75,1,0,0.3,1,0,1,1,0.1,1",
    Family.SDXL: "0.5,1,0.25,0,1,0.75,1,0.3,0,1,0.1,1",
}


@pytest.fixture(scope="module", params=["sd1", "sd2", "sdxl"])
def loaded(request: pytest.FixtureRequest) -> tuple[Webui, Family]:
    """A webui with a checkpoint of the family."""
    kind = Family(request.param)
    found: Webui = request.getfixturevalue("webui" if kind is Family.SD1 else "servers")
    if kind is not Family.SD1:
        found.post("/sdapi/v1/options", {"sd_model_checkpoint": f"tiny_{kind.value}.safetensors"})
    return found, kind


@pytest.fixture
def lora(loaded: tuple[Webui, Family], kind: str) -> Iterator[Path]:
    """A file of the kind."""
    webui, _ = loaded
    path = webui.data / "models" / "Lora" / f"cell_{kind}.safetensors"
    options = {**SIZES, **KINDS[kind]}
    assert webui.check("grid.write_kind", path=str(path), options=options, spread=SPREAD.get(kind, 0.05)) > 16
    webui.post("/sdapi/v1/refresh-loras")
    yield path
    path.unlink()


def pixels(cell: str) -> np.ndarray[Any, Any]:
    return np.frombuffer(bytes.fromhex(cell), dtype=np.uint8).reshape(64, 64, 3).astype(int)


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_cell_is_the_webuis_picture_of_a_baked_file(loaded: tuple[Webui, Family], lora: Path, kind: str) -> None:
    webui, family = loaded
    own = OWN[Family.SDXL if family is Family.SDXL else Family.SD1]
    if kind in NO_STRENGTH:
        own = ",".join(f"{float(float(value) > 0.3):g}" for value in own.split(","))
    wanted = ["ALL", "OUTALL", f"own={own}", "NONE"]
    cells = webui.check("grid.cells", lora=str(lora), weights=wanted, prompt=PROMPT, seeds=SEEDS, batch=8, **SHORT)
    plain = picture(webui, "", **SHORT)
    assert np.abs(pixels(cells["base"][0]) - plain).mean() > 0.5, "the file does nothing"
    for text in wanted[:3]:
        row = rows.of_text(text, family)
        baked = lora.with_name(f"baked_{row.label}.safetensors")
        bake(BakeRequest(AdapterUse(lora, blocks=row.blocks), baked, force=True))
        webui.post("/sdapi/v1/refresh-loras")
        for cell, seed in zip(cells[row.label], SEEDS, strict=True):
            alone = picture(webui, f"<lora:{baked.stem}:1>", seed=seed, **SHORT)
            assert np.abs(pixels(cell) - alone).max() <= CLOSE, row.label
        baked.unlink()
    for cell, base, seed in zip(cells["ALL"], cells["base"], SEEDS, strict=True):
        whole = picture(webui, f"<lora:{lora.stem}:1>", seed=seed, **SHORT)
        assert max(np.abs(pixels(cell) - whole).max(), np.abs(pixels(base) - whole).max()) <= CLOSE
    assert np.abs(pixels(cells["NONE"][0]) - plain).max() <= CLOSE
    assert len({cells[label][0] for label in ("ALL", "OUTALL", "own", "NONE")}) == 4
    assert (picture(webui, "", **SHORT) == plain).all()


@pytest.mark.parametrize("kind", ["lora"])
def test_weights_of_zero_are_no_lora_to_the_byte(loaded: tuple[Webui, Family], lora: Path, kind: str) -> None:
    """At the same batch size, seeds and positions: the webui counts seed + i."""
    webui, _ = loaded
    own = {"prompt": PROMPT, "seeds": [5, 6, 7], "batch": 3, **SHORT}
    cells = webui.check("grid.cells", lora=str(lora), weights=["NONE"], **own)
    size = {"width": 64, "height": 64, "sampler_name": "Euler a", "batch_size": 3}
    theirs = shown(webui.post("/sdapi/v1/txt2img", {"prompt": PROMPT, "seed": 5, **size, **SHORT}))[-3:]
    assert len(theirs) == 3
    assert all((pixels(cell) == one).all() for cell, one in zip(cells["NONE"], theirs, strict=True))
