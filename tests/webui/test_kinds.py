"""Every kind of adapter in the webui: its own Lora extension and our live adapter make the same picture of one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from tests.webui.server import Webui

pytestmark = pytest.mark.slow

PROMPT = "1girl, hat"
SIZES = {"network_dim": 4, "network_alpha": 4, "train_data_dir": "x", "output_name": "x"}
KINDS: dict[str, dict[str, Any]] = {
    "lora": {},
    "lora_conv": {"conv_dim": 4, "conv_alpha": 4},
    "dora": {"dora_wd": True},
    "locon_tucker": {"algo": "locon", "conv_dim": 4, "use_tucker": True},
    "loha": {"algo": "loha"},
    "loha_conv": {"algo": "loha", "conv_dim": 4},
    "lokr": {"algo": "lokr", "factor": 4},
    "lokr_conv": {"algo": "lokr", "factor": 4, "conv_dim": 4},
    "norms": {"train_norm": True},
    "ia3": {"algo": "ia3"},
    "dylora": {"algo": "dylora", "block_size": 1},
    "lora_fa": {"algo": "lora-fa"},
    "diag_oft": {"algo": "diag-oft"},
    "boft": {"algo": "boft", "network_dim": 8},
    "oft": {"algo": "oft"},
    "glora": {"algo": "glora"},
    "full": {"algo": "full", "preset": "full"},
}
STRONG = {"full": 0.004, "diag_oft": 0.02, "boft": 0.02, "oft": 0.02, "ia3": 0.05, "norms": 0.02}
"""Deviation of what is put into every trained number, so that the picture moves and stays one."""


@pytest.fixture(scope="module")
def written(webui: Webui) -> dict[str, Path]:
    """A file of each kind with numbers that are not zero, in the webui's LoRA folder."""
    found = {}
    for name, options in KINDS.items():
        path = webui.data / "models" / "Lora" / f"kind_{name}.safetensors"
        webui.check("grid.write_kind", path=str(path), options={**SIZES, **options}, spread=STRONG.get(name, 0.05))
        found[name] = path
    webui.post("/sdapi/v1/refresh-loras")
    return found


@pytest.mark.parametrize("name", list(KINDS))
def test_the_same_picture(webui: Webui, written: dict[str, Path], name: str) -> None:
    plain = np.frombuffer(webui.picture(PROMPT), dtype=np.uint8).astype(int)
    theirs = np.frombuffer(webui.picture(f"{PROMPT} <lora:kind_{name}:1>"), dtype=np.uint8).astype(int)
    webui.check("weights_in_lease")  # takes the prompt's LoRA out
    ours = webui.check("families.picture_with_adapter", path=str(written[name]), prompts=[PROMPT], seeds=[5])
    shown = np.frombuffer(bytes.fromhex(ours["pixels"]), dtype=np.uint8).astype(int)
    assert ours["left"] == []
    assert np.abs(theirs - plain).mean() > 0.5, "the file does nothing"
    assert np.abs(theirs - shown).max() <= 2, f"{np.abs(theirs - plain).mean():.1f} from plain"
