"""One round after another: a quick run on what there is, candidates from it, the person's choice, and again.

    game = Game.open(dataset, host, settings)
    game.train(listen)            a quick run; its LoRA is kept with the round
    game.make(tagger, listen)     candidates, sorted
    game.choose({"round-01_generated_3.png": "keep"})
    game.join()                   the kept ones are in the dataset; the next round learns from them too
    game.undo(2)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from lora_lab.dataset.captions import first_line, split_tags
from lora_lab.dataset.folders import Picture, Subset, read_root
from lora_lab.dataset.options import DatasetOptions
from lora_lab.errors import DatasetError, Interrupted, SettingsError
from lora_lab.training import jobs
from lora_lab.training.events import Event
from lora_lab.training.plan import options_of
from lora_lab.training.settings import TrainSettings
from lora_lab.workflow.gachamax import candidates, likeness
from lora_lab.workflow.gachamax.candidates import CandidateSettings, Eye
from lora_lab.workflow.gachamax.rounds import Choice, Round, Rounds, load
from lora_lab.workflow.project_folder import project_folder
from lora_lab.workflow.regularisation import Listen
from lora_lab.workflow.variants import is_generated

if TYPE_CHECKING:
    from lora_lab.host.base import Host
    from lora_lab.tagging.session import Tagger


@dataclass(frozen=True)
class GameSettings:
    """How a game is played."""

    training: Mapping[str, Any]
    """The quick run's settings, but for the dataset and the output's name."""
    candidates: CandidateSettings


class Game:
    """The rounds of one dataset on one host."""

    def __init__(self, rounds: Rounds, host: Host, settings: GameSettings) -> None:
        self.rounds = rounds
        self._host = host
        self._settings = settings

    @classmethod
    def open(cls, dataset: Path, host: Host, settings: GameSettings) -> Game:
        """Go on where the rounds of a dataset stand.

        Args:
            dataset: the folder with the ``<repeats>_<name>`` folder that holds the pictures.
            host: with the checkpoint loaded.
            settings: how to play.

        Raises:
            SettingsError: settings out of range, or a damaged list of rounds.
            DatasetError: there is no picture.
        """
        settings.candidates.check()
        game = cls(load(project_folder(dataset, host.paths().data_dir) / "gachamax", dataset), host, settings)
        game.originals()
        return game

    def originals(self) -> list[Picture]:
        """The person's own pictures.

        Raises:
            DatasetError: there is none.
        """
        found = [picture for picture in self._subset().pictures if not is_generated(picture.path)]
        if not found:
            remedy = "put at least one picture of your own there"
            raise DatasetError("there is no picture to begin with", file=self.rounds.dataset, remedy=remedy)
        return found

    def train(self, listen: Callable[[Event], None], stop: Callable[[], bool] = lambda: False) -> Round:
        """Begin a round: a quick run on all pictures that the dataset has now.

        Args:
            listen: gets the run's events.
            stop: asked while it trains.

        Raises:
            Interrupted: it was stopped before it learnt anything.
            LoraLabError: what the run ended with.
        """
        number = len(self.rounds.rounds) + 1
        folder = self.rounds.folder_of(number)
        folder.mkdir(parents=True, exist_ok=True)
        name = self._settings.candidates.trigger.replace(" ", "_")
        settings = TrainSettings.from_mapping(
            {
                **self._settings.training, "train_data_dir": str(self.rounds.dataset), "output_dir": str(folder),
                "output_name": _free(folder, f"{name}_round{number}"),
            }
        )  # fmt: skip
        run = jobs.queue().start(settings, self._host)
        run.listen(listen)
        while not (status := run.wait(0.3)).ended:
            if stop():
                run.stop()
        if run.error is not None:
            raise run.error
        if status.ended is None or status.ended.lora is None:
            raise Interrupted("the round's run was stopped before it learnt anything")
        one = Round(number, str(status.ended.lora), pictures=len(self._subset().pictures))
        self.rounds = self.rounds.put(one)
        return one

    def make(self, tagger: Tagger, listen: Listen) -> Round:
        """Make candidates with the newest round's LoRA; those of an earlier go, not kept yet, are made anew.

        Raises:
            SettingsError: there is no round yet, or its pictures have joined already.
            HostBusyError, AdapterFileError, OutputError: as they say.
        """
        one = self.rounds.last
        if one is None or one.kept:
            raise SettingsError("this round has no LoRA of its own yet", remedy="train the next round first")
        settings = self._settings.candidates
        first = 1000 * one.number + settings.seed
        made = candidates.make(
            self._host, Path(one.lora), self.originals(), self._options(), replace(settings, seed=first),
            self.rounds.folder_of(one.number), listen,
        )  # fmt: skip
        found = candidates.look(made, settings.trigger, self._eye(tagger))
        flexible = None if found.flexibility is None else round(found.flexibility, 4)
        one = replace(one, candidates=found.candidates, concept=round(found.concept, 4), flexibility=flexible)
        self.rounds = self.rounds.put(one)
        return one

    def choose(self, choices: dict[str, Choice], number: int | None = None) -> None:
        """Mark candidates of a round (the newest) to keep or drop."""
        self.rounds = self.rounds.choose(number or self._newest().number, choices)

    def propose(self, most: int, least_likeness: float = 0.0) -> dict[str, Choice]:
        """What the scores alone would keep: the best that are no copies, at most `most`; all others dropped."""
        one = self._newest()
        good = [c.file for c in one.candidates if not c.copy and c.likeness >= least_likeness][:most]
        return {c.file: "keep" if c.file in good else "drop" for c in one.candidates}

    def join(self) -> Round:
        """The newest round's kept candidates go into the dataset."""
        one = self._newest()
        self.rounds = self.rounds.join(one.number, self._subset().folder, self._options().caption_extension)
        return self.rounds.round(one.number)

    def undo(self, number: int) -> None:
        """Take a round's pictures out of the dataset."""
        self.rounds = self.rounds.undo(number, self._options().caption_extension)

    def sticking_out(self, tagger: Tagger) -> list[Path]:
        """Generated pictures of the dataset that are far less like the originals than the others are."""
        there = [p.path for p in self._subset().pictures if is_generated(p.path)]
        if not there:
            return []
        eye = self._eye(tagger)
        images = [Image.open(path).convert("RGB") for path in there]
        return [there[i] for i in likeness.outliers(eye.concept.likeness(tagger.probabilities(images)).tolist())]

    def _newest(self) -> Round:
        one = self.rounds.last
        if one is None:
            raise SettingsError("there is no round yet", remedy="train one first")
        return one

    def _options(self) -> DatasetOptions:
        values = {**self._settings.training, "train_data_dir": str(self.rounds.dataset)}
        return options_of(TrainSettings.from_mapping(values))

    def _subset(self) -> Subset:
        """Of the pictures: the first that trains.

        Raises:
            DatasetError: there is none.
        """
        subsets, _ = read_root(self.rounds.dataset, self._options().caption_extension)
        if not subsets:
            remedy = "make a folder such as 10_mika in it, with the picture"
            raise DatasetError("there is no folder of pictures", file=self.rounds.dataset, remedy=remedy)
        return subsets[0]

    def _eye(self, tagger: Tagger) -> Eye:
        own = self.originals()
        images = [Image.open(picture.path).convert("RGB") for picture in own]
        captions = [split_tags(first_line(picture.caption)) for picture in own]
        concept = likeness.concept_of(tagger.probabilities(images), tagger.tags, captions)
        everything = [Image.open(picture.path) for picture in self._subset().pictures]
        return Eye(tagger, concept, likeness.thumbnails(everything))


def _free(folder: Path, name: str) -> str:
    """A round that is trained again has a LoRA of a new name."""
    names = (name if n == 1 else f"{name}_{n}" for n in range(1, 10_000))
    return next(n for n in names if not (folder / f"{n}.safetensors").exists())
