"""Whole files as people have them: each key is taken, or named with why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_lab.errors import SettingsError
from lora_lab.training.importing.found import SettingsFile, listed
from lora_lab.training.settings import TrainSettings, settings_file

DATA = Path(__file__).parent.parent / "data"


def read(name: str) -> SettingsFile:
    return settings_file.read(DATA / name)


def values(found: SettingsFile, names: str) -> tuple[object, ...]:
    return tuple(getattr(found.settings, name) for name in names.split())


def test_the_guides_powershell_script_as_it_stands() -> None:
    found = read("guide.ps1")
    assert found.skipped == ("num_cpu_threads_per_process",)
    assert found.refused == ()
    assert found.checkpoint == r"X:\models\base.ckpt"
    assert found.settings == TrainSettings.from_mapping({
        "train_data_dir": r"X:\training\concepts", "reg_data_dir": r"X:\training\reg", "output_dir": r"X:\models\lora",
        "output_name": "last", "caption_extension": ".txt", "shuffle_caption": True, "keep_tokens": 1,
        "enable_bucket": True, "min_bucket_reso": 320, "max_bucket_reso": 960, "train_batch_size": 1,
        "learning_rate": 1e-4, "unet_lr": 1e-4, "text_encoder_lr": 5e-5, "max_train_epochs": 8,
        "mixed_precision": "fp16", "save_precision": "fp16", "optimizer_type": "AdamW8bit", "save_every_n_epochs": 1,
        "clip_skip": 2, "seed": 420, "flip_aug": True, "network_dim": 128, "network_alpha": 128,
        "max_token_length": 225, "cache_latents": True, "lr_scheduler": "cosine_with_restarts",
        # What it does not say is as kohya has it.
        "min_snr_gamma": 0, "sample_sampler": "ddim",
    })  # fmt: skip


def test_the_guides_bash_script_as_it_stands() -> None:
    """Its braces are not closed, and it asks for buckets and face crops at once."""
    found = read("guide.sh")
    assert values(found, "train_data_dir reg_data_dir output_dir") == (
        "/data/scripts/SETS/penny/", "/data/scripts/SETS/penny/reg/", "/data/loras/",
    )  # fmt: skip
    assert values(found, "output_name training_comment") == ("penny_last_e6_n160", "LORA:penny")
    assert values(found, "network_dim network_alpha max_train_epochs train_batch_size") == (160, 160, 6, 2)
    assert values(found, "learning_rate unet_lr text_encoder_lr") == (1e-4, 1e-4, 5e-5)
    assert values(found, "optimizer_type max_token_length seed clip_skip") == ("AdamW8bit", 150, 420, 2)
    assert values(found, "enable_bucket min_bucket_reso max_bucket_reso flip_aug") == (True, 320, 768, True)
    assert values(found, "keep_tokens cache_latents save_every_n_epochs") == (0, False, 2)
    assert found.checkpoint == "/data/models//base.ckpt"
    why = {item.name: item.why for item in found.left}
    assert "does not go together with enable_bucket" in why["face_crop_aug_range"]
    assert set(why) == {"face_crop_aug_range", "num_cpu_threads_per_process"}
    assert found.settings.color_aug
    assert any("use_8bit_adam is read as optimizer_type AdamW8bit" in text for text in found.remarks)


@pytest.mark.parametrize("name", ["guide.ps1", "guide.sh"])
def test_a_script_pasted_into_a_text_file_is_told_apart_by_its_text(tmp_path: Path, name: str) -> None:
    path = tmp_path / "pasted.txt"
    path.write_bytes((DATA / name).read_text(encoding="utf-8").replace("\n", "\r\n").encode("utf-16"))
    assert settings_file.read(path).settings == read(name).settings


def test_a_batch_file() -> None:
    found = read("train.bat")
    assert found.checkpoint == r"C:\My Models\base.safetensors"
    assert values(found, "train_data_dir output_dir") == (r"C:\training\mika", r"C:\training\mika\out")
    assert values(found, "train_batch_size max_train_steps max_train_epochs network_dim") == (4, 500, None, 8)
    assert values(found, "optimizer_type optimizer_args") == ("Prodigy", ("d_coef=2", "weight_decay=0.01"))
    assert values(found, "learning_rate adaptive_noise_scale noise_offset") == (1, -0.1, 0.05)


def test_a_kohya_toml() -> None:
    found = read("kohya.toml")
    assert found.skipped == ("wandb_api_key",)
    assert values(found, "resolution caption_extension network_dim network_alpha") == ((512, 768), ".txt", 64, 32)
    assert values(found, "optimizer_args text_encoder_lr") == (("weight_decay=0.1", "betas=0.9,0.99"), 5e-5)
    assert values(found, "max_train_epochs max_train_steps save_every_n_epochs") == (4, None, None)
    assert values(found, "keep_tokens lr_scheduler min_snr_gamma save_precision") == (0, "constant", 0, "float")


def test_a_dataset_config_by_itself_and_named_in_a_file(tmp_path: Path) -> None:
    path = DATA / "dataset_config.toml"
    found = settings_file.read(path)
    assert found.settings == TrainSettings.from_mapping({"dataset_config": str(path)})
    assert found.values == ("dataset_config",)
    named = tmp_path / "kohya.toml"
    named.write_text(f"network_module = 'networks.lora'\ndataset_config = '{path.as_posix()}'\n", encoding="utf-8")
    found = settings_file.read(named)
    assert (found.settings.dataset_config, found.settings.network_dim, found.skipped) == (path.as_posix(), 4, ())


def test_a_kohya_ss_file_of_spring_2023() -> None:
    found = read("kohya_ss_2023_03.json")
    assert values(found, "resolution network_dim bucket_reso_steps seed") == ((512, 650), 64, 64, 1234)
    assert values(found, "optimizer_type learning_rate unet_lr text_encoder_lr") == ("AdamW8bit", 1e-4, 1e-4, 5e-5)
    assert values(found, "max_train_epochs lr_warmup_steps lr_scheduler_num_cycles") == (8, 0.1, 8)
    assert values(found, "sample_prompts sample_every_n_epochs") == ("mika, red hair --w 512\nmika, hat", 2)
    assert values(found, "max_grad_norm noise_offset min_timestep clip_skip") == (0.5, 0.05, 0, 2)
    assert set(found.skipped) == {"max_data_loader_n_workers", "log_prefix"}
    assert found.checkpoint == "/data/models/base.ckpt"


def test_a_kohya_ss_file_of_autumn_2023() -> None:
    found = read("kohya_ss_2023_10.json")
    assert values(found, "optimizer_type optimizer_args") == (
        "Prodigy", ("d_coef=1.0", "weight_decay=0.4", "decouple=True"),
    )  # fmt: skip
    assert values(found, "network_train_unet_only unet_lr text_encoder_lr") == (True, 1, None)
    assert values(found, "multires_noise_iterations noise_offset adaptive_noise_scale") == (8, 0, None)
    assert values(found, "keep_tokens max_token_length caption_extension") == (1, 225, ".caption")
    assert values(found, "lr_scheduler_type lr_scheduler_args") == ("CosineAnnealingLR", ("T_max=100",))


def test_a_kohya_ss_file_of_2025() -> None:
    found = read("kohya_ss_2025.json")
    assert found.skipped == ()
    assert values(found, "loss_type huber_c huber_schedule ip_noise_gamma") == ("huber", 0.2, "constant", 0.1)
    assert values(found, "lr_warmup_steps max_timestep seed noise_offset") == (50, 1000, None, 0.05)
    assert values(found, "optimizer_type optimizer_args") == ("Lion", ("weight_decay=0.1", "betas=0.9,0.99"))


@pytest.mark.parametrize(("kind", "algo"), [("LyCORIS/iA3", "ia3"), ("LyCORIS/LoKr", "lokr")])
def test_ranks_and_bucket_steps_beyond_ours_are_named_one_by_one(kind: str, algo: str) -> None:
    """As some of the GUI's own presets have them: a rank above every layer's width, and buckets of any size."""
    found = settings_file.from_values({
        "LoRA_type": kind, "network_dim": 100000, "conv_dim": 100000, "network_alpha": 64, "bucket_reso_steps": 1,
        "max_resolution": "512,512", "epoch": 3, "learning_rate": "1", "optimizer": "Prodigy",
    })  # fmt: skip
    why = {one.name: one.why for one in found.refused}
    assert why["network_dim"] == "network_dim is 100000: give 1024 or less"
    assert why["bucket_reso_steps"] == "bucket_reso_steps is 1: give 8 or more"
    assert values(found, "algo optimizer_type max_train_epochs") == (algo, "Prodigy", 3)
    assert found.left == ()


def test_the_guis_sum_where_its_folder_is_here(tmp_path: Path) -> None:
    """ceil(pictures * repeats / batch / accumulation * epochs * 2 with regularisation pictures)."""
    for folder, pictures in (("10_mika", 3), ("2_rin", 4), ("sketches", 9)):
        (tmp_path / folder).mkdir()
        for number in range(pictures):
            (tmp_path / folder / f"{number}.PNG").write_bytes(b"")
        (tmp_path / folder / "0.txt").write_bytes(b"")
    given = {
        "max_resolution": "512", "epoch": "3", "train_batch_size": "2", "gradient_accumulation_steps": 2.0,
        "train_data_dir": str(tmp_path), "LoRA_type": "Standard",
    }  # fmt: skip
    assert settings_file.from_values(given).settings.max_train_steps == 29  # ceil(38 / 2 / 2 * 3)
    with_reg = settings_file.from_values({**given, "reg_data_dir": "reg"})
    assert with_reg.settings.max_train_steps == 57
    assert with_reg.settings.max_train_epochs is None
    assert "38 pictures with repeats" in " ".join(with_reg.remarks)
    blind = settings_file.from_values(given, may_look=lambda path: False)
    assert (blind.settings.max_train_epochs, blind.settings.max_train_steps) == (3, None)


@pytest.mark.parametrize(
    ("text", "unet", "what"), [(1e-5, 0, "text encoder"), (0, 1e-4, "unet"), (0, 0, ""), ("1e-5", "1e-4", "")]
)
def test_the_guis_rates_choose_the_parts(text: object, unet: object, what: str) -> None:
    given = {"LoRA_type": "Standard", "text_encoder_lr": text, "unet_lr": unet, "learning_rate": 1e-3}
    s = settings_file.from_values(given).settings
    assert (s.network_train_unet_only, s.network_train_text_encoder_only) == (what == "unet", what == "text encoder")
    assert s.learning_rate == 1e-3


def test_a_thousand_unknown_keys_are_one_short_line(tmp_path: Path) -> None:
    path = tmp_path / "many.toml"
    lines = ['pretrained_model_name_or_path = "a"', *(f"strange_option_{n} = {n}" for n in range(1000))]
    path.write_text("\n".join(lines), encoding="utf-8")
    found = settings_file.read(path)
    assert len(found.note) < 300
    assert "and 990 more" in found.note
    assert [len(names) for names, _ in found.by_reason()] == [1000]


def test_long_and_odd_names_are_cut_in_the_line() -> None:
    assert len(listed(["x" * 5000, "a\nb"])) < 80
    assert "\n" not in listed(["a\nb"])


def test_a_value_that_cannot_be_had_is_named_and_the_rest_is_read() -> None:
    given = {"pretrained_model_name_or_path": "a", "network_dim": 0, "lr_scheduler": "Made.Up", "seed": 3}
    found = settings_file.from_values(given)
    assert {item.name: item.why for item in found.refused}.keys() == {"network_dim", "lr_scheduler"}
    assert "give 1 or more" in found.by_reason()[0][1]
    assert (found.settings.seed, found.settings.network_dim) == (3, 4)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"cache_latents": True, "color_aug": True}, "cache_latents and color_aug"),
        ({"cache_latents_to_disk": True, "random_crop": True}, "cache_latents and random_crop"),
        ({"cache_text_encoder_outputs": True, "shuffle_caption": True}, "cache_text_encoder_outputs and shuffle"),
        ({"lr_scheduler": "constant", "lr_warmup_steps": 10}, "constant has no warmup"),
        ({"max_train_epochs": 2, "max_train_steps": 10}, "the epochs count"),
        ({"network_dim": 4, "network_alpha": 8}, "network_alpha 8 is above network_dim 4"),
    ],
)
def test_what_does_not_go_together_is_told(values: dict[str, object], says: str) -> None:
    found = settings_file.from_values({"pretrained_model_name_or_path": "a", **values})
    assert any(says in text for text in found.remarks)


def test_prompts_are_read_from_their_file_where_that_is_here(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("# two\nmika --d 1\nmika, hat\n", encoding="utf-8")
    found = settings_file.from_values({"xformers": True, "sample_prompts": str(path)})
    assert found.settings.sample_prompts == "# two\nmika --d 1\nmika, hat"
    path.unlink()
    found = settings_file.from_values({"xformers": True, "sample_prompts": str(path)})
    assert found.skipped == ("sample_prompts",)


def test_a_toml_that_a_script_names_is_read_below_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text("[a]\nnetwork_dim = 8\nseed = 1\n", encoding="utf-8")
    script = tmp_path / "run.sh"
    script.write_text("python train_network.py --config_file=base.toml --seed 2\n", encoding="utf-8")
    s = settings_file.read(script).settings
    assert (s.network_dim, s.seed) == (8, 2)
    (tmp_path / "base.toml").unlink()
    assert settings_file.read(script).skipped == ("config_file",)


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.sh", b"echo hello", "starts no training"),
        ("a.txt", b"just words", "no valid TOML"),
        ("a.toml", b"", "no names and values"),
        ("a.safetensors", b"\0" * 4, "only 4 bytes"),
        ("a.toml", b"x = 1\n" * 900_000, "too large"),
    ],
)
def test_what_is_no_settings_file_is_one_line(tmp_path: Path, name: str, data: bytes, says: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    if name.endswith("safetensors"):
        pytest.importorskip("torch")
    with pytest.raises(SettingsError, match=says) as caught:
        settings_file.read(path)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
