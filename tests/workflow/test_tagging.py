"""Tagging a dataset: seen once and kept, chosen again and again, written by each mode, with the demo's real tagger."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lora_lab.demo import assets, drawing, world
from lora_lab.errors import DatasetError, Interrupted, SettingsError
from lora_lab.host.base import HostCaptioner, HostTagger, OpenedTagger
from lora_lab.tagging.choose import Choice
from lora_lab.tagging.tags import TaggerError
from lora_lab.workflow import tag_captions, tagging
from lora_lab.workflow.captions import CaptionProject

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

CHOICE = Choice(general_threshold=0.5)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures of the demo world."""
    folder = tmp_path_factory.mktemp("drawn")
    r = random.Random(1)
    for number in range(1, 7):
        drawing.draw(world.sample(r), number, 128).save(folder / f"character-{number:02}.png")
    return folder


@pytest.fixture
def dataset(tmp_path: Path, drawn: Path) -> Path:
    """Six pictures without captions."""
    shutil.copytree(drawn, tmp_path / "set" / "1_zuli")
    return tmp_path / "set"


def look(dataset: Path, data: Path, *taggers: Any, listen: Any = None) -> tagging.Seen:
    store = tagging.project_store(dataset, data)
    return tagging.look(tagging.find_pictures(dataset), taggers or [tagging.demo_tagger()], store, listen)


def test_what_was_seen_is_not_computed_again(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = look(dataset, tmp_path / "data")
    assert first.computed == 6
    picture = first.pictures[0]
    picture.rename(picture.with_name("another name #1 ü.png"))
    shutil.copy(first.pictures[1], dataset / "1_zuli" / "copy.png")
    monkeypatch.setattr(tagging, "Tagger", None)  # the net is not even opened
    second = look(dataset, tmp_path / "data")
    assert second.computed == 0
    assert len(second.pictures) == 7
    assert second.choose(CHOICE)[0] == first.choose(CHOICE)[0]
    assert second.choose(CHOICE)[-1] == first.choose(CHOICE)[1]  # the copy


def test_thresholds_move_without_a_net(dataset: Path, tmp_path: Path) -> None:
    seen = look(dataset, tmp_path / "data")
    few, many = (sum(map(len, seen.choose(Choice(general_threshold=t)))) for t in (1.0, 0.0))
    assert few < many
    kept = tagging.kept(seen.pictures, [tagging.demo_tagger()], tagging.project_store(dataset, tmp_path / "data"))
    assert kept.choose(CHOICE) == seen.choose(CHOICE)


def test_a_stopped_round_goes_on(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lora_lab.tagging.batches import Batching

    def stop(stage: str, done: int, total: int) -> None:
        if stage.startswith("tagging") and done >= 2:
            raise Interrupted("tagging was stopped")

    store = tagging.project_store(dataset, tmp_path / "data")
    pictures = tagging.find_pictures(dataset)
    looking = tagging.Looking(Batching(2))
    with pytest.raises(Interrupted):
        tagging.look(pictures, [tagging.demo_tagger()], store, stop, looking)
    assert tagging.look(pictures, [tagging.demo_tagger()], store, None, looking).computed == 4


def test_broken_pictures_are_named_and_the_others_tagged(dataset: Path, tmp_path: Path) -> None:
    folder = dataset / "1_zuli"
    (folder / "broken.png").write_bytes((folder / "character-01.png").read_bytes()[:500])
    (folder / "empty.jpg").write_bytes(b"")
    seen = look(dataset, tmp_path / "data")
    assert sorted(Path(p.file).name for p in seen.problems) == ["broken.png", "empty.jpg"]
    assert [len(tags) > 3 for tags in seen.choose(CHOICE)] == [p.name.startswith("char") for p in seen.pictures]


def test_a_folder_that_vanishes_while_tagging_ends_it_in_one_sentence(dataset: Path, tmp_path: Path) -> None:
    def vanish(stage: str, done: int, total: int) -> None:
        if stage.startswith("tagging") and done == 0:
            shutil.rmtree(dataset)

    with pytest.raises(DatasetError, match="the folder is gone"):
        look(dataset, tmp_path / "data", listen=vanish)


def test_which_pictures_are_found(dataset: Path, tmp_path: Path) -> None:
    for name in ("a.PNG", ".hidden.png", "notes.txt", "3_two/b.webp", "loose/c.jpg", "3_two/deep/d.jpg"):
        path = dataset / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    names = [p.name for p in tagging.find_pictures(dataset) if not p.name.startswith("char")]
    assert names == ["b.webp", "a.PNG"]
    deep = [p.name for p in tagging.find_pictures(dataset, recursive=True) if not p.name.startswith("char")]
    assert deep == ["b.webp", "d.jpg", "a.PNG", "c.jpg"]
    with pytest.raises(DatasetError, match="no such folder"):
        tagging.find_pictures(tmp_path / "nowhere")


def test_no_tagger_and_one_twice_are_refused(dataset: Path, tmp_path: Path) -> None:
    demo = tagging.demo_tagger()
    with pytest.raises(SettingsError):
        look(dataset, tmp_path / "data", demo, demo)
    with pytest.raises(SettingsError):
        tagging.look([], [], tagging.project_store(dataset, tmp_path / "data"))


def test_writing_by_each_mode_and_back(dataset: Path, tmp_path: Path) -> None:
    mine = dataset / "1_zuli" / "character-02.txt"
    mine.write_text("zuli, my own words", encoding="utf-8")
    project = CaptionProject.open(dataset, tmp_path / "data")
    seen = tagging.look(
        tag_captions.pictures_of(project), [tagging.demo_tagger()], tagging.project_store(dataset, tmp_path / "data")
    )
    found = dict(zip((p.stem for p in seen.pictures), seen.choose(CHOICE), strict=True))
    assert len(tag_captions.propose(project, seen, CHOICE, "if-empty")) == 5
    assert tag_captions.propose(project, seen, CHOICE, "no") == []
    changes = tag_captions.propose(project, seen, CHOICE, "append")
    assert len(changes) == 6
    project.apply(changes, "tagged")
    assert (dataset / "1_zuli" / "character-01.txt").read_text().strip() == ", ".join(found["character-01"])
    assert mine.read_text().startswith("zuli, my own words, ")
    assert tag_captions.propose(project, seen, CHOICE, "append") == []  # not again
    project.undo()
    assert mine.read_bytes() == b"zuli, my own words"
    assert not (dataset / "1_zuli" / "character-01.txt").exists()


def test_the_demo_tagger_finds_what_the_world_drew(tmp_path: Path) -> None:
    r = random.Random(5)
    truths = []
    for number in range(24):
        a = world.sample(r)
        truths.append(set(world.tags(a)))
        drawing.draw(a, r.randrange(2**31), 128).save(tmp_path / f"{number:03}.png")
    seen = look(tmp_path, tmp_path / "data")
    found = [set(tags) for tags in seen.choose(CHOICE)]
    hits = sum(len(f & t) for f, t in zip(found, truths, strict=True))
    assert 2 * hits / (sum(map(len, found)) + sum(map(len, truths))) >= 0.95


@dataclass(frozen=True)
class Reddish(HostTagger):
    """A host's tagger that says how red and how blue a picture is."""

    @contextmanager
    def opened(self) -> Iterator[OpenedTagger]:
        def run(pictures: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            means = pictures.reshape(len(pictures), -1, 3).mean(1) / 255
            return np.stack([means[:, 0], means[:, 2], means[:, 1] * 0], axis=1).astype(np.float32)

        yield OpenedTagger(("red_thing", "blue_thing", "rating:safe"), 16, run)


@dataclass(frozen=True)
class Namer(HostCaptioner):
    @contextmanager
    def opened(self) -> Iterator[Any]:
        yield lambda image: f"a picture of {image.width}, seen from afar"


def test_taggers_and_captioners_of_the_host(tmp_path: Path) -> None:
    Image.new("RGB", (40, 40), (250, 0, 30)).save(tmp_path / "a.png")
    tagger = Reddish("Reddish", "reddish 1", 0.5)
    seen = look(tmp_path, tmp_path / "data", tagger)
    assert seen.choose(CHOICE) == [["red thing"]]
    both = look(tmp_path, tmp_path / "data", tagger, tagging.demo_tagger())
    assert both.computed == 1  # the host's was kept
    assert "red thing" in both.choose(CHOICE, "max")[0]
    assert "red thing" in both.choose(Choice(use_card=True), "vote")[0]
    assert tag_captions.describe(Namer("n"), [*seen.pictures, tmp_path / "none.png"], lambda *a: None) == {
        tmp_path / "a.png": ["a picture of 40", "seen from afar"]
    }


def test_a_chosen_place_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "no cache"))
    data = tmp_path / "data"
    shutil.copytree(assets.tagger_dir(), tmp_path / "my taggers" / "mine ü")
    for _ in range(2):
        assert tagging.remember_place(data, tmp_path / "my taggers").name == "mine ü"
    assert [tagger.name for tagger in tagging.taggers_in(data)] == ["mine ü", "demo"]
    assert len((data / tagging.PLACES).read_text(encoding="utf-8").splitlines()) == 1
    shutil.rmtree(tmp_path / "my taggers")
    assert [tagger.name for tagger in tagging.taggers_in(data)] == ["demo"]
    with pytest.raises(TaggerError):
        tagging.remember_place(data, tmp_path)
