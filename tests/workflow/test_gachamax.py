"""GACHAMAX: likeness and order as numbers, rounds on the disk, and a whole game on the demo checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lora_lab.errors import DatasetError, SettingsError
from lora_lab.tagging.tags import Tag
from lora_lab.workflow.gachamax import likeness
from lora_lab.workflow.gachamax.rounds import Candidate, Round, Rounds, load

TAGS = (Tag("white_hair", 0), Tag("horns", 0), Tag("smile", 0), Tag("general", 9), Tag("zoe", 4))


def test_the_concept_is_what_the_captions_do_not_say() -> None:
    seen = np.array([[0.9, 0.8, 0.9, 1.0, 0.1], [0.8, 0.2, 0.9, 1.0, 0.0]], np.float32)
    concept = likeness.concept_of(seen, TAGS, [["zuli", "smile"], ["zuli", "smile"]])
    assert concept.tags == ("white hair", "horns")
    assert concept.likeness(seen) == pytest.approx([0.85, 0.5])
    said = likeness.concept_of(seen, TAGS, [["white hair", "horns", "smile"]])
    assert said.tags == ("white hair", "horns", "smile")  # the captions say it all
    nothing = likeness.concept_of(np.zeros((1, 5), np.float32), TAGS, [[]])
    assert nothing.tags == ()
    assert nothing.likeness(seen).tolist() == [0, 0]


def flat(*greys: float) -> np.ndarray:
    return np.stack([np.full(likeness.SIDE**2 * 3, grey, np.float32) for grey in greys])


def test_order_likes_the_like_and_the_unlike_of_those_before() -> None:
    alike = np.array([0.9, 0.9, 0.8, 0.1], np.float32)
    best, nearest = likeness.order(alike, flat(0.5, 0.5, 1.0, 0.9), flat(0.5))
    assert best[0] == 2  # nearly as like, and other than what is there
    assert best[-1] == 3
    assert nearest == pytest.approx([0, 0, 0.5, 0.4])


def test_outliers_stick_out() -> None:
    assert likeness.outliers([0.8, 0.82, 0.79, 0.3, 0.81]) == [3]
    assert likeness.outliers([0.8, 0.82, 0.79, 0.78, 0.81]) == []
    assert likeness.outliers([0.1, 0.9]) == []


@pytest.fixture
def rounds(tmp_path: Path) -> Rounds:
    own = tmp_path / "set" / "1_zuli"
    own.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(own / "a.png")
    found = Rounds(tmp_path / "ours", tmp_path / "set")
    folder = found.folder_of(1)
    folder.mkdir(parents=True)
    names = ["round-01_generated_1.png", "round-01_generated_2.png"]
    for name in names:
        Image.new("RGB", (8, 8)).save(folder / name)
        (folder / name).with_suffix(".txt").write_text("zuli, smile\n", encoding="utf-8")
    return found.put(Round(1, "x.safetensors", tuple(Candidate(n, "zuli, smile", 0.5, 0.1) for n in names)))


def test_kept_pictures_join_and_come_back(rounds: Rounds) -> None:
    own = rounds.dataset / "1_zuli"
    chosen = rounds.choose(1, {"round-01_generated_1.png": "keep", "round-01_generated_2.png": "drop"})
    joined = chosen.join(1, own)
    assert sorted(p.name for p in own.iterdir()) == [
        "a.png", "round-01_generated_1.png", "round-01_generated_1.txt",
    ]  # fmt: skip
    assert [c.joined for c in joined.round(1).candidates] == ["1_zuli/round-01_generated_1.png", ""]
    assert load(rounds.folder, rounds.dataset) == joined
    with pytest.raises(SettingsError, match="undo the round first"):
        joined.choose(1, {"round-01_generated_1.png": "drop"})
    undone = joined.undo(1)
    assert [p.name for p in own.iterdir()] == ["a.png"]
    assert undone.last is None
    assert len(list(rounds.folder_of(1).iterdir())) == 4
    assert undone.join(1, own).round(1).kept  # and in again


def test_a_picture_that_the_person_took_away_is_not_missed(rounds: Rounds) -> None:
    own = rounds.dataset / "1_zuli"
    joined = rounds.choose(1, {"round-01_generated_1.png": "keep"}).join(1, own)
    (own / "round-01_generated_1.png").unlink()
    assert joined.undo(1).round(1).kept == ()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"rounds": [1]}', '{"rounds": [{"candidates": [{}]}]}'])
def test_a_damaged_list_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "gachamax.json").write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match="list of rounds is damaged"):
        load(tmp_path, tmp_path)
    with pytest.raises(SettingsError, match="no round 3"):
        Rounds(tmp_path, tmp_path).round(3)


def test_a_game_on_the_demo(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("diffusers", reason="diffusers is not installed")
    from lora_lab.demo import assets, world
    from lora_lab.host.choose import standalone_host
    from lora_lab.tagging.session import Tagger
    from lora_lab.training.events import Event, StepDone
    from lora_lab.workflow.demo import SETTINGS
    from lora_lab.workflow.gachamax.candidates import CandidateSettings
    from lora_lab.workflow.gachamax.game import Game, GameSettings

    data = assets.write_dataset(tmp_path / "all")["character"] / "1_zuli"
    own = tmp_path / "one" / "1_zuli"
    own.mkdir(parents=True)
    for name in ("character-01.png", "character-01.txt"):
        (own / name).write_bytes((data / name).read_bytes())
    training = {**SETTINGS, "max_train_epochs": 2, "train_batch_size": 1}
    made = CandidateSettings(world.CHARACTER, count=4, steps=4, batch_size=4, vary=(("smile", "frown"), ("grass",)))
    host = standalone_host(data_dir=tmp_path / "data")
    with Tagger(assets.tagger_dir()) as tagger:
        with pytest.raises(SettingsError, match="contrast would go into the LoRA"):
            Game.open(own.parent, host, GameSettings(training, replace(made, cfg_scale=11)))
        (tmp_path / "none").mkdir()
        with pytest.raises(DatasetError, match="no folder of pictures"):
            Game.open(tmp_path / "none", host, GameSettings(training, made))
        game = Game.open(own.parent, host, GameSettings(training, made))
        with pytest.raises(SettingsError, match="train the next round first"):
            game.make(tagger, lambda *told: None)
        assert game.train(lambda event: None).pictures == 1
        told: list[tuple[str, int, int]] = []
        one = game.make(tagger, lambda *args: told.append(args))
        assert told[-1] == ("candidates", 4, 4)
        assert len(one.candidates) == 4
        assert sum(bool(c.original) for c in one.candidates) == 2
        assert 0 <= (one.concept or 0) <= 1
        game.choose(game.propose(2))
        assert len(game.join().kept) == 2
        assert game.sticking_out(tagger) == []
        kept = sorted(p.name for p in own.glob("*_generated_*.png"))
        assert len(kept) == 2
        assert all((own / n).with_suffix(".txt").read_text(encoding="utf-8").startswith("zuli") for n in kept)
        again = Game.open(own.parent, host, GameSettings(training, made))  # another day
        assert again.train(lambda event: None).pictures == 3
        again.undo(1)
        assert len(list(own.glob("*.png"))) == 1

        heard: list[Event] = []
        long = GameSettings({**training, "max_train_epochs": 500}, made)
        learnt = lambda: any(isinstance(event, StepDone) for event in heard)  # noqa: E731
        stopped = Game.open(own.parent, host, long).train(heard.append, learnt)
        assert stopped.number == 3  # what it learnt until then is a round all the same
        assert Path(stopped.lora).is_file()
