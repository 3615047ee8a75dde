"""Runs on SD2 and SDXL: what is trained, told and written, and what is refused where families are mixed up."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers", reason="diffusers is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

from lora_lab.errors import LoraLabError, SettingsError  # noqa: E402
from lora_lab.families import Family  # noqa: E402
from lora_lab.host.base import Conditioning  # noqa: E402
from lora_lab.network import files  # noqa: E402
from lora_lab.network.adapter import Adapter  # noqa: E402
from lora_lab.network.sites import find_sites  # noqa: E402
from lora_lab.network.sizes import Size  # noqa: E402
from lora_lab.training.checks import warnings  # noqa: E402
from lora_lab.training.checks.family import check_family, family_warnings  # noqa: E402
from lora_lab.training.events import RunStarted, StepDone, Validated, Warned  # noqa: E402
from lora_lab.training.settings import TrainSettings  # noqa: E402

from .running import Training, tensors  # noqa: E402
from .tiny import TinyHost, TinyModel, TinySd2, TinySdxl, write_pictures  # noqa: E402

SMALL = {"max_train_epochs": 1, "bucket_reso_steps": 64, "train_batch_size": 2}


def host_of(model: TinyModel, folder: Path) -> TinyHost:
    write_pictures(folder / "train" / "1_mika", 4, captions=("mika, red hair", "mika, hat"))
    return TinyHost(folder, model)


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One run on SDXL, the conditionings that its UNet was given, and the file."""
    host = host_of(TinySdxl(), tmp_path_factory.mktemp("sdxl"))
    seen: list[Conditioning] = []
    predict = host.model.predict

    def spied(latents: Any, timesteps: Any, conditioning: Conditioning) -> Any:
        seen.append(conditioning)
        return predict(latents, timesteps, conditioning)

    host.model.predict = spied  # type: ignore[method-assign]
    held = write_pictures(host.folder / "held" / "1_mika", 2).parent
    run = Training(host, text_encoder_lr=[1e-3, 5e-4], validation_data_dir=str(held), **SMALL)
    return host, run, seen


def test_sdxl_trains_all_its_sites_by_their_own_names(sdxl: Any) -> None:
    _, run, _ = sdxl
    assert run.ended.error == ""
    assert run.unchanged
    assert run.of(RunStarted)[0].sites == 722 + 12 + 12
    found = tensors(run.ended.lora)
    prefixes = [f"lora_{key.split('_')[1]}" for key in found if key.endswith(".alpha")]
    assert {p: prefixes.count(p) for p in prefixes} == {"lora_unet": 722, "lora_te1": 12, "lora_te2": 12}
    assert "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.lora_up.weight" in found
    moved = {key for key, t in found.items() if key.endswith("lora_up.weight") and float(t.abs().max()) > 0}
    # The last layer of the first encoder is behind the states that are taken: no gradient, as in kohya's files.
    still = {key for key in found if key.endswith("lora_up.weight")} - moved
    assert {key.rsplit("_layers_")[1][0] for key in still} == {"1"}
    assert {key.split("_")[1] for key in still} == {"te1"}
    assert run.of(Validated)


def test_each_text_encoder_has_its_rate(sdxl: Any) -> None:
    _, run, _ = sdxl
    rates = run.of(StepDone)[0].learning_rates
    assert rates == {"text_encoder": 1e-3, "text_encoder_2": 5e-4, "unet": 1e-3}


def test_sdxl_is_told_sizes_and_the_pooled_state(sdxl: Any) -> None:
    _, _, seen = sdxl
    assert seen
    for told in seen:
        assert told.pooled.shape == (len(told.context), 32)
        assert told.size_ids.tolist() == [[64, 64, 0, 0, 64, 64]] * len(told.context)


def test_metadata_of_sdxl_is_kohyas(sdxl: Any) -> None:
    _, run, _ = sdxl
    found = files.read(run.ended.lora).metadata
    assert found["ss_base_model_version"] == "sdxl_base_v1-0"
    assert found["ss_v2"] == "False"
    assert found["ss_text_encoder_lr"] == "[0.001, 0.0005]"
    assert found["ss_clip_skip"] == "None"
    assert found["modelspec.architecture"] == "stable-diffusion-xl-v1-base/lora"
    assert found["modelspec.implementation"] == "https://github.com/Stability-AI/generative-models"
    assert "modelspec.encoder_layer" not in found


def test_one_of_the_text_encoders_can_be_left_out(tmp_path: Path) -> None:
    host = host_of(TinySdxl(), tmp_path)
    run = Training(host, unet_lr=0, text_encoder_lr=1e-3, text_encoder_lr2=0, **SMALL)
    assert run.ended.error == ""
    assert {key.split("_")[1] for key in tensors(run.ended.lora)} == {"te1"}
    other = Training(host, unet_lr=0, text_encoder_lr=0, text_encoder_lr2=1e-3, output_name="other", **SMALL)
    assert other.ended.error == ""
    assert {key.split("_")[1] for key in tensors(other.ended.lora)} == {"te2"}
    both = Training(host, unet_lr=0, text_encoder_lr=1e-3, output_name="both", **SMALL)
    assert {key.split("_")[1] for key in tensors(both.ended.lora)} == {"te1", "te2"}


def test_sd2_learns_velocity_from_a_fixed_layer(tmp_path: Path) -> None:
    host = host_of(TinySd2(), tmp_path)
    run = Training(host, clip_skip=2, v2=True, v_parameterization=True, **SMALL)
    assert run.ended.error == ""
    assert run.unchanged
    found = tensors(run.ended.lora)
    assert run.of(RunStarted)[0].sites == 192 + 12
    assert found["lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight"].dim() == 2
    assert any("clip_skip has no effect" in warned.text for warned in run.of(Warned))
    told = files.read(run.ended.lora).metadata
    assert told["ss_base_model_version"] == "sd_v2_v"
    assert told["ss_v2"] == "True"
    assert told["modelspec.architecture"] == "stable-diffusion-v2-768-v/lora"
    assert told["modelspec.prediction_type"] == "v"


@pytest.mark.parametrize(
    ("model", "values", "wrong"),
    [
        (TinySdxl, {"bucket_reso_steps": 48}, "bucket_reso_steps is 48, Stable Diffusion XL needs multiples of 32"),
        (TinySd2, {"bucket_reso_steps": 32}, "bucket_reso_steps is 32, Stable Diffusion 2 needs multiples of 64"),
        (TinyModel, {"enable_bucket": False, "resolution": 96}, "resolution is 96 x 96"),
        (TinyModel, {"v2": True}, "v2 is for Stable Diffusion 2, tiny.safetensors is a Stable Diffusion 1 checkpoint"),
        (TinyModel, {"v_parameterization": True}, "a checkpoint that predicts velocity, tiny.safe"),
        (TinySd2, {"v2": True}, "v2 without v_parameterization means a checkpoint that predicts noise"),
        (TinySd2, {"v_pred_like_loss": 1.0}, "v_pred_like_loss is for noise-predicting checkpoints"),
        (TinyModel, {"text_encoder_lr": [1, 2, 3]}, "text_encoder_lr has 3 rates"),
    ],
)
def test_what_does_not_fit_the_checkpoint_is_refused(
    model: type[TinyModel], values: dict[str, Any], wrong: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=wrong):
        Training(TinyHost(tmp_path, model()), **{"train_data_dir": str(tmp_path), **values})


def test_sides_that_the_unet_can_take(tmp_path: Path) -> None:
    info = TinyModel().info
    odd = TrainSettings.from_mapping({"enable_bucket": False, "resolution": [96, 160]})
    check_family(odd, dataclasses.replace(info, family=Family.SDXL))
    with pytest.raises(SettingsError, match="give multiples of 64"):
        check_family(odd, info)
    assert list(family_warnings(TrainSettings.from_mapping({"text_encoder_lr2": 1e-4}), Family.SD1)) == [
        "text_encoder_lr2 has no effect: Stable Diffusion 1 has one text encoder"
    ]


def test_what_depends_on_the_checkpoint_has_one_full_stop_too() -> None:
    values = {"zero_terminal_snr": True, "clip_skip": 2, "down_lr_weight": "1,1,1"}
    settings = TrainSettings.from_mapping(values)
    assert warnings(settings) == warnings(settings, None, None) == ()
    assert warnings(settings, Family.SDXL, "v_prediction") == (
        "clip_skip has no effect: Stable Diffusion XL takes its text states from a fixed layer.",
        "down_lr_weight has 3 numbers, sdxl has 9 blocks there: the rest counts as 1.",
    )
    assert warnings(settings, Family.SD1, "epsilon")[-1] == (
        "zero_terminal_snr is for velocity-predicting checkpoints: one that predicts noise learns nothing there."
    )


def test_a_lora_of_another_family_is_no_start(sdxl: Any) -> None:
    host, run, _ = sdxl
    small, large = TinyModel(), host.model
    names = {m: find_sites(m.unet, m.text_encoders, m.family, m.layout) for m in (small, large)}
    one = Adapter.create(names[small], sizes=Size(2, 2), generator=torch.Generator())
    with pytest.raises(LoraLabError, match=r"this LoRA is for SD1 or SD2, the loaded model is SDXL \(mine"):
        Adapter.from_tensors(names[large], one.to_tensors(), file="mine.safetensors")
    with pytest.raises(LoraLabError, match="this LoRA is for SDXL, the loaded model is SD1 or SD2"):
        Adapter.from_tensors(names[small], tensors(run.ended.lora))
