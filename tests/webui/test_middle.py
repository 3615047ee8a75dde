"""The person does something else in the middle of a run: its numbers are those of a run that was left in peace.

A run is paused after its first steps (through the word in its folder, as another program asks), the other thing is
done, and the run goes on to its end. LORA_LAB_PICTURES makes that many pictures during a run (default 4).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.webui.test_training import pictures, start, wait  # noqa: F401 - pictures is a fixture

if TYPE_CHECKING:
    from tests.webui.server import Webui

LONG = {"max_train_steps": 8, "train_batch_size": 2, "sample_prompts": "", "sharing": "pictures_first"}
WITH_LORA = "1girl, hat <lora:probe_lora:1>"
OTHER = {"sd_model_checkpoint": "other.safetensors"}


class Runs:
    """Runs with one seed, and the tensors of the one that was left in peace."""

    def __init__(self, webui: Webui, pictures: dict[str, Path], data: Path) -> None:  # noqa: F811
        self.webui, self.pictures, self.data = webui, pictures, data
        self.number = 0
        self.peace = load_file(self.end(self.begin())["lora"])

    def begin(self, **changes: Any) -> str:
        self.number += 1
        return start(self.webui, self.pictures, output_name=f"middle{self.number}", **{**LONG, **changes})

    def end(self, run: str) -> dict[str, Any]:
        done = wait(self.webui, run)
        assert (done["state"], done["error"]) == ("finished", "")
        return done

    def paused(self) -> str:
        """A run that stands after its first steps."""
        run = self.begin()
        wait(self.webui, run, lambda found: found["step"] >= 1)
        self.ask(run, "pause")
        found = wait(self.webui, run, lambda found: found["paused"])
        assert 1 <= found["step"] < LONG["max_train_steps"]
        return run

    def ask(self, run: str, word: str) -> None:
        file = self.data / "lora-lab" / "runs" / run / "wish"
        file.write_text(word) if word != "go" else file.unlink()

    def same(self, done: dict[str, Any]) -> None:
        found = load_file(done["lora"])
        assert found.keys() == self.peace.keys()
        assert [k for k in found if not torch.equal(found[k], self.peace[k])] == []


@pytest.fixture(scope="module")
def runs(webui: Webui, pictures: dict[str, Path], data: Path) -> Runs:  # noqa: F811 - the fixture
    return Runs(webui, pictures, data)


def test_pictures_in_between_change_nothing_and_are_not_changed(webui: Webui, runs: Runs) -> None:
    count = int(os.environ.get("LORA_LAB_PICTURES", "4"))
    prompts = [("1girl", WITH_LORA, "1boy, tail", WITH_LORA + ", smile")[n % 4] for n in range(count)]
    alone = [webui.picture(prompt, seed=n) for n, prompt in enumerate(prompts)]
    run = runs.begin(sharing="share", max_train_steps=LONG["max_train_steps"])
    wait(webui, run, lambda found: found["step"] >= 1)
    during = 0
    for number, prompt in enumerate(prompts):
        assert webui.picture(prompt, seed=number) == alone[number], f"picture {number} of {count}"
        if webui.check("training", run_id=run)["state"] != "running":
            runs.same(runs.end(run))  # it has ended: another one for the other pictures
            run = runs.begin(sharing="share")
            wait(webui, run, lambda found: found["step"] >= 1)
        during += 1
    assert during == count
    runs.same(runs.end(run))


def options(**values: Any) -> Callable[[Webui], None]:
    """Change options; `done` puts them back."""

    def act(webui: Webui) -> None:
        webui.post("/sdapi/v1/options", values)

    return act


def picture(**values: Any) -> Callable[[Webui], None]:
    def act(webui: Webui) -> None:
        webui.picture(**values)

    return act


def override(back: bool) -> Callable[[Webui], None]:
    return picture(override_settings=OTHER, override_settings_restore_afterwards=back)


def xyz(webui: Webui) -> None:
    """Three checkpoints, one after another, as the X/Y/Z script takes them; the last of them stays."""
    name = webui.check("settings")["info"][0]
    for one in ("other.safetensors", name, "other.safetensors"):
        webui.picture(override_settings={"sd_model_checkpoint": one}, override_settings_restore_afterwards=False)


STAY = ("a checkpoint that stays after a picture", "an axis of checkpoints")
"""Things that leave another checkpoint chosen: the run waits until its own is chosen again."""


THINGS: dict[str, Callable[[Webui], None]] = {
    "a checkpoint of one picture": override(back=True),
    "a checkpoint that stays after a picture": override(back=False),
    "an axis of checkpoints": xyz,
    "the refiner": picture(refiner_checkpoint="other.safetensors", refiner_switch_at=0.5),
    "clip skip": options(CLIP_stop_at_last_layers=2),
    "token merging": options(token_merging_ratio=0.5),
    "HyperTile": options(hypertile_enable_unet=True),
    "a VAE": options(sd_vae="probe.vae.safetensors"),
    "highres and tiling": picture(enable_hr=True, hr_scale=2, denoising_strength=0.5, tiling=True),
}
BACK = {
    "CLIP_stop_at_last_layers": 1, "token_merging_ratio": 0.0, "hypertile_enable_unet": False, "sd_vae": "Automatic",
}  # fmt: skip


def put_vae(data: Path) -> None:
    """The checkpoint's VAE as a file of its own, with other numbers."""
    weights = load_file(next((data / "models" / "Stable-diffusion").glob("*.safetensors")))
    head = "first_stage_model."
    vae = {key.removeprefix(head): value * 0.9 for key, value in weights.items() if key.startswith(head)}
    (data / "models" / "VAE").mkdir(exist_ok=True)
    save_file(vae, data / "models" / "VAE" / "probe.vae.safetensors")


@pytest.mark.parametrize("thing", THINGS)
def test_the_run_goes_on_with_the_same_numbers(webui: Webui, runs: Runs, data: Path, thing: str) -> None:
    if thing == "a VAE":
        put_vae(data)
        webui.post("/sdapi/v1/refresh-vae")
    name = webui.check("settings")["info"][0]
    plain = webui.picture("1girl")
    run = runs.paused()
    try:
        THINGS[thing](webui)
        webui.picture(WITH_LORA)
        runs.ask(run, "go")
        if thing in STAY:
            found = wait(webui, run, lambda found: any("other.safetensors" in text for text in found["warnings"]))
            assert found["state"] == "running"
            webui.post("/sdapi/v1/options", {"sd_model_checkpoint": name})
        done = runs.end(run)
    finally:
        webui.post("/sdapi/v1/options", {**BACK, "sd_model_checkpoint": name})
    runs.same(done)
    assert webui.picture("1girl") == plain


def test_the_attention_option(webui: Webui, runs: Runs) -> None:
    """Another attention adds up in another order: the last bits of the numbers may be others."""
    run = runs.paused()
    webui.post("/sdapi/v1/options", {"cross_attention_optimization": "sub-quadratic"})
    try:
        runs.ask(run, "go")
        done = runs.end(run)
    finally:
        webui.post("/sdapi/v1/options", {"cross_attention_optimization": "Automatic"})
    found = load_file(done["lora"])
    assert all(torch.allclose(found[k].float(), runs.peace[k].float(), rtol=0.1, atol=1e-3) for k in found)


def test_an_extension_that_hooks_the_unet(webui: Webui, runs: Runs) -> None:
    plain = webui.picture("1girl")
    run = runs.paused()
    mark = webui.check("middle.hook_unet", on=True)
    try:
        hooked = webui.picture("1girl")
        runs.ask(run, "go")
        done = runs.end(run)
        assert webui.check("middle.hooked") == mark
        assert webui.picture("1girl") == hooked != plain
    finally:
        webui.check("middle.hook_unet", on=False)
    runs.same(done)
    assert webui.picture("1girl") == plain


def test_reload_ui(webui: Webui, runs: Runs) -> None:
    run = runs.paused()
    starts = webui.starts
    webui.check("reload_ui")
    webui.wait(starts + 1)
    runs.ask(run, "go")
    runs.same(runs.end(run))


def test_another_checkpoint_for_good_ends_well(webui: Webui, runs: Runs) -> None:
    name = webui.check("settings")["info"][0]
    run = runs.paused()
    webui.post("/sdapi/v1/options", OTHER)
    try:
        runs.ask(run, "go")
        found = wait(webui, run, lambda found: any("other.safetensors" in text for text in found["warnings"]))
        step = found["step"]
        webui.check("training", run_id=run, stop=True)
        done = wait(webui, run)
        assert (done["state"], done["step"]) == ("stopped", step), "it has trained on another checkpoint"
        assert Path(done["lora"]).is_file()
    finally:
        webui.post("/sdapi/v1/options", {"sd_model_checkpoint": name})


def test_no_thread_is_left(webui: Webui, runs: Runs) -> None:
    assert webui.check("middle.threads") == []
