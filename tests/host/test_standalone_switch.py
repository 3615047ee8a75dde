"""Other checkpoints standalone for a while, and what a file's header tells of it."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from safetensors.torch import load_file, save_file  # noqa: E402

from lora_lab.demo.export import export  # noqa: E402
from lora_lab.errors import CheckpointError, HostBusyError, Interrupted  # noqa: E402
from lora_lab.host import standalone_load  # noqa: E402
from lora_lab.host.standalone import StandaloneHost  # noqa: E402
from tests.host.test_standalone import host, request  # noqa: E402, F401 - `host` is a fixture

# ruff: noqa: F811 - the fixture


@pytest.mark.parametrize("way_out", [None, Interrupted])
def test_other_checkpoints_for_a_while(tmp_path: Path, way_out: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = export(tmp_path / "own")
    weights = load_file(made["checkpoint"])
    weights["model.diffusion_model.out.2.weight"] *= -0.5
    save_file(weights, tmp_path / "own" / "other.safetensors")
    shutil.copy(made["config"], tmp_path / "own" / "other.yaml")
    found = StandaloneHost(made["checkpoint"], data_dir=tmp_path / "data")
    picture, first = made_by(found), found.current()
    assert found.checkpoints() == ("demo.safetensors", "other.safetensors")
    wanted = [found.checkpoint(name) for name in ("other.safetensors", str(made["checkpoint"].resolve()))]
    assert first is not None
    load, seen = standalone_load.load, []

    def watched(*args: Any) -> object:
        seen.append(found.current())
        return load(*args)

    told = (first.identity, first.family, first.short_hash)
    assert (wanted[1].identity, wanted[1].family, wanted[1].short_hash) == told
    torch.manual_seed(1)
    before = torch.get_rng_state()
    with pytest.raises(way_out) if way_out else nullcontext(), found.switching(wanted):
        assert made_by(found, wanted[0].identity) != picture
        assert found.current() == first
        assert made_by(found) == picture, "whoever does not ask gets the first one"
        made_by(found, wanted[0].identity)
        with pytest.raises(HostBusyError, match="are being tried already"), found.switching(wanted):
            pytest.fail("two at once")
        monkeypatch.setattr(standalone_load, "load", watched)
        if way_out is not None:
            raise way_out("on purpose")
    assert seen == [first], "until the first is back nobody takes another for it"
    assert torch.equal(torch.get_rng_state(), before)
    assert made_by(found, first.identity) == picture
    with pytest.raises(HostBusyError, match="another checkpoint is loaded"):
        made_by(found, wanted[0].identity)


def made_by(host: StandaloneHost, expect: str | None = None) -> bytes:
    with host.lease("pictures", expect=expect) as model:
        return model.generate(request("1girl")).images[0].tobytes()


def test_checkpoints_are_told_by_their_headers(host: StandaloneHost, tmp_path: Path) -> None:
    mistakes = {
        "lora_unet_mid_block.alpha": "this is a LoRA", "first_stage_model.x": "the file has no UNet",
        "joint_blocks.1": "Stable Diffusion 3 or Flux", "conditioner.embedders.0.model.x": "refiner and turbo",
    }  # fmt: skip
    path = tmp_path / "a.safetensors"
    for key, said in mistakes.items():
        save_file({key: torch.zeros(1)}, path)
        with pytest.raises(CheckpointError, match=said):
            host.checkpoint(str(path))
    for name, said in (("b.ckpt", "pickle"), ("a folder", "no checkpoint"), ("c.safetensors", "cannot be read")):
        (tmp_path / name).mkdir() if name == "a folder" else (tmp_path / name).write_bytes(b"nothing")
        with pytest.raises(CheckpointError, match=said):
            host.checkpoint(str(tmp_path / name))
    with pytest.raises(CheckpointError, match="there is no such checkpoint"):
        host.checkpoint("nowhere.safetensors")
