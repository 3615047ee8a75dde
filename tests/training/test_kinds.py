"""The settings of the kinds: what they build, what kohya's words turn into, what is refused, and a run of each."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers", reason="diffusers is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("lycoris", reason="lycoris-lora is not installed")

from lora_lab.errors import SettingsError  # noqa: E402
from lora_lab.families import Family  # noqa: E402
from lora_lab.network import files  # noqa: E402
from lora_lab.network.adapter import Adapter  # noqa: E402
from lora_lab.network.inspect import inspect  # noqa: E402
from lora_lab.network.sites import find_sites  # noqa: E402
from lora_lab.network.sizes import Size  # noqa: E402
from lora_lab.training import kinds  # noqa: E402
from lora_lab.training.checks import check, warnings  # noqa: E402
from lora_lab.training.events import Warned  # noqa: E402
from lora_lab.training.settings import TrainSettings, network_words  # noqa: E402

from .running import Training, fresh_host  # noqa: E402
from .tiny import TinyHost  # noqa: E402


@pytest.fixture
def host(tmp_path: Path) -> TinyHost:
    return fresh_host(tmp_path)


def settings(**values: Any) -> TrainSettings:
    return TrainSettings.from_mapping({"train_data_dir": "x", "output_name": "m", **values})


RUNS: dict[str, tuple[dict[str, Any], str, str]] = {
    "lora": ({}, "networks.lora", "LoRA"),
    "lora with convolutions": ({"conv_dim": 2, "rank_dropout": 0.2, "module_dropout": 0.2}, "networks.lora", "LoCon"),
    "dora": ({"dora_wd": True}, "lycoris.kohya", "DoRA"),
    "locon": ({"algo": "locon", "conv_dim": 2, "use_tucker": True}, "lycoris.kohya", "LoCon (Tucker)"),
    "loha": ({"algo": "loha", "rank_dropout": 0.2}, "lycoris.kohya", "LoHa"),
    "lokr": ({"algo": "lokr", "factor": 4, "train_norm": True}, "lycoris.kohya", "LoKr"),
    "ia3": ({"algo": "ia3"}, "lycoris.kohya", "(IA)^3"),
    "dylora": ({"algo": "dylora", "block_size": 1}, "networks.dylora", "LoRA"),
    "lora-fa": ({"algo": "lora-fa"}, "networks.lora_fa", "LoRA"),
    "diag-oft": ({"algo": "diag-oft"}, "lycoris.kohya", "OFT"),
    "boft": ({"algo": "boft", "network_dim": 8}, "lycoris.kohya", "OFT"),
    "oft": ({"algo": "oft"}, "networks.oft", "OFT"),
    "glora": ({"algo": "glora"}, "lycoris.kohya", "GLoRA"),
    "full": ({"algo": "full", "preset": "full"}, "lycoris.kohya", "full"),
}
"""Settings, the module in kohya's words, and what the file is told to be."""


AGAIN = ("lora with convolutions", "loha", "dylora")
"""Those that draw by chance: a second run must give the same file."""


@pytest.mark.parametrize("name", RUNS)
def test_each_kind_trains_and_its_file_says_what_it_is(host: TinyHost, name: str) -> None:
    values, module, kind = RUNS[name]
    rate = 1e-4 if name == "full" else 1e-2
    run = Training(host, max_train_epochs=None, max_train_steps=2, unet_lr=rate, text_encoder_lr=rate, **values)
    assert (run.ended.reason, run.ended.error) == ("finished", ""), run.ended
    assert run.unchanged
    report = inspect(run.ended.lora)
    assert report.kind == kind
    held = files.read(run.ended.lora)
    assert held.metadata["ss_network_module"] == module
    if module == "lycoris.kohya":
        assert json.loads(held.metadata["ss_network_args"])["algo"] == values.get("algo", "lora")
    model, s = host.model, settings(**values)
    sites = find_sites(model.unet, model.text_encoders, model.info.family, model.layout, reach=kinds.reach_of(s))
    adapter = Adapter.from_tensors(sites, held.tensors, file=run.ended.lora)
    assert len(adapter.pieces) == len(sites) == report.sites
    assert ("text_encoder" in {site.part for site in adapter.sites}) == (name != "oft")
    if name not in AGAIN:
        return
    again = Training(host, max_train_epochs=None, max_train_steps=2, unet_lr=rate, text_encoder_lr=rate,
                     output_name="again", **values)  # fmt: skip
    other = files.read(again.ended.lora).tensors
    assert all(torch.equal(tensor, other[key]) for key, tensor in held.tensors.items())


def test_norms_are_limited_after_each_step(host: TinyHost) -> None:
    run = Training(host, max_train_epochs=None, max_train_steps=3, unet_lr=0.05, scale_weight_norms=0.1,
                   network_train_unet_only=True)  # fmt: skip
    held = files.read(run.ended.lora)
    assert held.metadata["ss_scale_weight_norms"] == "0.1"
    sites = find_sites(host.model.unet, (), Family.SD1, "diffusers")
    pieces: list[Any] = list(Adapter.from_tensors(sites, held.tensors).pieces)
    norms = [float((p.up.flatten(1) @ p.down.flatten(1)).norm().detach()) * p.scale for p in pieces]
    assert max(norms) == pytest.approx(0.1, rel=1e-3)


@pytest.mark.parametrize(
    ("values", "want"),
    [
        ({"network_module": "networks.lora"}, {"algo": "lora", "conv_dim": None}),
        (
            {"network_module": "networks.lora", "network_args": ["conv_dim=8", "dropout=0.1", "rank_dropout=0.2"]},
            {"conv_dim": 8, "conv_alpha": 1.0, "network_dropout": 0.1, "rank_dropout": 0.2},
        ),
        ({"network_args": "conv_dim=8 conv_alpha=4"}, {"algo": "lora", "conv_dim": 8, "conv_alpha": 4.0}),
        ({"network_module": "networks.dylora", "network_args": ["unit=2"]}, {"algo": "dylora", "block_size": 2}),
        ({"network_module": "networks.dylora"}, {"algo": "dylora", "block_size": 1}),
        ({"network_module": "networks.lora_fa"}, {"algo": "lora-fa"}),
        (
            {"network_module": "networks.oft", "network_alpha": 0.01, "network_args": ["enable_all_linear=True"]},
            {"algo": "oft", "preset": "unet-transformer-only", "constraint": 0.01, "network_train_unet_only": True},
        ),
        ({"network_module": "lycoris.kohya"}, {"algo": "lora", "preset": "full", "conv_dim": None}),
        (
            {"network_module": "lycoris.kohya", "network_alpha": 4, "network_args": ["algo=lokr", "conv_dim=8",
             "factor=8", "use_cp=True", "preset=attn-mlp", "dora_wd=true", "bypass_mode=False"]},
            {"algo": "lokr", "preset": "attn-mlp", "conv_dim": 8, "conv_alpha": 4.0, "factor": 8, "use_tucker": True,
             "dora_wd": True, "wd_on_output": False},
        ),
        ({"network_module": "lycoris.kohya", "network_args": ["conv_dim=0"]}, {"preset": "full-lin", "conv_dim": None}),
        ({"algo": "loha", "network_args": ["algo=loha"]}, {"algo": "loha"}),
    ],
    ids=str,
)  # fmt: skip
def test_kohyas_module_and_arguments_are_settings(values: dict[str, Any], want: dict[str, Any]) -> None:
    s = settings(**values)
    assert {name: getattr(s, name) for name in want} == want
    assert (s.network_module, s.network_args) == (None, ())
    assert s.replace() == s


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"network_module": "networks.lycoris"}, "network_module 'networks.lycoris' is not known"),
        ({"network_args": ["conv_dims=8"]}, "'conv_dims', which no network here knows: did you mean conv_dim"),
        ({"network_args": ["conv_dim"]}, "network_args has 'conv_dim': give entries like conv_dim=8"),
        ({"network_args": ["conv_dim=8", "conv_dim=4"]}, "network_args has conv_dim twice"),
        ({"network_args": ["conv_dim=8"], "conv_dim": 4}, "conv_dim is given as a setting (4) and in network_args (8)"),
        ({"network_args": ["conv_dim=many"]}, "conv_dim is 'many'"),
        ({"network_module": "lycoris.kohya", "network_args": ["algo=lohe"]}, "algo 'lohe' is not known"),
        ({"network_module": "networks.lora", "network_args": ["enable_conv=True"]}, "which no network here knows"),
    ],
    ids=str,
)
def test_wrong_words_of_kohya_are_one_clear_line(values: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings(**values)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.lists(st.text(st.characters(blacklist_categories=("Cs",)), max_size=20), max_size=4))
def test_any_arguments_are_taken_or_refused_in_one_line(entries: list[str]) -> None:
    try:
        s = settings(network_module="lycoris.kohya", network_args=entries)
    except SettingsError:
        return
    assert s.network_args == ()


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"algo": "loha", "network_dropout": 0.1}, "algo loha has no network_dropout"),
        ({"dora_wd": True, "network_dropout": 0.1}, "has no network_dropout"),
        ({"algo": "boft", "rank_dropout": 0.1}, "algo boft has no rank_dropout"),
        ({"algo": "dylora", "network_dim": 6, "block_size": 4}, "block_size 4 does not divide network_dim 6"),
        ({"algo": "dylora", "network_dim": 8, "conv_dim": 6}, "block_size 4 does not divide conv_dim 6"),
        ({"preset": "attn-mlp", "conv_dim": 4}, "preset attn-mlp has no 3x3 convolutions"),
        ({"conv_alpha": 4}, "conv_alpha has nothing to act on, since conv_dim is empty"),
        ({"algo": "glora", "conv_dim": 4}, "has no 3x3 convolutions"),
        ({"preset": "unet-only", "network_train_text_encoder_only": True}, "leaves nothing to train"),
        ({"preset": "everything"}, "there is no preset 'everything'"),
    ],
    ids=str,
)
def test_what_a_kind_does_not_have_is_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        check(settings(**values))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"factor": 8}, "factor has no effect with algo lora"),
        ({"algo": "ia3", "scale_weight_norms": 1}, "scale_weight_norms has no effect with algo ia3"),
        ({"algo": "diag-oft", "rs_lora": True}, "rs_lora has no effect with algo diag-oft"),
        ({"wd_on_output": True}, "wd_on_output has no effect without dora_wd"),
        ({"dora_wd": True, "wd_on_output": True}, "The webui reads DoRA by inputs only"),
        ({"conv_dim": 4, "conv_alpha": 8}, "conv_alpha 8 is above conv_dim 4"),
        ({"use_tucker": True}, "use_tucker has no effect without 3x3 convolutions"),
        ({"algo": "loha", "rank_dropout_scale": True}, "rank_dropout_scale has no effect without rank_dropout"),
        ({"rank_dropout": 0.1, "rank_dropout_scale": True}, "has no effect with a plain LoRA"),
        ({"algo": "glora", "preset": "attn-mlp"}, "The webui reads glora in linear layers only"),
        ({"preset": "unet-only", "text_encoder_lr": 1e-4}, "text_encoder_lr has no effect, since unet-only"),
        ({"preset": "attn-only", "train_norm": True}, "train_norm has no effect"),
        ({"algo": "boft", "network_dim": 4, "network_alpha": 1}, "boft needs a network_dim of 10"),
        ({"algo": "lora", "block_size": 2}, "block_size has no effect with algo lora"),
    ],
    ids=str,
)
def test_what_has_no_effect_or_is_not_read_is_told(values: dict[str, Any], says: str) -> None:
    assert any(says in text for text in warnings(settings(**values)))


@pytest.mark.parametrize("name", RUNS)
def test_a_usual_run_of_a_kind_warns_of_nothing(name: str) -> None:
    dim = {} if name != "boft" else {"network_dim": 12, "network_alpha": 1}
    assert warnings(settings(**{**RUNS[name][0], **dim})) == ()


PRESET = """
enable_conv = true
unet_target_module = ["Transformer2DModel", "ResnetBlock2D"]
text_encoder_target_module = ["CLIPMLP"]
exclude_name = ["down_blocks.0.*"]
use_fnmatch = true
[module_algo_map.FeedForward]
algo = "lokr"
dim = 8
alpha = 2
factor = 4
[name_algo_map."mid_block.*.to_q"]
algo = "loha"
"""


def test_a_preset_file_tells_layers_kinds_and_sizes(host: TinyHost, tmp_path: Path) -> None:
    path = tmp_path / "preset.toml"
    path.write_text(PRESET, encoding="utf-8")
    s = settings(preset=str(path), network_dim=2, network_alpha=1, conv_dim=1)
    check(s)
    model = host.model
    sites = find_sites(model.unet, model.text_encoders, model.info.family, model.layout, reach=kinds.reach_of(s))
    assert {site.name.rsplit("_", 1)[1] for site in sites if site.part == "text_encoder"} == {"fc1", "fc2"}
    assert not any("down_blocks_0" in site.name or "samplers" in site.name for site in sites)
    sizes, recipes = kinds.sizes_of(s), kinds.recipes_of(s)
    told = {site.name: (recipes(site).algo, sizes(site)) for site in sites}
    assert told["lora_unet_mid_block_attentions_0_transformer_blocks_0_ff_net_2"] == ("lokr", Size(8, 2))
    assert told["lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"] == ("loha", Size(2, 1))
    assert told["lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_k"] == ("lora", Size(2, 1))
    assert told["lora_unet_mid_block_resnets_0_conv1"] == ("lora", Size(1, 0.5))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("unet_target = ['a']", "unknown key 'unet_target'"),
        ("unet_target_module = 'Attention'", "give a list of names"),
        ("enable_conv = 1", "give true or false"),
        ("enable_conv = true", "chooses no layers"),
        ("unet_target_name = ['(']", "is no pattern"),
        ("unet_target_name = ['a']\nmodule_algo_map = 3", "no table of tables"),
        ("unet_target_name = ['a']\n[module_algo_map.A]\nalgo = 'lohe'", "unknown algo 'lohe'"),
        ("unet_target_name = ['a']\n[module_algo_map.A]\nfactors = 3", "unknown option 'factors'"),
        ("unet_target_name = ['a']\n[module_algo_map.A]\ndim = 'x'", "has dim 'x'"),
        ("[[", "cannot be read"),
    ],
)
def test_a_wrong_preset_file_is_one_clear_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "preset.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        check(settings(preset=str(path)))
    assert says in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_written_about_a_kind_reads_back_as_it() -> None:
    for values, _, _ in RUNS.values():
        s = settings(**{**values, "network_dim": 8, "network_alpha": 4})
        back = settings(
            network_dim=8, network_alpha=4, network_module=network_words.module(s),
            network_args=[f"{k}={v}" for k, v in network_words.arguments(s).items()],
        )  # fmt: skip
        assert (back.algo, back.conv_dim, back.factor, back.dora_wd) == (s.algo, s.conv_dim, s.factor, s.dora_wd)
        assert back.rank_dropout == s.rank_dropout
        if s.algo != "full":
            same = dataclasses.replace(kinds.reach_of(s), unet_names=(), norms=False)
            assert dataclasses.replace(kinds.reach_of(back), unet_names=(), norms=False) == same


def test_ranks_above_a_layers_width_are_told(host: TinyHost) -> None:
    run = Training(host, max_train_epochs=None, max_train_steps=1, network_dim=48, network_alpha=1)
    assert any("A rank of 48 is more than" in event.text for event in run.of(Warned))
