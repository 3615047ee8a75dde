"""What a run starts from: a LoRA, LoRAs beside it, and stages. The judge of base_weights is a really merged model."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers", reason="diffusers is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

from lora_lab.errors import LoraLabError, SettingsError  # noqa: E402
from lora_lab.families import Family  # noqa: E402
from lora_lab.network import files  # noqa: E402
from lora_lab.network.adapter import Adapter  # noqa: E402
from lora_lab.network.sites import find_sites  # noqa: E402
from lora_lab.network.sizes import Size  # noqa: E402
from lora_lab.training.events import RunEnded, SnapshotSaved, StepDone  # noqa: E402
from lora_lab.training.jobs import JobQueue  # noqa: E402
from lora_lab.training.prepare import check_start  # noqa: E402
from lora_lab.training.settings import TrainSettings, settings_file  # noqa: E402
from lora_lab.training.settings.stages import expand, parse_line, to_lines  # noqa: E402

from .running import MODEL, Training, at_forward, fail_with, fresh_host, same, tensors  # noqa: E402
from .tiny import TinyHost, TinyModel, run_settings  # noqa: E402


@pytest.fixture
def host(tmp_path: Path) -> TinyHost:
    return fresh_host(tmp_path)


def lora_file(path: Path, dim: int = 2, alpha: float = 1, model: TinyModel = MODEL, **more: Any) -> Path:
    """A LoRA of the tiny model with numbers in both halves."""
    sites = find_sites(model.unet, model.text_encoders, Family.SD1, "diffusers", **more)
    adapter = Adapter.create(sites, sizes=Size(dim, alpha), generator=torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(6)
    held = adapter.to_tensors()
    for name, tensor in held.items():
        if name.endswith("lora_up.weight"):
            held[name] = torch.randn(tensor.shape, generator=generator) * 0.03
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, held, {})
    return path


def floats(run: Training) -> dict[str, Any]:
    assert run.unchanged
    assert run.ended.error == ""
    return tensors(run.ended.lora)


def test_a_run_goes_on_with_a_lora(host: TinyHost) -> None:
    """With a rate next to nothing it ends as it began; the file is found by its name in the LoRA folder."""
    start = lora_file(host.folder / "loras" / "start.safetensors")
    run = Training(host, network_weights="start", learning_rate=1e-12, save_precision="float", max_train_epochs=1)
    found, begun = floats(run), tensors(start)
    assert found.keys() == begun.keys()
    assert all(torch.allclose(found[n], begun[n], atol=1e-8) for n in begun)
    moved = floats(Training(host, network_weights=str(start), output_name="moved", save_precision="float"))
    assert any(not torch.allclose(moved[n], begun[n], atol=1e-5) for n in begun)


def test_sizes_come_from_the_file_where_that_is_asked_for(host: TinyHost) -> None:
    start = lora_file(host.folder / "start.safetensors", dim=5, alpha=3)
    values = {"network_weights": str(start), "learning_rate": 1e-12, "save_precision": "float", "max_train_epochs": 1}
    found, begun = floats(Training(host, dim_from_weights=True, **values)), tensors(start)
    assert all(torch.allclose(found[n], begun[n], atol=1e-8) for n in begun)
    settings = TrainSettings.from_mapping(run_settings(host.folder, output_name="other", **values))
    with pytest.raises(SettingsError, match="has rank 5, network_dim is 2.*set network_dim to 5, or switch dim_from"):
        check_start(settings, host)
    wrong_alpha = Training(host, output_name="other", **{**values, "network_dim": 5})
    assert "the alpha 3, this run 1" in wrong_alpha.ended.error
    assert wrong_alpha.unchanged


def test_parts_that_are_not_trained_stay_as_they_were(host: TinyHost) -> None:
    """kohya drops them from the file; a run that goes on with the UNet alone keeps the text encoder's part."""
    start = lora_file(host.folder / "start.safetensors")
    values = {"network_weights": str(start), "network_train_unet_only": True, "save_precision": "float"}
    found, begun = floats(Training(host, **values)), tensors(start)
    assert found.keys() == begun.keys()
    te = {name for name in begun if name.startswith("lora_te_")}
    assert te
    assert same({n: found[n] for n in te}, {n: begun[n] for n in te})
    up = next(n for n in begun if n.startswith("lora_unet_") and n.endswith("up.weight"))
    assert not torch.equal(found[up], begun[up])


def test_base_weights_act_as_if_merged_into_the_checkpoint(host: TinyHost, tmp_path: Path) -> None:
    """The judge: the same run on a model whose weights really hold 0.7 of the one LoRA and all of the other."""
    one = lora_file(tmp_path / "with blanks" / "one.safetensors", dim=4, alpha=2)
    two = lora_file(tmp_path / "two.safetensors", dim=1, alpha=1, parts=frozenset({"unet"}))
    # SGD's step follows the gradient; Adam's would make the last bits of small ones large. At 64 pixels the bottom
    # has one position, whose norms of two numbers would make them large too.
    values = {
        "save_precision": "float", "optimizer_type": "SGDNesterov", "learning_rate": 0.02, "resolution": 128,
        "max_train_epochs": 1,
    }  # fmt: skip
    beside = Training(
        host, base_weights=[str(one), str(two)], base_weights_multiplier=["0.7"], output_name="beside", **values
    )
    merged_model = copy.deepcopy(MODEL)
    for path, strength in ((one, 0.7), (two, 1.0)):
        merge(merged_model, tensors(path), strength)
    merged = Training(TinyHost(tmp_path, merged_model), output_name="merged", **values)
    plain = Training(host, output_name="plain", **values)
    a, b, c = floats(beside), floats(merged), floats(plain)
    first = [run.of(StepDone)[0].loss for run in (beside, merged, plain)]
    assert first[0] == pytest.approx(first[1], rel=1e-5)
    assert first[0] != pytest.approx(first[2], rel=1e-3)
    learnt = max(float(t.abs().max()) for n, t in b.items() if n.endswith("up.weight"))
    assert a.keys() == b.keys() == c.keys()
    assert max(float((a[n] - b[n]).abs().max()) for n in a) < min(1e-5, 0.01 * learnt)
    assert max(float((a[n] - c[n]).abs().max()) for n in a) > 0.02 * learnt


def merge(model: TinyModel, held: dict[str, Any], strength: float) -> None:
    """W + strength * alpha / rank * up @ down, written out."""
    for site in find_sites(model.unet, model.text_encoders, Family.SD1, "diffusers"):
        if f"{site.name}.alpha" not in held:
            continue
        down, up = (held[f"{site.name}.lora_{half}.weight"].flatten(1) for half in ("down", "up"))
        delta = strength * float(held[f"{site.name}.alpha"]) / down.shape[0] * (up @ down)
        with torch.no_grad():
            site.module.weight += delta.view(site.module.weight.shape)


def test_base_weights_are_seen_in_previews_and_gone_afterwards(host: TinyHost) -> None:
    base = lora_file(host.folder / "base.safetensors", dim=4, alpha=8)
    values = {"sample_prompts": "mika --w 64 --h 64 --d 1", "sample_at_first": True, "max_train_epochs": 1}
    with_base = Training(host, base_weights=[str(base)], **values)
    first = with_base.ended.previews[0].read_bytes()
    plain = Training(host, output_name="plain", **values)
    assert with_base.unchanged
    assert plain.unchanged
    assert first != plain.ended.previews[0].read_bytes()


def test_a_failure_with_base_weights_leaves_the_model_as_it_was(host: TinyHost) -> None:
    base = lora_file(host.folder / "base.safetensors")
    MODEL.during = at_forward(2, fail_with(RuntimeError("on purpose")))
    run = Training(host, base_weights=[str(base)], network_weights=str(base))
    assert run.ended.reason == "failed"
    assert run.unchanged


# --- bad input ------------------------------------------------------------------------------------------


def sdxl_file(path: Path) -> Path:
    name = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"
    held = {"alpha": torch.tensor(1.0), "lora_down.weight": torch.ones(2, 8), "lora_up.weight": torch.ones(8, 2)}
    files.write(path, {f"{name}.{suffix}": tensor for suffix, tensor in held.items()}, {})
    return path


def sd2_file(path: Path) -> Path:
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    held = {"alpha": torch.tensor(1.0), "lora_down.weight": torch.ones(2, 1024), "lora_up.weight": torch.ones(320, 2)}
    files.write(path, {f"{name}.{suffix}": tensor for suffix, tensor in held.items()}, {})
    return path


def checkpoint_file(path: Path) -> Path:
    files.write(path, {"model.diffusion_model.input_blocks.0.0.weight": torch.ones(4, 4)}, {})
    return path


def garbage(path: Path) -> Path:
    path.write_bytes(b"PK\x03\x04 a pickle, perhaps")
    return path


@pytest.mark.parametrize("setting", ["network_weights", "base_weights"])
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path, "there is no such file"),
        (sdxl_file, "of the family sdxl, the loaded checkpoint tiny.safetensors of sd1"),
        (sd2_file, "of the family sd2, the loaded checkpoint tiny.safetensors of sd1"),
        (checkpoint_file, "a whole checkpoint, no LoRA"),
        (garbage, "safetensors"),
    ],
)
def test_a_wrong_file_is_one_line_before_the_start(host: TinyHost, setting: str, make: Any, says: str) -> None:
    path = str(make(host.folder / "wrong.safetensors"))
    value = path if setting == "network_weights" else [path]
    settings = TrainSettings.from_mapping(run_settings(host.folder, **{setting: value}))
    with pytest.raises(LoraLabError, match=says) as caught:
        check_start(settings, host)
    assert "\n" not in str(caught.value)
    assert "wrong.safetensors" in str(caught.value)
    assert host.leases == []


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"dim_from_weights": True}, "network_weights, which is empty"),
        ({"base_weights_multiplier": ["1"]}, "1 values for 0 base_weights"),
        ({"base_weights": ["a"], "base_weights_multiplier": ["half"]}, "holds 'half'"),
    ],
)
def test_what_needs_another_setting_is_refused(host: TinyHost, values: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        check_start(TrainSettings.from_mapping(run_settings(host.folder, **values)), host)


# --- stages ---------------------------------------------------------------------------------------------


@pytest.fixture
def line() -> JobQueue:
    return JobQueue()


def staged(host: TinyHost, stages: str, **values: Any) -> TrainSettings:
    return TrainSettings.from_mapping(run_settings(host.folder, stages=stages, save_precision="float", **values))


def test_each_stage_starts_from_the_one_before(host: TinyHost, line: JobQueue) -> None:
    """A second stage that learns next to nothing ends where the first did; all files are there."""
    run = line.start(staged(host, "max_train_epochs=2 save_every_n_epochs=1\nlearning_rate=1e-12"), host)
    assert run.chain is not None
    heard: list[Any] = []
    run.chain.listen(heard.append)
    run.wait(60)
    assert run.chain.last is not run
    run.chain.last.wait(60)
    names = sorted(path.name for path in (host.folder / "loras").iterdir())
    assert names == ["mika-stage1-000001.safetensors", "mika-stage1.safetensors", "mika-stage2.safetensors"]
    first, second = (tensors(host.folder / "loras" / f"mika-stage{n}.safetensors") for n in (1, 2))
    assert all(torch.allclose(first[n], second[n], atol=1e-7) for n in first)
    assert [r.status().state for r in run.chain.runs] == ["finished", "finished"]
    assert sum(isinstance(e, SnapshotSaved) and e.final for e in heard) == 2
    assert run.chain.last.checked.settings.network_weights.endswith("mika-stage1.safetensors")


def test_a_stage_that_fails_keeps_what_the_earlier_ones_made(host: TinyHost, line: JobQueue) -> None:
    run = line.start(staged(host, "max_train_epochs=1\nmax_train_epochs=1\nmax_train_epochs=1"), host)
    run.listen(lambda event: fail_the_next(event))
    assert run.chain is not None
    run.wait(60)
    last = run.chain.last
    last.wait(60)
    assert len(run.chain.runs) == 2
    assert last.status().state == "failed"
    assert (host.folder / "loras" / "mika-stage1.safetensors").is_file()
    assert not (host.folder / "loras" / "mika-stage3.safetensors").exists()


def fail_the_next(event: Any) -> None:
    if isinstance(event, RunEnded):
        MODEL.during = fail_with(RuntimeError("on purpose"))


def test_a_stage_that_cannot_be_started_is_told(
    host: TinyHost, line: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = line.start(staged(host, "max_train_epochs=1\nmax_train_epochs=1"), host)
    other = copy.copy(MODEL.info)
    object.__setattr__(other, "family", Family.SDXL)
    run.listen(lambda event: monkeypatch.setattr(MODEL, "info", other) if isinstance(event, RunEnded) else None)
    assert run.chain is not None
    # The chain listened first: listeners that come later hear the end after it has started the next.
    run._listeners = run._listeners[::-1]
    run.wait(60)
    assert len(run.chain.runs) == 1
    assert run.chain.error is not None
    assert any("The next stage was not started" in text for text in run.status().warnings)


def test_all_stages_are_looked_at_before_the_first(host: TinyHost, line: JobQueue) -> None:
    (host.folder / "loras").mkdir()
    (host.folder / "loras" / "mika-stage2.safetensors").write_bytes(b"")
    with pytest.raises(LoraLabError, match="there already"):
        line.start(staged(host, "unet_lr=1e-4\nunet_lr=1e-5"), host)
    assert line.runs() == ()


@pytest.mark.parametrize(
    ("stages", "says"),
    [
        ("max_train_epochs", "stages holds 'max_train_epochs'"),
        ('train_data_dir="a', "does not end"),
        ("network_dim=4", "a stage changes network_dim, which all stages share"),
        ("max_epohcs=4", "no setting 'max_epohcs'"),
        ("unet_lr=1e-4 unet_lr=1e-5", "twice in a line"),
        ("output_name=a\noutput_name=a", "two stages have the output_name a"),
        ("unet_lr=1e-4\nunet_lr=fast", "unet_lr is 'fast'"),
        ("unet_lr=1e-4\nunet_lr=0 text_encoder_lr=0", "stage 2: every learning rate is 0"),
    ],
)
def test_wrong_stages_are_one_line(host: TinyHost, line: JobQueue, stages: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        line.start(staged(host, stages, learning_rate=None), host)


def test_stages_are_tables_in_files_and_lines_in_the_form(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(
        'lora_lab = 1\ntrain_data_dir = "x"\noutput_name = "m"\nmax_train_epochs = 9\n'
        '[[stages]]\nmax_train_steps = 4\ntrain_data_dir = "my pictures"\n[[stages]]\n'
        '[[stages]]\noptimizer_args = ["weight_decay=0.1", "eps=1e-6"]\nflip_aug = true\n',
        encoding="utf-8",
    )
    settings = settings_file.read(path).settings
    assert settings.stages.splitlines() == [
        'max_train_steps=4 train_data_dir="my pictures"', "-",
        'optimizer_args=["weight_decay=0.1", "eps=1e-6"] flip_aug=true',
    ]  # fmt: skip
    one, two, three = expand(settings)
    assert (one.max_train_epochs, one.max_train_steps, one.train_data_dir) == (None, 4, "my pictures")
    assert (two.max_train_epochs, two.train_data_dir, two.output_name) == (9, "x", "m-stage2")
    assert (three.optimizer_args, three.flip_aug) == (("weight_decay=0.1", "eps=1e-6"), True)
    assert TrainSettings.from_mapping(settings.to_mapping()) == settings


@pytest.mark.parametrize("value", ["a b", 'say "x"', "[odd", "", "back\\slash", 'C:\\my "b"\\c', "#1", "ä"])
def test_any_text_survives_as_a_line(value: str) -> None:
    assert parse_line(to_lines([{"training_comment": value, "unet_lr": 0.1}])) == {
        "training_comment": value, "unet_lr": "0.1",
    }  # fmt: skip
