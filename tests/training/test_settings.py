"""Settings: one table, names as kohya's, values read without guessing, wrong ones refused in one line."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_lab import errors
from lora_lab.dataset.options import DatasetOptions
from lora_lab.errors import OutputError, SettingsError
from lora_lab.training.checks import check, warnings
from lora_lab.training.importing.files import parse_toml
from lora_lab.training.previews import SAMPLERS, parse_prompts
from lora_lab.training.settings import TrainSettings, settings_file
from lora_lab.training.settings.fields import SAME
from lora_lab.training.settings.values import parse

SPECS = TrainSettings.specs()
GOOD: dict[str, Any] = {"train_data_dir": "pictures", "output_name": "mika"}


def good(**changes: Any) -> TrainSettings:
    return TrainSettings.from_mapping({**GOOD, **changes})


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.name)
def test_every_row_explains_itself_and_holds_its_own_defaults(spec: Any) -> None:
    assert spec.help.endswith(".")
    assert len(spec.help) > 20
    if spec.kind == "choice":
        assert spec.choices
    if spec.default is not None and spec.default != "":
        assert parse(spec, spec.default) == spec.default
    if spec.kohya_default != SAME:
        assert parse(spec, spec.kohya_default) == spec.kohya_default != spec.default
    if spec.minimum is not None and spec.kind in ("int", "float"):
        with pytest.raises(SettingsError, match=f"^{spec.name} is .*or more"):
            parse(spec, spec.minimum - 1)
    if spec.maximum is not None and spec.kind in ("int", "float"):
        with pytest.raises(SettingsError, match=f"^{spec.name} is .*or less"):
            parse(spec, spec.maximum + 1)


def test_names_and_aliases_are_unique() -> None:
    names = [name for spec in SPECS for name in (spec.name, *spec.aliases)]
    assert len(names) == len(set(names))


def values_of(spec: Any) -> st.SearchStrategy[Any]:
    low, high = spec.minimum or 0, min(spec.maximum or 1e6, 1e6)
    if spec.name == "max_token_length":
        return st.sampled_from([75, 150, 225])
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "bool": st.booleans(),
        "int": st.integers(int(low), int(high)),
        "float": st.floats(low, high, allow_nan=False),
        "choice": st.sampled_from(spec.choices or ("",)),
        "size": st.tuples(st.integers(int(low), int(high)), st.integers(int(low), int(high))),
        "list": st.lists(st.from_regex(r"[a-z]{1,5}=[0-9]", fullmatch=True), max_size=3).map(tuple),
        "numbers": st.from_regex(r"[0-9]\.[0-9](,[0-9]){0,4}|sine", fullmatch=True),
        "lines": st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    }
    plain = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20).map(str.strip)
    found = kinds.get(spec.kind, plain)
    return st.none() | found if spec.optional else found


FOLDED = ("network_module", "network_args")
"""kohya's words for the kind, which become other settings as they are read."""
ALL_VALUES = st.fixed_dictionaries(
    {}, optional={spec.name: values_of(spec) for spec in SPECS if spec.name not in FOLDED}
)


@given(ALL_VALUES)
def test_there_and_back(values: dict[str, Any]) -> None:
    settings = TrainSettings.from_mapping({k: v for k, v in values.items() if v != "" or k.endswith("dir")})
    assert TrainSettings.from_mapping(settings.to_mapping()) == settings
    assert TrainSettings.from_mapping(settings.to_mapping(changed_only=True)) == settings
    assert TrainSettings.from_mapping(json.loads(json.dumps(settings.to_mapping()))) == settings


@given(ALL_VALUES)
def test_files_there_and_back(values: dict[str, Any]) -> None:
    settings = TrainSettings.from_mapping(values)
    plain = {k: v for k, v in settings.to_mapping(changed_only=True).items() if v is not None}
    back = TrainSettings.from_mapping(plain)
    assert settings_file.from_values(parse_toml(settings_file.to_toml(plain))).settings == back
    assert settings_file.from_values(json.loads(settings_file.to_json(plain))).settings == back


@given(st.dictionaries(st.text(max_size=12), st.none() | st.integers() | st.text(), min_size=1))
def test_names_that_are_no_settings_are_always_refused(values: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="there is no setting"):
        TrainSettings.from_mapping({f"{name}_": value for name, value in values.items()})


def refusal(spec: Any, value: Any) -> SettingsError | None:
    try:
        parse(spec, value)
    except SettingsError as error:
        return error
    return None


ANYTHING = st.none() | st.booleans() | st.integers() | st.text() | st.floats() | st.lists(st.text())


@given(st.sampled_from(SPECS), ANYTHING)
def test_any_value_of_any_setting_is_read_or_refused(spec: Any, value: Any) -> None:
    error = refusal(spec, value)
    if error is not None:
        assert error.what.startswith(spec.name)
        assert error.remedy


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"netwrok_dim": 8}, "no setting 'netwrok_dim': did you mean network_dim"),
        ({"network_dim": 0}, "network_dim is 0: give 1 or more"),
        ({"network_dim": 7.5}, "network_dim is 7.5: give a whole number"),
        ({"network_dim": ""}, "network_dim is empty: give a value"),
        ({"unet_lr": -1e-4}, "unet_lr is -0.0001: give 0 or more"),
        ({"unet_lr": 1e9}, "unet_lr is 1e\\+09: give 10 or less"),
        ({"unet_lr": "fast"}, "unet_lr is 'fast': give a number"),
        ({"unet_lr": float("nan")}, "unet_lr is nan: give a finite number"),
        ({"train_batch_size": 0}, "train_batch_size is 0: give 1 or more"),
        ({"max_token_length": 77}, "max_token_length is 77: give one of 75, 150, 225"),
        ({"lr_scheduler": "cosin"}, "lr_scheduler is 'cosin': give one of constant, constant_with_warmup, linear"),
        ({"enable_bucket": "maybe"}, "enable_bucket is 'maybe': give true or false"),
        ({"resolution": "512x512x3"}, "resolution is '512x512x3'"),
        ({"optimizer": "AdamW", "optimizer_type": "AdamW"}, "optimizer_type is given twice"),
        ({"output_name": 3}, "output_name is 3: give text"),
    ],
)
def test_bad_values_are_one_clear_line(values: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says) as caught:
        TrainSettings.from_mapping(values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"train_data_dir": ""}, "no pictures are chosen"),
        ({"output_name": ""}, "no name"),
        ({"output_name": "a/b"}, "no file name"),
        ({"output_name": ".."}, "no file name"),
        ({"output_name": "mika."}, "no file name"),
        ({"network_train_unet_only": True, "network_train_text_encoder_only": True}, "nothing to train"),
        ({"unet_lr": 0, "text_encoder_lr": 0}, "every learning rate is 0"),
        ({"unet_lr": 1}, "unet_lr is 1, at which AdamW learns nothing"),
        ({"optimizer_type": "Adamm"}, "no optimizer 'Adamm': did you mean Adam"),
        ({"optimizer_type": "Prodigi"}, "did you mean Prodigy"),
        ({"lr_scheduler": "adafactor"}, "AdamW does not have it"),
        ({"lr_scheduler": "piecewise_constant"}, "needs its stairs"),
        ({"lr_scheduler": "piecewise_constant", "lr_scheduler_args": ["step_rules=1:a,2"]}, "step_rules is '1:a,2'"),
        ({"lr_scheduler_args": ["T_max=9"]}, "T_max, which lr_scheduler cosine does not take"),
        ({"lr_scheduler_type": "StepLR", "lr_warmup_steps": 5}, "StepLR has no warmup"),
        ({"block_dims": "1,2,3"}, "block_dims has 3 numbers: give 25 for SD1 and SD2, 23 for SDXL"),
        ({"down_lr_weight": "bell"}, "'bell', neither a list nor a curve"),
        ({"up_lr_weight": "1,x"}, "up_lr_weight is '1,x': give numbers of 0 or more"),
        ({"up_lr_weight": "1,-1"}, "up_lr_weight is '1,-1': give numbers of 0 or more"),
        ({"train_blocks": ["OUT"], "network_train_text_encoder_only": True}, "every learning rate is 0"),
        ({"train_blocks": ["UP"]}, "train_blocks has 'UP', which is no block"),
        ({"stop_text_encoder_training": 5, "stop_text_encoder_training_pct": 5}, "both end the text encoder"),
        ({"stop_text_encoder_training": 5, "network_train_text_encoder_only": True}, "leaves nothing to train"),
        ({"lr_scheduler": "constant", "lr_warmup_steps": 10}, "constant has no warmup"),
        ({"optimizer_type": "DAdaptSGD", "lr_warmup_steps": 10}, "rate of 0 that a warmup begins with"),
        ({"adaptive_noise_scale": 0.1}, "changes the noise_offset, which is 0"),
        ({"min_timestep": 500, "max_timestep": 500}, "no timestep from 500 up to 500"),
        ({"lr_scheduler": "cosine_with_min_lr"}, "needs lr_scheduler_min_lr_ratio"),
        ({"lr_scheduler": "warmup_stable_decay"}, "needs lr_decay_steps"),
        (
            {"lr_scheduler": "warmup_stable_decay", "lr_warmup_steps": 0.5, "lr_decay_steps": 0.6},
            "together are 110%",
        ),
        ({"random_crop": True}, "latents cannot be cached"),
        ({"color_aug": True}, "color_aug takes other colours each time, so the latents cannot be cached"),
        ({"face_crop_aug_range": "2,4", "enable_bucket": False}, "face_crop_aug_range takes another piece each time"),
        ({"face_crop_aug_range": "4,2"}, "face_crop_aug_range is '4,2'"),
        ({"resize_interpolation": "best"}, "resize_interpolation is 'best'"),
        ({"masked_loss": True}, "masked_loss has no masks"),
        ({"loss_weights": "mika"}, "loss_weights has the line 'mika'"),
        ({"validation_split": 0.1, "validation_data_dir": "x"}, "both hold pictures out"),
        ({"caption_separator": ""}, "caption_separator is empty"),
        ({"cache_text_encoder_outputs": True}, "cannot be cached while it is trained"),
        ({"cache_text_encoder_outputs": True, "text_encoder_lr": 0, "text_encoder_lr2": 1e-5}, "while it is trained"),
        ({"cache_text_encoder_outputs": True, "network_train_unet_only": True}, "shuffle_caption gives tags another"),
        ({"min_bucket_reso": 1024, "max_bucket_reso": 512}, "min_bucket_reso 1024 is above"),
        ({"resolution": 128}, "min_bucket_reso 256 is above the resolution 128"),
        ({"resolution": 2048}, "max_bucket_reso 1024 is below the resolution 2048"),
        ({"resolution": 500}, "multiples of 8"),
        ({"bucket_reso_steps": 20}, "multiple of 8"),
        ({"optimizer_args": ["weight_decay"]}, "optimizer_args holds 'weight_decay'"),
        ({"optimizer_args": ["weight_decay=__import__('os')"]}, "optimizer_args holds"),
        ({"optimizer_args": ["lr=1"]}, "use unet_lr"),
        ({"sample_prompts": "mika --q 3"}, "option --q"),
        ({"sample_prompts": "mika --s many"}, "--s 'many'"),
        ({"sample_prompts": "mika --ss heun9"}, "sampler 'heun9'"),
    ],
)
def test_what_does_not_go_together_is_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        check(good(**values))


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.name)
def test_every_setting_is_read_somewhere(spec: Any) -> None:
    """A setting that nothing reads would do nothing; those of the dataset are handed on by name."""
    if spec.name in {field.name for field in dataclasses.fields(DatasetOptions)}:
        assert any(f".options.{spec.name}" in t or f"options.{spec.name}" in t for t in sources("dataset"))
        return
    if spec.name in ("training_comment", *FOLDED):
        return  # a note in the metadata is all it is; or it becomes other settings
    assert any(f"settings.{spec.name}" in t or f"s.{spec.name}" in t for t in sources("training")), spec.name


def sources(room: str) -> list[str]:
    """All of a room but the checks, the files of others and the metadata, in which being read has no effect."""
    folder = Path(errors.__file__).parent / room
    without = {"checks", "importing", "exporting", "metadata.py", "options.py"}
    paths = [p for p in folder.rglob("*.py") if not without & set(p.relative_to(folder).parts)]
    return [p.read_text(encoding="utf-8") for p in paths]


def test_plain_settings_pass_without_a_warning() -> None:
    check(good())
    assert warnings(good()) == ()
    prodigy = good(optimizer_type="prodigy", lr_scheduler="constant", optimizer_args="d_coef=2 betas=0.9,0.99")
    check(prodigy)
    assert warnings(prodigy) == ()


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"network_alpha": 64}, "above network_dim"),
        ({"max_train_epochs": 2, "max_train_steps": 9}, "max_train_steps has no effect"),
        ({"learning_rate": 1e-4, "unet_lr": 1e-4, "text_encoder_lr": 1e-5}, "learning_rate has no effect"),
        ({"network_train_unet_only": True, "text_encoder_lr": 1e-5}, "text_encoder_lr has no effect"),
        ({"network_train_text_encoder_only": True, "unet_lr": 1e-5}, "unet_lr has no effect"),
        ({"lr_scheduler_num_cycles": 3}, "lr_scheduler_num_cycles has no effect"),
        ({"noise_offset_random_strength": True}, "noise_offset_random_strength has no effect"),
        ({"ip_noise_gamma_random_strength": True}, "ip_noise_gamma_random_strength has no effect"),
        ({"multires_noise_discount": 0.8}, "multires_noise_discount has no effect"),
        ({"huber_c": 0.2}, "huber_c has no effect with loss_type l2"),
        ({"loss_type": "huber", "huber_scale": 2}, "huber_scale has no effect with huber_schedule snr"),
        ({"debiased_estimation_loss": True}, "nearly cancel"),
        ({"lr_scheduler_power": 2}, "lr_scheduler_power has no effect with lr_scheduler cosine"),
        ({"lr_scheduler_timescale": 100}, "lr_scheduler_timescale has no effect"),
        ({"lr_scheduler_min_lr_ratio": 0.1}, "lr_scheduler_min_lr_ratio has no effect"),
        ({"lr_decay_steps": 0.1}, "lr_decay_steps has no effect"),
        ({"prior_loss_weight": 0.5}, "prior_loss_weight has no effect"),
        ({"validate_every_n_epochs": 2}, "validate_every_n_epochs has no effect"),
        ({"validate_every_n_steps": 2}, "validate_every_n_steps has no effect"),
        ({"max_validation_steps": 2}, "max_validation_steps has no effect"),
        ({"validation_seed": 2}, "validation_seed has no effect"),
        ({"validation_seed": 2, "validation_data_dir": "x"}, "validation_seed has no effect"),
        ({"dataset_repeats": 2}, "dataset_repeats has no effect"),
        ({"in_json": "x", "reg_data_dir": "y"}, "reg_data_dir has no effect"),
        ({"dataset_config": "x"}, "train_data_dir has no effect"),
        ({"conditioning_data_dir": "x"}, "conditioning_data_dir has no effect"),
        ({"masked_loss_normalize": True}, "masked_loss_normalize has no effect"),
        ({"face_crop_aug_range": "2,4"}, "face_crop_aug_range has no effect, since enable_bucket"),
        ({"token_warmup_min": 3}, "token_warmup_min has no effect"),
        ({"shuffle_caption": False, "caption_separator": ";"}, "caption_separator has no effect"),
        ({"enable_bucket": False, "bucket_no_upscale": True}, "bucket_no_upscale has no effect"),
        ({"shuffle_caption": False, "keep_tokens": 2}, "keep_tokens has no effect"),
        ({"shuffle_caption": False, "keep_tokens_separator": "|||"}, "keep_tokens_separator has no effect"),
        ({"enable_bucket": False, "min_bucket_reso": 64}, "min_bucket_reso has no effect"),
        ({"bucket_no_upscale": True, "max_bucket_reso": 2048}, "max_bucket_reso has no effect"),
        ({"vae_batch_size": 4, "cache_latents": False}, "vae_batch_size has no effect"),
        ({"sample_at_first": True}, "sample_prompts is empty"),
        ({"sample_prompts": "mika"}, "at the end only"),
        ({"unet_lr": 0.05}, "very high for AdamW"),
        ({"optimizer_type": "Prodigy", "learning_rate": 1e-4}, "finds its own rate"),
        ({"optimizer_type": "Prodigy", "unet_lr": 1, "text_encoder_lr": 0.5}, "Prodigy takes one learning rate"),
        ({"optimizer_type": "DAdaptAdam", "up_lr_weight": "linear"}, "DAdaptAdam takes one learning rate"),
        ({"optimizer_type": "Adafactor", "unet_lr": 1e-4}, "unet_lr has no effect with Adafactor"),
        ({"optimizer_type": "Adafactor", "lr_scheduler": "linear"}, "lr_scheduler has no effect with Adafactor"),
        ({"optimizer_type": "Adafactor", "mid_lr_weight": "0.5"}, "rates by block and LoRA+ have no effect"),
        ({"optimizer_type": "AdamWScheduleFree", "lr_warmup_steps": 9}, "give it warmup_steps in optimizer_args"),
        ({"optimizer_type": "Adafactor", "optimizer_args": ["relative_step=False"]}, "max_grad_norm 0 is usual"),
        ({"lr_scheduler_type": "StepLR", "lr_scheduler": "linear"}, "lr_scheduler has no effect"),
        ({"conv_block_dims": ",".join(["1"] * 25)}, "conv_block_dims has no effect"),
        ({"block_lr_zero_threshold": 0.1}, "block_lr_zero_threshold has no effect"),
        ({"block_alphas": ",".join(["1"] * 25)}, "block_alphas has no effect without block_dims"),
        ({"network_train_unet_only": True, "stop_text_encoder_training": 9}, "stop_text_encoder_training has no"),
        ({"network_train_unet_only": True, "loraplus_text_encoder_lr_ratio": 9}, "loraplus_text_encoder_lr_ratio"),
        ({"lr_scheduler": "constant_with_warmup"}, "without lr_warmup_steps is constant"),
    ],
)
def test_what_has_no_effect_or_is_unwise_is_told(values: dict[str, Any], says: str) -> None:
    settings = good(**values)
    check(settings)
    found = warnings(settings)
    assert any(says in text for text in found)
    assert all(text.endswith(".") and not text.endswith("..") for text in found)


def test_prompt_lines_are_kohyas() -> None:
    text = "# comment\n\nmika, red hair --n ugly, bad --w 71 --d 7 --s 12 --l 5.5\nplain"
    first, second = parse_prompts(good(sample_prompts=text, resolution="64,96", min_bucket_reso=64))
    assert (first.prompt, first.negative, first.width, first.height) == ("mika, red hair", "ugly, bad", 64, 96)
    assert (first.seed, first.steps, first.cfg_scale, first.sampler) == (7, 12, 5.5, "Euler a")
    assert (second.prompt, second.negative) == ("plain", "")
    assert set(SAMPLERS) == set(TrainSettings.spec("sample_sampler").choices)


KOHYA = """
[model_arguments]
pretrained_model_name_or_path = "model.safetensors"
v2 = false
[dataset_arguments]
train_data_dir = "img"
resolution = "512,768"
caption_extention = ".txt"
[training_arguments]
output_name = "mika"
network_module = "networks.lora"
network_dim = 64
max_train_epochs = 4
save_every_n_epochs = 0
optimizer_type = "adamw"
"""


def test_a_kohya_file_keeps_kohyas_defaults(tmp_path: Path) -> None:
    path = tmp_path / "kohya.toml"
    path.write_text(KOHYA, encoding="utf-8")
    found = settings_file.read(path)
    s = found.settings
    assert (found.skipped, found.note, found.checkpoint) == ((), "", "model.safetensors")
    assert (s.network_dim, s.network_alpha, s.resolution, s.caption_extension) == (64, 1, (512, 768), ".txt")
    assert (s.max_train_epochs, s.max_train_steps, s.save_every_n_epochs) == (4, None, None)
    assert (s.enable_bucket, s.lr_scheduler, s.min_snr_gamma, s.keep_tokens) == (False, "constant", 0, 0)


def test_an_unknown_key_in_a_file_of_ours_is_refused_with_the_files_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('lora_lab = 1\ntrain_data_dir = "img"\ntokenizer_cache_dir = "x"\n', encoding="utf-8")
    with pytest.raises(SettingsError, match=r"no setting 'tokenizer_cache_dir'.*mine\.toml"):
        settings_file.read(path)


@pytest.mark.parametrize(
    ("name", "data"),
    [("a.toml", b"x = ["), ("a.json", b"{"), ("a.json", b"[1]"), ("a.toml", b"\xff\xfe"), ("a.toml", b"lora_lab = 9")],
)
def test_broken_files_are_refused(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(SettingsError, match=name):
        settings_file.read(path)
    with pytest.raises(SettingsError, match="cannot be read"):
        settings_file.read(tmp_path / "none.toml")


@pytest.mark.parametrize("name", ["s.toml", "s.json"])
def test_written_files_are_read_back(tmp_path: Path, name: str) -> None:
    settings = good(resolution=[64, 128], optimizer_args="a=1", sample_prompts='a "b"\n\tc\\', unet_lr=1e-3)
    settings_file.write(settings, tmp_path / "deep" / name)
    assert settings_file.read(tmp_path / "deep" / name).settings == settings
    assert [p.name for p in (tmp_path / "deep").iterdir()] == [name]


def test_a_place_that_cannot_be_written_to_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        settings_file.write(good(), tmp_path / "file" / "s.toml")


def test_replace_checks_like_from_mapping() -> None:
    assert good().replace(network_dim="8").network_dim == 8
    with pytest.raises(SettingsError):
        good().replace(network_dim=0)


@pytest.mark.parametrize("text", ["--8", "+-3", "8-", "1 2", "٣٣x", "9" * 5000])
def test_what_looks_like_a_whole_number_is_refused_in_a_sentence(text: str) -> None:
    """Found by the long run of `tests.reliability.fuzz`."""
    with pytest.raises(SettingsError, match="network_dim"):
        TrainSettings.from_mapping({"network_dim": text})
