"""The runs of a project side by side: differences, ranking, what is remembered, a score on the demo checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lora_lab.errors import SettingsError
from lora_lab.training.settings import TrainSettings, settings_file
from lora_lab.workflow import compare_runs
from lora_lab.workflow.compare_runs import ComparedRun, Score, bad_bakes, differences, keep, next_step, rank, runs_of
from lora_lab.workflow.run_list import ListedRun


def write_run(runs: Path, name: str, dataset: Path, val_loss: float, **changes: object) -> None:
    folder = runs / name
    folder.mkdir(parents=True)
    values = {"train_data_dir": str(dataset), "output_name": name, **changes}
    settings_file.write(TrainSettings.from_mapping(values), folder / "settings.json")
    ended = {"event": "RunEnded", "reason": "finished", "step": 10, "val_loss_last": val_loss, "lora": f"{name}.st"}
    (folder / "events.jsonl").write_text(json.dumps(ended) + "\n", encoding="utf-8")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    write_run(tmp_path / "runs", "1-first", tmp_path / "set", 0.10)
    write_run(tmp_path / "runs", "2-second", tmp_path / "set", 0.08, network_dim=16, unet_lr=2e-4)
    write_run(tmp_path / "runs", "3-other", tmp_path / "elsewhere", 0.01)
    (tmp_path / "runs" / "4-broken").mkdir()
    (tmp_path / "runs" / "4-broken" / "settings.json").write_text("{")
    (tmp_path / "set").mkdir()
    return tmp_path


def test_what_was_changed_from_run_to_run(runs: Path) -> None:
    first, second = runs_of(runs / "set", runs / "runs", runs / "project")
    assert first.changed == {}
    usual = TrainSettings()
    assert second.changed == {"unet_lr": (usual.unet_lr, 2e-4), "network_dim": (usual.network_dim, 16)}
    assert differences({"output_name": "a"}, {"output_name": "b"}) == {}


def test_what_a_person_says_is_remembered(runs: Path) -> None:
    project = runs / "project"
    keep(project, "2-second", stars=4)
    keep(project, "2-second", score=Score(0.9, 0.1, 0.02, 0.8), note="good hands")
    second = runs_of(runs / "set", runs / "runs", project)[1]
    assert (second.stars, second.note, second.score) == (4, "good hands", Score(0.9, 0.1, 0.02, 0.8))
    with pytest.raises(SettingsError, match="6 stars"):
        keep(project, "2-second", stars=6)


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}', '{"a": {"score": {"x": 1}}}', '{"a": {"stars": "x"}}'])
def test_a_damaged_file_is_told(runs: Path, text: str) -> None:
    (runs / "project").mkdir()
    (runs / "project" / compare_runs.FILE).write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match="damaged"):
        runs_of(runs / "set", runs / "runs", runs / "project")


def told(
    name: str, val_loss: float | None, score: Score | None, stars: int = 0, **changed: tuple[float, float]
) -> ComparedRun:
    return ComparedRun(ListedRun(name, name, "finished", val_loss=val_loss), {}, changed, score, stars)


def test_the_ranking_counts_what_was_seen_twice() -> None:
    good, fair = told("good", 0.10, Score(0.9, 0.0)), told("fair", 0.09, Score(0.7, 0.1))
    assert [r.run.name for r, _ in rank([fair, good])] == ["good", "fair"]
    liked = told("fair", 0.09, Score(0.7, 0.1), stars=5)
    assert [r.run.name for r, _ in rank([good, liked])] == ["fair", "good"]
    unknown = told("unknown", None, None)
    assert [r.run.name for r, _ in rank([unknown, good, fair])][-1] == "unknown"
    assert rank([unknown]) == [(unknown, 0.0)]


def test_what_to_do_next() -> None:
    assert "first run" in next_step([])
    assert "Score the runs" in next_step([told("a", 0.1, None)])
    assert "text_encoder_lr" in next_step([told("a", 0.1, Score(0.9, 0.4))])
    assert "learnt too little" in next_step([told("a", 0.1, Score(0.3, 0.0))])
    assert "overfit" in next_step([told("a", 0.1, Score(0.9, 0.0, 0.0, 0.2))])
    assert "snapshots" in next_step([told("a", 0.1, Score(0.9, 0.0, 0.0, 0.9))])
    worse = next_step([told("a", 0.1, Score(0.9, 0.0)), told("b", 0.2, Score(0.4, 0.0), unet_lr=(1e-4, 1e-5))])
    assert "a is still the best" in worse
    assert "unet_lr" in worse


def test_a_score_on_the_demo(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("diffusers", reason="diffusers is not installed")
    from lora_lab.demo import assets, world
    from lora_lab.host.choose import standalone_host
    from lora_lab.network import files
    from lora_lab.network.adapter import Adapter
    from lora_lab.network.sites import find_sites
    from lora_lab.network.sizes import Size
    from lora_lab.tagging.session import Tagger
    from lora_lab.workflow.score_run import Probe, score

    dataset = assets.write_dataset(tmp_path)["character"]
    host = standalone_host(data_dir=tmp_path / "data")
    with host.lease("pictures") as model:
        sites = find_sites(model.unet, model.text_encoders, model.info.family, model.layout)
        fresh = Adapter.create(sites, sizes=Size(2, 2.0), generator=torch.Generator().manual_seed(1))
        files.write(tmp_path / "nothing.safetensors", fresh.to_tensors(), {})
    probe = Probe(world.CHARACTER, size=64, steps=4, cfg_scale=5.0, pictures=4)
    heard: list[int] = []
    with Tagger(assets.tagger_dir()) as tagger:
        found = score(host, tmp_path / "nothing.safetensors", dataset, probe, tagger, lambda *a: heard.append(a[1]))
    assert found.leakage == 0  # a LoRA whose delta is zero leaks nothing
    assert found.drift < 0.01
    assert 0 <= found.concept < 0.5
    assert found.flexibility is not None
    assert heard[-1] == 16


def test_a_seed_is_bad_where_bakes_were_judged_and_none_was_good(runs: Path) -> None:
    project, settings = runs / "project", TrainSettings(train_data_dir=str(runs / "set"), seed=7)
    for number in range(4):
        write_run(runs / "runs", f"{5 + number}-seven", runs / "set", 0.1, seed=7)
    assert bad_bakes(settings, runs / "runs", project) == 0, "nobody has judged them"
    keep(project, "5-seven", stars=1)
    keep(project, "6-seven", stars=2, score=Score(0.9, 0.1))
    keep(project, "7-seven", score=Score(0.3, 0.1))
    assert bad_bakes(settings, runs / "runs", project) == 3
    assert bad_bakes(settings.replace(seed=8), runs / "runs", project) == 0
    assert bad_bakes(settings.replace(seed=None), runs / "runs", project) == 0
    keep(project, "8-seven", score=Score(0.8, 0.1))
    assert bad_bakes(settings, runs / "runs", project) == 0, "one was good, so it is not the seed"
