"""Other checkpoints of the webui for a while, on the stand-in: whichever way out, the chosen one is live and whole."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import save_file

from lora_lab.errors import CheckpointError, HostBusyError
from tests.host.fingerprint import differences
from tests.host.test_webui_lease import WAYS_OUT, host, state, webui  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from lora_lab.host.base import Host
    from tests.host.webui_stand_in import Webui

# ruff: noqa: F811 - fixtures


def list_second(webui: Webui) -> None:
    """Another checkpoint, and what is none, in the webui's list."""
    save_file({"model.diffusion_model.out.2.weight": torch.zeros(1)}, webui.folder / "second.safetensors")
    save_file({"lora_unet_mid_block.alpha": torch.zeros(1)}, webui.folder / "lora.safetensors")
    webui.parts.sd_models.checkpoint_aliases.update(webui.listed())
    webui.parts.sd_models.checkpoints_list.update(webui.listed())


@pytest.mark.parametrize("way_out", WAYS_OUT)
def test_other_checkpoints_for_a_while(webui: Webui, host: Host, way_out: Any) -> None:
    list_second(webui)
    webui.data["sd_checkpoint_hash"] = "hash of first.safetensors"
    before, first = state(webui), host.current()
    assert host.checkpoints() == ("first.safetensors", "lora.safetensors", "second.safetensors")
    wanted = [host.checkpoint(name) for name in ("second.safetensors", "first.safetensors")]
    assert first is not None
    assert [one.family for one in wanted] == [first.family] * 2
    assert wanted[1].identity == first.identity
    assert webui.reloads == 0
    with pytest.raises(way_out) if way_out else nullcontext(), host.switching(wanted):
        for one in (*wanted, wanted[0]):
            with host.lease("pictures", expect=one.identity) as model:
                assert (model.info.name, model.info.identity) == (one.name, one.identity)
            assert host.current() == first, "what the person has chosen"
            assert webui.data["sd_checkpoint_hash"] == "hash of first.safetensors"
        with host.lease("training") as model:
            assert model.info == first, "whoever does not ask gets the chosen one"
        if way_out is not None:
            raise way_out("on purpose")
    assert differences(before, state(webui)) == []
    with pytest.raises(HostBusyError), host.lease("pictures", expect=wanted[0].identity):
        pass


def test_a_choice_made_meanwhile_is_what_stays(webui: Webui, host: Host) -> None:
    list_second(webui)
    with host.switching([host.checkpoint("second.safetensors")]):
        webui.data["sd_model_checkpoint"] = "second.safetensors"
        webui.reload_model_weights()
        live = host.current()
        assert live is not None
        assert live.name == "second.safetensors"
    assert webui.sd_model.sd_model_checkpoint.endswith("second.safetensors")
    assert webui.data["sd_checkpoint_hash"] == "hash of second.safetensors"


@pytest.mark.parametrize("way_out", WAYS_OUT)
def test_a_choice_that_still_waits_for_the_queue_is_what_stays(webui: Webui, host: Host, way_out: Any) -> None:
    list_second(webui)
    first = host.checkpoint("first.safetensors")
    webui.data["sd_model_checkpoint"] = "second.safetensors"
    with pytest.raises(way_out) if way_out else nullcontext(), host.switching([first]):
        with host.lease("pictures", expect=first.identity) as model:
            assert model.info.name == "first.safetensors"
        with host.lease("pictures") as model:
            assert model.info == host.current()
        if way_out is not None:
            raise way_out("on purpose")
    assert webui.sd_model.sd_model_checkpoint.endswith("second.safetensors")
    assert webui.data["sd_checkpoint_hash"] == "hash of second.safetensors"


def test_until_the_first_is_back_nobody_takes_another_for_it(
    webui: Webui, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    list_second(webui)
    first, second, seen = host.current(), host.checkpoint("second.safetensors"), []
    reload = webui.reload_model_weights

    def watched(*args: Any, **more: Any) -> object:
        seen.append(host.current())
        return reload(*args, **more)

    monkeypatch.setattr(webui.parts.sd_models, "reload_model_weights", watched)
    with host.switching([second]):
        with host.lease("pictures", expect=second.identity):
            pass
        with pytest.raises(HostBusyError, match="are being tried already"), host.switching([second]):
            pytest.fail("two at once")
        assert host.current() == first
    assert seen == [first] * 3, "on the way in, for the second, on the way out"
    with host.switching([second]):
        pass


def test_a_file_that_cannot_be_loaded_leaves_the_first_whole(webui: Webui, host: Host) -> None:
    list_second(webui)
    webui.data["sd_checkpoint_hash"] = "hash of first.safetensors"
    before, second = state(webui), host.checkpoint("second.safetensors")
    webui.broken = {"second.safetensors"}
    said = pytest.raises(CheckpointError, match=r"the webui cannot load it \(RuntimeError: a bad file\)")
    with said, host.switching([second]), host.lease("pictures", expect=second.identity):
        pytest.fail("was lent")
    assert differences(before, state(webui)) == []
    with host.lease("pictures") as model:
        assert model.info == host.current()


def test_checkpoints_that_cannot_be_tried(webui: Webui, host: Host) -> None:
    list_second(webui)
    with pytest.raises(CheckpointError, match="not in the webui's list"):
        host.checkpoint("third.safetensors")
    with pytest.raises(CheckpointError, match="this is a LoRA"):
        host.checkpoint("lora.safetensors")
    (webui.folder / "second.safetensors").unlink()
    with pytest.raises(CheckpointError, match="there is no such checkpoint"):
        host.checkpoint("second.safetensors")
