"""Tagging a dataset: which taggers there are, what they say of its pictures (computed once, then kept), what is chosen.

store = project_store(folder, data_dir)
seen = look(find_pictures(folder), [tagger], store)       # runs the nets on what they have not seen yet
tags = seen.choose(Choice(general_threshold=0.3))         # at once, again and again
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from lora_lab.dataset import pictures as files
from lora_lab.dataset.folders import parse_name
from lora_lab.dataset.problems import Problem, told
from lora_lab.demo import assets
from lora_lab.errors import DatasetError, OutputError, SettingsError
from lora_lab.host.base import HostTagger
from lora_lab.tagging.batches import Batching, Tagged, tag_pictures
from lora_lab.tagging.choose import Choice, Scored, choose, choose_tags
from lora_lab.tagging.combine import How, combine, moved
from lora_lab.tagging.contracts import find_files
from lora_lab.tagging.find import FoundTagger, find_taggers, hub_cache, open_place
from lora_lab.tagging.scores import Row, Scores, sparse
from lora_lab.tagging.session import Device, Tagger, identity
from lora_lab.tagging.store import ProbabilityStore
from lora_lab.workflow.host_net import HostNet, host_net
from lora_lab.workflow.project_folder import project_folder

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from PIL import Image

    from lora_lab.host.base import Host, HostPaths

AnyTagger = FoundTagger | HostTagger
Listen = Callable[[str, int, int], None]
"""Stage, done, total; raises `Interrupted` to stop."""

TAGGERS = "taggers"
"""Our own folder of them, below the host's data folder."""
PLACES = "tagger-places.txt"
"""In the data folder: one chosen place a line."""
DEMO = "demo"
CHUNK = 64
"""Pictures looked up at a time."""
KEEP_EVERY = 2.0
"""Seconds of work that a power cut may cost."""


def tagger_folder(paths: HostPaths) -> Path:
    """Where downloaded taggers go."""
    return paths.data_dir / TAGGERS


def local_taggers(paths: HostPaths) -> list[FoundTagger]:
    """Taggers on this machine: ours, those of other extensions, the hub's cache, and last the demo's."""
    return taggers_in(paths.data_dir, paths.tagger_places)


def taggers_in(data_dir: Path, places: Sequence[Path] = ()) -> list[FoundTagger]:
    """As `local_taggers`, without a host."""
    return [*find_taggers([data_dir / TAGGERS, *_remembered(data_dir), *places, hub_cache()]), demo_tagger()]


def remember_place(data_dir: Path, place: Path) -> FoundTagger:
    """Let a folder that a person chose count among the places from now on.

    Raises:
        TaggerError: there is no tagger in it, or there are several.
        OutputError: the data folder cannot be written to.
    """
    found = open_place(place)
    known = _remembered(data_dir)
    if found.path not in known:
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            lines = [os.fspath(path.absolute()) for path in (*known, found.path)]
            (data_dir / PLACES).write_text("\n".join(lines) + "\n", encoding="utf-8", errors="surrogateescape")
        except OSError as error:
            what = f"the tagger's place cannot be kept ({error.strerror})"
            raise OutputError(what, file=data_dir, remedy="check its rights") from error
    return found


def _remembered(data_dir: Path) -> list[Path]:
    try:
        text = (data_dir / PLACES).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return []
    return [Path(line) for line in text.splitlines() if line.strip()]


def all_taggers(host: Host) -> list[AnyTagger]:
    """`local_taggers`, and those that the host has anyway."""
    return [*local_taggers(host.paths()), *(t for t in host.interrogators() if isinstance(t, HostTagger))]


def demo_tagger() -> FoundTagger:
    """The one of the demo world, which is always there."""
    return FoundTagger(DEMO, assets.tagger_dir(), 0.5)


def project_store(folder: Path, data_dir: Path) -> ProbabilityStore:
    """The probabilities kept for a dataset.

    Raises:
        OutputError: the data folder cannot be written to.
    """
    return ProbabilityStore(project_folder(folder, data_dir))


def find_pictures(folder: Path, *, recursive: bool = False) -> list[Path]:
    """The pictures of a dataset: in the folder itself and in its ``<repeats>_<name>`` folders.

    Names that begin with a dot are passed over; links to folders are not followed.

    Args:
        folder: of the dataset.
        recursive: in all folders below it, whatever their names.

    Raises:
        DatasetError: there is no such folder, or it cannot be read.
    """
    try:
        entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except (OSError, ValueError) as error:
        what = "there is no such folder" if not os.path.isdir(folder) else "the folder cannot be read"
        raise DatasetError(what, file=folder, remedy="choose the folder that holds your pictures") from error
    found = []
    for entry in sorted(entries, key=lambda entry: entry.name):
        if entry.is_dir(follow_symlinks=False):
            if recursive or parse_name(entry.name):
                found += find_pictures(Path(entry.path), recursive=recursive)
        elif os.path.splitext(entry.name)[1].lower() in files.EXTENSIONS and entry.is_file():
            found.append(Path(entry.path))
    return found


@dataclass(frozen=True)
class Looking:
    """How pictures are looked at."""

    batching: Batching = field(default_factory=Batching)
    device: Device = "auto"
    threads: int = 0
    """Of the CPU, for the net; 0 leaves it to onnxruntime."""


@dataclass(frozen=True)
class Seen:
    """What some taggers say of some pictures."""

    pictures: tuple[Path, ...]
    taggers: tuple[AnyTagger, ...]
    scores: tuple[Scores, ...]
    """Of each tagger, a row for each picture; empty rows for those that could not be read."""
    problems: tuple[Problem, ...] = ()
    """Pictures that could not be read."""
    computed: int = 0
    """Times that a net looked at a picture; all others were kept from before."""
    notes: tuple[str, ...] = ()
    """What the person should know, such as that the graphics card could not be used."""

    def joint(self, how: How = "mean", *, by_card: bool = False) -> tuple[Scores, float | None]:
        """One set of probabilities, and the threshold of its card, if there is one.

        Args:
            how: several taggers are combined.
            by_card: bend each tagger's probabilities so that their cards' thresholds fall together.
        """
        cards = [tagger.card for tagger in self.taggers if tagger.card is not None]
        if not by_card or len(cards) < len(self.taggers):
            return combine(self.scores, how), cards[0] if len(self.taggers) == len(cards) == 1 else None
        common = sum(cards) / len(cards)
        return combine([moved(s, own, common) for s, own in zip(self.scores, cards, strict=True)], how), common

    def choose(self, choice: Choice, how: How = "mean") -> list[list[str]]:
        """The tags of each picture."""
        scores, card = self._joint(how, choice.use_card)
        return choose_tags(scores, choice, card)

    def scored(self, choice: Choice, how: How = "mean") -> list[list[Scored]]:
        """The tags of each picture with their probabilities."""
        scores, card = self._joint(how, choice.use_card)
        return choose(scores, choice, card)

    def _joint(self, how: How, by_card: bool) -> tuple[Scores, float | None]:
        """Kept, so that a moving threshold does not combine anew."""
        key = (how, by_card)
        if key not in self._kept:
            self._kept[key] = self.joint(how, by_card=by_card)
        return self._kept[key]

    @cached_property
    def _kept(self) -> dict[tuple[How, bool], tuple[Scores, float | None]]:
        return {}

    @cached_property
    def vocabulary(self) -> frozenset[str]:
        """`names.key` of every tag that any of the taggers knows."""
        return frozenset(key for scores in self.scores for key in scores.column_of)


def look(
    pictures: Sequence[Path], taggers: Sequence[AnyTagger], store: ProbabilityStore,
    listen: Listen | None = None, looking: Looking | None = None,
) -> Seen:  # fmt: skip
    """Show pictures to taggers; what they have seen before is taken from the store. A stopped round goes on later.

    Args:
        pictures: from `find_pictures`.
        taggers: at least one, each once.
        store: of the project.
        listen: what it raises ends the work; what was computed until then is kept.
        looking: None for the defaults.

    Raises:
        SettingsError: no tagger, or one twice.
        TaggerError: a tagger cannot be used.
        DatasetError: the pictures' folder has gone.
        OutputError: the probabilities cannot be kept.
    """
    if not taggers or len(set(taggers)) < len(taggers):
        raise SettingsError("no tagger is chosen, or one twice", remedy="choose each once")
    listen = listen or (lambda stage, done, total: None)
    hashes = _hashes(pictures, store, listen)
    place = {picture: path for picture, path in zip(reversed(hashes), reversed(pictures), strict=True) if picture}
    rounds = [_Round(tagger, store, looking or Looking(), listen) for tagger in taggers]
    for one in rounds:
        one.work(place)
    problems = {problem.file: problem for one in rounds for problem in one.problems}
    for path, picture in zip(pictures, hashes, strict=True):
        if picture is None:
            problems[told(path)] = _unreadable(path, "the file cannot be read")
    return Seen(
        tuple(pictures), tuple(taggers), tuple(one.scores(hashes) for one in rounds), tuple(problems.values()),
        sum(one.computed for one in rounds), tuple(one.note for one in rounds if one.note),
    )  # fmt: skip


def kept(pictures: Sequence[Path], taggers: Sequence[AnyTagger], store: ProbabilityStore) -> Seen:
    """As `look`, with what is in the store alone: no net runs. Pictures that a tagger has not seen have empty rows."""
    hashes = _hashes(pictures, store, lambda stage, done, total: None)
    known = [(tagger, store.read(_identity(tagger), hashes)) for tagger in taggers]
    there = [(tagger, scores) for tagger, scores in known if scores is not None]
    return Seen(tuple(pictures), tuple(tagger for tagger, _ in there), tuple(scores for _, scores in there))


class _Round:
    """One tagger's work."""

    def __init__(self, tagger: AnyTagger, store: ProbabilityStore, looking: Looking, listen: Listen) -> None:
        self._tagger, self._store, self._looking, self._listen = tagger, store, looking, listen
        self._identity = _identity(tagger)
        self.problems: list[Problem] = []
        self.computed = 0
        self.note = ""

    def work(self, place: dict[str, Path]) -> None:
        """Look at what is missing. The net is not even opened if nothing is."""
        missing = self._store.missing(self._identity, place)
        if not missing and self._store.tags(self._identity) is not None:
            return
        self._listen(f"opening {self._tagger.name}", 0, 1)
        with self._opened() as net:
            self.note = net.note
            self._store.add_tagger(self._identity, self._tagger.name, net.tags)
            content = {place[picture]: picture for picture in missing}
            stage = f"tagging with {self._tagger.name}"
            self._listen(stage, 0, len(content))
            batches = tag_pictures(
                net, list(content), read_picture, batching=self._looking.batching,
                listen=lambda done, total: self._listen(stage, done, total),
            )  # fmt: skip
            self._keep(batches, content)

    def _opened(self) -> AbstractContextManager[Tagger | HostNet]:
        if isinstance(self._tagger, HostTagger):
            return host_net(self._tagger)
        return Tagger(self._tagger.path, threads=self._looking.threads, device=self._looking.device)

    def _keep(self, batches: Iterable[list[Tagged]], content: dict[Path, str]) -> None:
        """Into the store every now and then, and whatever ends the work."""
        rows: dict[str, Row] = {}
        last = time.monotonic()
        try:
            for part in batches:
                for one in part:
                    if one.probabilities is None:
                        self.problems.append(_unreadable(one.path, one.error))
                    else:
                        rows[content[one.path]] = sparse(one.probabilities)
                if time.monotonic() - last > KEEP_EVERY:
                    self.computed += self._write(rows)
                    rows, last = {}, time.monotonic()
        finally:
            self.computed += self._write(rows)

    def _write(self, rows: dict[str, Row]) -> int:
        if rows:
            self._store.write(self._identity, rows)
        return len(rows)

    def scores(self, hashes: Sequence[str | None]) -> Scores:
        """Of all pictures."""
        found = self._store.read(self._identity, hashes)
        assert found is not None  # `work` has added the tagger
        return found


def read_picture(path: Path, longest: int) -> Image.Image:
    """A picture for a tagger: upright, RGB on white, no side longer than needed.

    Raises:
        OSError: why it cannot be used, in the words of the dataset's check.
    """
    header = files.read_header(path)
    if isinstance(header, Problem):
        raise OSError(header.why)
    return files.small(path, longest)


def _identity(tagger: AnyTagger) -> str:
    return tagger.identity if isinstance(tagger, HostTagger) else identity(*find_files(tagger.path))


def _hashes(pictures: Sequence[Path], store: ProbabilityStore, listen: Listen) -> list[str | None]:
    found: list[str | None] = []
    for begin in range(0, len(pictures), CHUNK):
        found += store.hashes(pictures[begin : begin + CHUNK], files.content_hash)
        listen("reading pictures", len(found), len(pictures))
    return found


def _unreadable(path: Path, why: str) -> Problem:
    """One picture's trouble.

    Raises:
        DatasetError: it is not the picture, the whole folder has gone.
    """
    if not path.parent.is_dir():
        remedy = "put it back and tag again: what was computed is kept"
        raise DatasetError("the folder is gone", file=told(path.parent), remedy=remedy)
    return Problem(told(path), "broken-picture", why, "replace it, or take it out of the folder", "error")
