"""dataset_config: where a value is looked for, what is refused, and how it becomes subsets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lora_lab.dataset.held_out import split
from lora_lab.errors import LoraLabError, SettingsError
from lora_lab.training.dataset_config import scan_of, sources_of
from lora_lab.training.dataset_facts import facts_of
from lora_lab.training.plan import make_plan
from lora_lab.training.settings import TrainSettings
from lora_lab.training.text.caption_preview import preview, where_cut

README = """
[general]
shuffle_caption = true
caption_extension = '.txt'
keep_tokens = 1

[[datasets]]
resolution = 512
batch_size = 4
keep_tokens = 2

  [[datasets.subsets]]
  image_dir = 'hoge'
  class_tokens = 'hoge girl'

  [[datasets.subsets]]
  image_dir = 'fuga'
  class_tokens = 'fuga boy'
  keep_tokens = 3

  [[datasets.subsets]]
  is_reg = true
  image_dir = 'reg'
  class_tokens = 'human'
  keep_tokens = 1

[[datasets]]
resolution = [768, 768]
batch_size = 2

  [[datasets.subsets]]
  image_dir = 'piyo'
  metadata_file = 'piyo_md.json'
"""
"""The example of kohya's own documentation."""


def settings(path: Path | None, **values: Any) -> TrainSettings:
    base = {"output_name": "m", "dataset_config": "" if path is None else str(path), "shuffle_caption": False}
    return TrainSettings.from_mapping({**base, **values})


def written(tmp_path: Path, text: str | dict[str, Any], name: str = "data.toml") -> Path:
    path = tmp_path / name
    path.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
    return path


def sources(path: Path, **values: Any) -> Any:
    config = sources_of(settings(path, **values), 5)
    assert config is not None
    return config.sources


def test_kohyas_own_example_means_what_its_comments_say(tmp_path: Path) -> None:
    found = sources(written(tmp_path, README), prior_loss_weight=0.5)
    assert [s.options.keep_tokens for s in found] == [2, 3, 1, 1]
    assert [s.options.resolution for s in found] == [(512, 512)] * 3 + [(768, 768)]
    assert [s.options.train_batch_size for s in found] == [4, 4, 4, 2]
    assert [s.dataset for s in found] == [0, 0, 0, 1]
    assert [s.regularisation for s in found] == [False, False, True, False]
    assert [s.name for s in found] == ["hoge girl", "fuga boy", "human", ""]
    assert found[0].folder == tmp_path / "hoge", "relative to the file"
    assert found[3].metadata == tmp_path / "piyo_md.json"
    assert all(s.options.shuffle_caption and s.options.seed == 5 for s in found)
    assert all(s.options.prior_loss_weight == 0.5 for s in found), "the command line's"


LEVELS = ("subset", "dataset", "general", "run")
NAMES = {
    "flip_aug": st.booleans(), "keep_tokens": st.integers(0, 9), "caption_prefix": st.sampled_from(["a", "b"]),
    "caption_dropout_rate": st.sampled_from([0, 0.25, 1]), "resize_interpolation": st.sampled_from(["area", "lanczos"]),
    "token_warmup_step": st.sampled_from([0.5, 20]), "caption_separator": st.sampled_from([",", ";"]),
}  # fmt: skip


@given(st.dictionaries(st.sampled_from(LEVELS), st.fixed_dictionaries({}, optional=NAMES)))
def test_a_value_comes_from_the_nearest_level(tmp_path_factory: Any, given_values: dict[str, dict[str, Any]]) -> None:
    levels = {name: given_values.get(name, {}) for name in LEVELS}
    file = {
        "general": levels["general"],
        "datasets": [{**levels["dataset"], "subsets": [{"image_dir": "x", **levels["subset"]}]}],
    }
    path = written(tmp_path_factory.mktemp("config"), file, "data.json")
    (source,) = sources(path, **levels["run"])
    for name in NAMES:
        judge = next((levels[level][name] for level in LEVELS if name in levels[level]), None)
        if judge is not None:
            assert getattr(source.options, name) == judge, name


ONE = {"subsets": [{"image_dir": "x"}]}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"datasets": [{"subsets": [{"image_dir": "x", "keep_token": 1}]}]}, "'keep_token'.*mean keep_tokens"),
        ({"datasets": [{"image_dir": "x", **ONE}]}, r"image_dir may not stand in \[datasets\]"),
        ({"datasets": [{"subsets": [{"image_dir": "x", "resolution": 64}]}]}, r"move it to \[datasets\]"),
        ({"general": {"zzzz": 1}, "datasets": [ONE]}, r"\[general\] has no key 'zzzz'"),
        ({"batch_size": 1, "datasets": [ONE]}, "batch_size stands outside"),
        ({"datasets": []}, "no dataset"),
        ({"datasets": [{}]}, "dataset 1 has no subsets"),
        ({"datasets": 3}, "datasets is no list"),
        ({"datasets": [{"subsets": [3]}]}, "is no list of sections"),
        ({"general": 3, "datasets": [ONE]}, "general holds no names"),
        ({"datasets": [{"subsets": [{"num_repeats": 2}]}]}, "has no image_dir"),
        ({"datasets": [{"batch_size": 0, **ONE}]}, "batch_size is 0"),
        ({"datasets": [{"resolution": 60, "enable_bucket": False, **ONE}]}, "resolution is"),
        ({"datasets": [{"subsets": [{"image_dir": "x", "flip_aug": "maybe"}]}]}, "flip_aug is 'maybe'"),
        ({"datasets": [{"subsets": [{"image_dir": "x", "color_aug": True}]}]}, "color_aug takes other colours"),
        ({"datasets": [{"subsets": [{"image_dir": "x", "random_crop": True}]}]}, "cannot be cached"),
        (
            {"datasets": [{"enable_bucket": False, "face_crop_aug_range": [2, 4], **ONE}]},
            "face_crop_aug_range takes another piece",
        ),
        ({"datasets": [{"face_crop_aug_range": [4, 2], "enable_bucket": False, **ONE}]}, "crop_aug_range is '4,2'"),
        ({"datasets": [{"network_multiplier": 0.5, **ONE}]}, "weigh the subset by loss_weight"),
        ({"datasets": [{"subsets": [{"image_dir": "x", "conditioning_data_dir": "m"}]}]}, "masked_loss is off"),
        (
            {"datasets": [{"subsets": [{"image_dir": "x"}, {"image_dir": "y", "metadata_file": "z"}]}]},
            "mixes subsets with and without a metadata_file",
        ),
        ({"datasets": [{"subsets": [{"image_dir": "x", "caption_separator": ""}]}]}, "caption_separator is empty"),
        ({"datasets": [{"subsets": [{"image_dir": "x", "resize_interpolation": "best"}]}]}, "resize_interpolation is"),
    ],
)
def test_what_is_wrong_is_one_line_with_the_file(tmp_path: Path, content: dict[str, Any], says: str) -> None:
    path = written(tmp_path, content, "data.json")
    with pytest.raises(SettingsError, match=says) as caught:
        sources(path)
    assert "\n" not in str(caught.value)
    assert caught.value.file == str(path)
    assert caught.value.remedy


NO_FILES = [("a.toml", "[general"), ("a.json", "[1]"), ("a.toml", "\xff"), ("gone", "")]


@pytest.mark.parametrize(("name", "text"), NO_FILES)
def test_a_file_that_is_none_is_one_line(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    if name != "gone":
        path.write_bytes(text.encode("latin-1"))
    with pytest.raises(SettingsError, match="dataset_config") as caught:
        sources_of(settings(path))
    assert "\n" not in str(caught.value)


WORDS = st.sampled_from(["general", "datasets", "subsets", "image_dir", "flip_aug", "x"])
PLAIN = st.none() | st.integers() | st.text(max_size=6)


def refusal(path: Path) -> str:
    try:
        sources_of(settings(path))
    except LoraLabError as error:
        return str(error)
    return ""


@given(st.recursive(PLAIN, lambda one: st.lists(one, max_size=3) | st.dictionaries(WORDS, one, max_size=4)))
def test_any_json_is_read_or_refused(tmp_path_factory: Any, content: Any) -> None:
    path = tmp_path_factory.mktemp("any") / "data.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    assert "\n" not in refusal(path)


def test_what_has_no_effect_is_told(tmp_path: Path) -> None:
    subset = {"image_dir": "x", "cache_info": True, "custom_attributes": {"a": 1}}
    more = [subset, {"image_dir": "y", "num_repeats": 0}, {"image_dir": "z", "face_crop_aug_range": [1.0, 2.0]}]
    path = written(tmp_path, {"datasets": [{"enable_bucket": True, "subsets": more}]}, "data.json")
    config = sources_of(settings(path))
    assert config is not None
    told = " ".join(config.warnings)
    for words in ("cache_info", "custom_attributes", "y is left out", "face_crop_aug_range has no effect"):
        assert words in told
    assert len(config.sources) == 2


def test_states_are_not_cached_where_a_subset_moves_its_tags(tmp_path: Path) -> None:
    subset = {"image_dir": "x", "shuffle_caption": True}
    path = written(tmp_path, {"datasets": [{"subsets": [subset]}]}, "data.json")
    own = settings(path, cache_text_encoder_outputs=True, network_train_unet_only=True)
    with pytest.raises(SettingsError, match="shuffle_caption gives tags another order"):
        scan_of(own)


def pictures(folder: Path, count: int) -> str:
    folder.mkdir(parents=True)
    for number in range(count):
        Image.new("RGB", (64, 64)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text("Mika, hat", encoding="utf-8")
    return str(folder)


SIZES = {"resolution": 64, "min_bucket_reso": 32, "max_bucket_reso": 128}


def test_the_file_tells_of_each_dataset_as_kohyas_does(tmp_path: Path) -> None:
    a, b = pictures(tmp_path / "a", 3), pictures(tmp_path / "b", 2)
    first = {"batch_size": 2, "subsets": [{"image_dir": a, "num_repeats": 2, "caption_prefix": "p"}, {"image_dir": b}]}
    second = {**SIZES, "enable_bucket": False, "subsets": [{"image_dir": a, "class_tokens": "x", "loss_weight": 0.5}]}
    path = written(tmp_path, {"general": SIZES, "datasets": [first, second]}, "data.json")
    report, _ = scan_of(settings(path, train_batch_size=1))
    facts = facts_of(report, by_config=True)
    assert facts.dirs == {
        "a": {"n_repeats": 2, "img_count": 3}, "b": {"n_repeats": 1, "img_count": 2},
        "a (2)": {"n_repeats": 1, "img_count": 3},
    }  # fmt: skip
    assert facts.datasets is not None
    assert [d["batch_size_per_device"] for d in facts.datasets] == [2, 1]
    assert [d["num_train_images"] for d in facts.datasets] == [8, 3]
    assert [d["enable_bucket"] for d in facts.datasets] == [True, False]
    assert facts.datasets[0]["tag_frequency"] == {"a": {"mika": 3, "hat": 3}, "b": {"mika": 2, "hat": 2}}
    assert facts.datasets[1]["subsets"][0]["class_tokens"] == "x"
    assert facts.datasets[1]["subsets"][0]["loss_weight"] == 0.5
    assert facts.datasets[0]["subsets"][0]["caption_prefix"] == "p"
    kohyas = {
        "img_count", "num_repeats", "color_aug", "flip_aug", "random_crop", "shuffle_caption", "keep_tokens",
        "keep_tokens_separator", "secondary_separator", "enable_wildcard", "caption_prefix", "caption_suffix",
        "resize_interpolation", "image_dir", "class_tokens", "is_reg",
    }  # fmt: skip
    assert facts.datasets[0]["subsets"][1].keys() == kohyas
    assert report.batches_per_epoch == 4 + 3


def test_a_dataset_may_hold_out_a_share_of_its_own(tmp_path: Path) -> None:
    a, b = pictures(tmp_path / "a", 4), pictures(tmp_path / "b", 4)
    datasets = [{"validation_split": 0.5, "subsets": [{"image_dir": a}]}, {"subsets": [{"image_dir": b}]}]
    path = written(tmp_path, {"general": SIZES, "datasets": datasets}, "data.json")
    trained, held = split(scan_of(settings(path))[0], 1)
    assert [len(s.pictures) for s in trained.subsets] == [2, 4]
    assert held is not None
    assert [(s.folder.name, len(s.pictures)) for s in held.subsets] == [("a", 2)]


def test_the_preview_shows_what_the_run_will_draw_and_where_it_is_cut(tmp_path: Path) -> None:
    pictures(tmp_path / "set" / "3_mika", 4)
    long = "mika, " + ", ".join(f"tag{i}" for i in range(60))
    (tmp_path / "set" / "3_mika" / "0.txt").write_text(long, encoding="utf-8")
    values = {"seed": 3, "shuffle_caption": True, "keep_tokens": 1, "train_batch_size": 2, **SIZES}
    own = settings(None, train_data_dir=str(tmp_path / "set"), **values)

    def counter(text: str) -> int:
        return len(text.replace(",", " , ").split())

    report, _ = scan_of(own, 3)
    shown = preview(report, own, make_plan(own, report.batches_per_epoch), counter)
    assert (len(shown.captions), shown.total, shown.room, shown.certain) == (10, 12, 75, True)
    for caption in shown.captions:
        assert caption.tokens == counter(caption.read + caption.cut)
        assert counter(caption.read) <= 75
        assert bool(caption.cut) == (caption.picture.stem == "0")
        assert (caption.read + caption.cut).startswith(("mika, ", "Mika, "))
    from lora_lab.dataset.epochs import Epochs

    epochs = Epochs(report)
    order = [index for plan in epochs.batches(1) for index in plan.indices][:10]
    assert [c.read + c.cut for c in shown.captions] == [epochs.caption(index, 1) for index in order]
    weighed = own.replace(weighted_captions=True, shuffle_caption=False, caption_prefix="(x:1.3)")
    report, _ = scan_of(weighed, 3)
    first = preview(report, weighed, make_plan(weighed, report.batches_per_epoch), None).captions[0]
    assert first.weights == (("x", 1.3),)
    assert first.tokens is None


@given(st.text(st.sampled_from("ab ,"), max_size=60), st.integers(0, 20))
def test_the_cut_is_the_longest_beginning_that_fits(text: str, room: int) -> None:
    def counter(part: str) -> int:
        return len(part.replace(",", " , ").split())

    end = where_cut(text, room, counter)
    ends = [i for i, letter in enumerate(text) if letter in " ,"] + [0, len(text)]
    assert end == max(e for e in ends if counter(text[:e]) <= room)
