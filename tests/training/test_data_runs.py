"""A run with each option of the pictures, captions and masks on the tiny model: it ends, and learns something else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers", reason="diffusers is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

from PIL import Image  # noqa: E402

from lora_lab.errors import DatasetError, OutputError, SettingsError  # noqa: E402
from lora_lab.host.base import HostPaths  # noqa: E402
from lora_lab.network import files  # noqa: E402
from lora_lab.training.events import StepDone, Validated, Warned  # noqa: E402
from lora_lab.training.prepare import check_start  # noqa: E402
from lora_lab.training.settings import TrainSettings  # noqa: E402

from .running import Training, fresh_host, tensors  # noqa: E402
from .tiny import TinyHost, run_settings, write_pictures  # noqa: E402

SHORT = {"max_train_epochs": 1, "shuffle_caption": False, "network_train_unet_only": True}


@pytest.fixture
def host(tmp_path: Path) -> TinyHost:
    return fresh_host(tmp_path)


def masks(host: TinyHost) -> str:
    """White in the upper half."""
    folder = host.folder / "masks"
    folder.mkdir()
    for number in range(4):
        grey = Image.new("L", (64, 64))
        grey.paste(255, (0, 0, 64, 32))
        grey.save(folder / f"{number:02d}.png")
    return str(folder)


def test_each_option_runs_and_changes_what_is_learnt(host: TinyHost) -> None:
    plain = tensors(Training(host, **SHORT).ended.lora)
    place = masks(host)
    folder = host.folder / "train" / "1_mika"
    for number in range(4):
        Image.open(folder / f"{number:02d}.png").resize((128, 96)).save(host.folder / f"big{number}.png")
    options: list[dict[str, Any]] = [
        {"masked_loss": True, "conditioning_data_dir": place},
        {"masked_loss": True, "conditioning_data_dir": place, "masked_loss_normalize": True},
        {"loss_weights": "mika = 0.25"},
        {"zero_terminal_snr": True},
        {"token_warmup_step": 100},
        {"weighted_captions": True, "caption_prefix": "(new:1.5)"},
        {"color_aug": True, "cache_latents": False, "seed": 8},
        {"validation_split": 0.5, "validation_seed": 3},
    ]
    for number, more in enumerate(options):
        run = Training(host, output_name=f"option{number}", **SHORT, **more)
        assert (run.ended.error, run.unchanged) == ("", True), more
        found = tensors(run.ended.lora)
        assert any(not torch.equal(plain[key], found[key]) for key in plain), more


def test_face_crops_run_without_buckets(host: TinyHost) -> None:
    folder = host.folder / "faces" / "1_mika"
    write_pictures(folder, 2, size=128)
    for path in sorted(folder.glob("*.png")):
        path.rename(path.with_name(f"{path.stem}_70_50_30_30.png"))
    more = {"face_crop_aug_range": "1.0,2.0", "enable_bucket": False, "cache_latents": False, "random_crop": True}
    run = Training(host, train_data_dir=str(folder.parent), resize_interpolation="bicubic", **SHORT, **more)
    assert (run.ended.error, run.unchanged) == ("", True)
    found = files.read(run.ended.lora).metadata
    assert (found["ss_face_crop_aug_range"], found["ss_resize_interpolation"]) == ("1.0,2.0", "bicubic")


def test_what_a_mask_hides_has_no_part_in_the_loss(host: TinyHost) -> None:
    place = masks(host)
    more = {"masked_loss": True, "conditioning_data_dir": place, "max_train_steps": 1, "train_batch_size": 4}
    more |= SHORT | {"max_train_epochs": None}
    half = Training(host, **more).of(StepDone)[0].loss
    normal = Training(host, output_name="normal", masked_loss_normalize=True, **more).of(StepDone)[0].loss
    assert normal == pytest.approx(2 * half, rel=1e-4), "half of the places are white"
    whole = Training(host, output_name="whole", **more | {"masked_loss": False}).of(StepDone)[0].loss
    assert half < whole
    for path in Path(place).iterdir():
        Image.new("L", (64, 64)).save(path)
    assert Training(host, output_name="black", **more).of(StepDone)[0].loss == 0


def test_held_out_shares_are_measured_within_an_epoch_and_at_most_so_many(host: TinyHost) -> None:
    more = {"validation_split": 0.5, "validation_seed": 1, "train_batch_size": 1, "max_train_epochs": 2}
    run = Training(host, validate_every_n_steps=1, max_validation_steps=1, **SHORT | more)
    assert [v.step for v in run.of(Validated)] == [0, 1, 2, 3, 4]
    found = files.read(run.ended.lora).metadata
    assert (found["ss_num_train_images"], found["ss_num_validation_images"]) == ("2", "2")
    names = ("validation_split", "validation_seed", "max_validation_steps", "validate_every_n_steps")
    assert [found[f"ss_{name}"] for name in names] == ["0.5", "1", "1", "1"]
    all_of_them = Training(host, output_name="all", **SHORT | more).of(Validated)
    assert all_of_them[0].loss != run.of(Validated)[0].loss


def config(host: TinyHost, **first: Any) -> str:
    write_pictures(host.folder / "large", 2, size=128)
    sizes = {"min_bucket_reso": 64, "max_bucket_reso": 128, "caption_extension": ".txt"}
    datasets = [
        {"resolution": 64, "batch_size": 2, "subsets": [{"image_dir": str(host.folder / "train" / "1_mika"), **first}]},
        {"resolution": 128, "batch_size": 1, "subsets": [{"image_dir": str(host.folder / "large"), "num_repeats": 2}]},
    ]
    path = host.folder / "data.json"
    path.write_text(json.dumps({"general": sizes, "datasets": datasets}), encoding="utf-8")
    return str(path)


def test_two_datasets_of_two_sizes_in_one_run(host: TinyHost) -> None:
    run = Training(host, dataset_config=config(host, loss_weight=0.5), **SHORT)
    assert (run.ended.error, run.ended.step, run.unchanged) == ("", 2 + 4, True)
    found = files.read(run.ended.lora).metadata
    assert [d["resolution"] for d in json.loads(found["ss_datasets"])] == [[64, 64], [128, 128]]
    assert json.loads(found["ss_dataset_dirs"])["large"] == {"n_repeats": 2, "img_count": 2}
    assert not {"ss_bucket_info", "ss_reg_dataset_dirs", "ss_resolution", "ss_keep_tokens"} & found.keys()
    assert any("train_data_dir has no effect" in e.text for e in run.of(Warned))


def test_captions_of_a_metadata_file_are_trained_on(host: TinyHost) -> None:
    file = host.folder / "meta.json"
    file.write_text(json.dumps({"00.png": {"caption": "one"}, "01": {"tags": "two"}}), encoding="utf-8")
    folder = str(host.folder / "train" / "1_mika")
    run = Training(host, in_json=str(file), dataset_repeats=3, train_data_dir=folder, **SHORT)
    found = files.read(run.ended.lora).metadata
    assert json.loads(found["ss_dataset_dirs"]) == {"meta.json": {"n_repeats": 3, "img_count": 2}}
    assert json.loads(found["ss_tag_frequency"]) == {"meta.json": {"one": 1, "two": 1}}


def test_folders_of_a_config_are_looked_at_before_the_start(host: TinyHost) -> None:
    def start(**values: Any) -> None:
        check_start(TrainSettings.from_mapping(run_settings(host.folder, **values)), host)

    path = config(host)
    start(dataset_config=path)
    with pytest.raises(DatasetError, match="image_dir is no folder"):
        start(dataset_config=config_of(host, image_dir=str(host.folder / "gone")))
    with pytest.raises(DatasetError, match="no such metadata file"):
        start(dataset_config=config_of(host, metadata_file=str(host.folder / "gone.json")))
    with pytest.raises(SettingsError, match="cannot be read"):
        start(dataset_config=str(host.folder / "gone.toml"))
    inside = HostPaths(host.folder / "loras", host.folder / "data", (host.folder / "data",))
    host.paths = lambda: inside  # type: ignore[method-assign]
    for values in ({"dataset_config": path}, {"in_json": path}):
        with pytest.raises(OutputError, match="outside of those allowed"):
            start(**values, train_data_dir="")


def config_of(host: TinyHost, **subset: Any) -> str:
    path = host.folder / "one.json"
    path.write_text(json.dumps({"datasets": [{**{"resolution": 64}, "subsets": [subset]}]}), encoding="utf-8")
    return str(path)


def test_the_live_schedule_stays_as_it_is(host: TinyHost) -> None:
    before = host.model.alphas_cumprod.clone()
    run = Training(host, zero_terminal_snr=True, **SHORT)
    assert torch.equal(host.model.alphas_cumprod, before)
    assert files.read(run.ended.lora).metadata["ss_zero_terminal_snr"] == "True"
    assert any("zero_terminal_snr is for velocity" in e.text for e in run.of(Warned))
    assert np.isfinite([s.loss for s in run.of(StepDone)]).all()
