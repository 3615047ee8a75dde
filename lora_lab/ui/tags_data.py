"""What the Tags panel shows of a project: rows, pages, the picture in the editor, suggestions. No gradio, no torch.

Projects and taggers' answers are kept here between clicks; a change on the disk is seen at the next click.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lora_lab.dataset.folders import parse_name
from lora_lab.dataset.pictures import content_hash
from lora_lab.dataset.thumbnails import thumbnail
from lora_lab.tagging import names
from lora_lab.tagging.contracts import find_files
from lora_lab.tagging.find import FoundTagger
from lora_lab.tagging.session import identity
from lora_lab.tagging.store import ProbabilityStore
from lora_lab.tagging.suggestions import Captions, Suggestion, suggest
from lora_lab.ui import tags_view
from lora_lab.ui.tags_view import Edited, Page, TagRow, Thumb
from lora_lab.workflow import tagging
from lora_lab.workflow.caption_values import Caption
from lora_lab.workflow.captions import CaptionProject
from lora_lab.workflow.project_folder import project_folder

if TYPE_CHECKING:
    from lora_lab.host.base import Host, HostPaths
    from lora_lab.tagging.scores import Scores

PAGE = 96
"""Thumbnails of a page."""
OFFERED = 24
"""Tags of the tagger beside the editor."""
WORDS = 4000
"""Words for completing: a browser's list slows down above."""
OFFER_FROM = 0.1
HEADS, MATES = 100, 1000
"""Tags whose company is told, and those that can be in it: the most frequent ones."""
DISMISSED = "dismissed.json"


@dataclass
class Opened:
    """A dataset that is open, with what a tagger says of it."""

    project: CaptionProject
    folder: Path
    """Of the project: history, probabilities, what was dismissed."""
    threshold: float = 0.35
    seen: tagging.Seen | None = None
    scores: Scores | None = None
    """All its taggers together; a row for each picture of `seen`."""
    place: dict[Path, int] = field(default_factory=dict)
    """Picture -> its row in `seen`."""
    dismissed: set[str] = field(default_factory=set)
    counted_by: str = ""
    """Identity of the checkpoint whose tokenizer counts."""
    cards: tuple[object, list[Suggestion]] | None = None
    """What was suggested last, and for which state of the captions."""
    lock: threading.RLock = field(default_factory=threading.RLock)

    def take(self, seen: tagging.Seen) -> None:
        """Use what taggers said from now on."""
        with self.lock:
            self.seen, self.scores, self.cards = seen, seen.joint()[0], None
            self.place = {picture: row for row, picture in enumerate(seen.pictures)}
            self.project.scores = lambda file: self.chances(self.project.captions[file])

    def count_with(self, host: Host) -> None:
        """Let the live checkpoint's tokenizer count tokens; no token reaches over a blank, so words are remembered."""
        info = host.current()
        identity = info.identity if info else ""
        if identity != self.counted_by:
            count = host.token_counter()
            self.project.counter = None if count is None else _by_words(count)
            self.counted_by = identity if count is not None else ""

    def chances(self, caption: Caption) -> dict[str, float]:
        """Key -> probability for a caption's picture; empty where no tagger has seen it."""
        row = self.row(caption)
        if row is None or self.scores is None:
            return {}
        return {names.key(tag): chance for tag, chance in self.scores.picture(row).items()}

    def row(self, caption: Caption) -> int | None:
        """Of its picture, in the taggers' answers."""
        return next((self.place[p] for p in caption.pictures if p in self.place), None)

    def dismiss(self, ident: str) -> None:
        """Do not suggest this any more; kept with the project."""
        self.dismissed.add(ident)
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.folder / f"{DISMISSED}.part"
        part.write_text(json.dumps(sorted(self.dismissed)), encoding="utf-8")
        part.replace(self.folder / DISMISSED)


def _by_words(count: Callable[[str], int]) -> Callable[[str], int]:
    known = lru_cache(maxsize=200_000)(count)
    return lambda caption: sum(map(known, caption.split()))


@lru_cache(maxsize=4)
def opened(folder: Path, data_dir: Path, extension: str) -> Opened:
    """The dataset, opened once; several windows share it.

    Raises:
        LoraLabError: it cannot be read.
    """
    project = CaptionProject.open(folder, data_dir, extension)
    place = project_folder(folder, data_dir)
    found = Opened(project, place)
    try:
        found.dismissed = set(json.loads((place / DISMISSED).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        found.dismissed = set()
    return found


def told(folder: Path, data_dir: Path, extension: str, label: str) -> None:
    """Write what the Dataset panel has moved into the history of the captions, if there is one, as what it was."""
    opened(folder, data_dir, extension).project.refresh(label)


def remember(one: Opened, folder: Path, paths: HostPaths) -> None:
    """Take what taggers have said in earlier sessions; nothing is computed."""
    if one.seen is not None:
        return
    store = tagging.project_store(folder, paths.data_dir)
    known = {stored.name for stored in store.taggers()}
    for tagger in tagging.local_taggers(paths):
        if tagger.name in known:
            pictures = tagging.find_pictures(folder)
            seen = tagging.look(pictures, [tagger], store) if _all_known(pictures, tagger, store) else None
            if seen is not None:
                one.take(seen)
            return


def _all_known(pictures: Sequence[Path], tagger: FoundTagger, store: ProbabilityStore) -> bool:
    """Has it seen every picture? Then asking costs nothing."""
    hashes = [found for found in store.hashes(pictures, content_hash) if found]
    return not store.missing(identity(*find_files(tagger.path)), hashes)


def rows(one: Opened, files: Sequence[str]) -> list[TagRow]:
    """The tag table of these captions."""
    found = one.project.table(files)
    beside = _beside(one, files)
    return [TagRow(r.tag, r.count, r.share, r.mean, beside.get(r.key, ())) for r in found]


def _beside(one: Opened, files: Sequence[str], most: int = 4) -> dict[str, tuple[str, ...]]:
    """Key -> the tags that most often stand with it, for the most frequent tags."""
    sets = [one.project.captions[file].keys for file in files]
    counts = Counter(chain.from_iterable(sets))
    keys = [key for key, count in counts.most_common() if count > 1 or len(counts) <= MATES][:MATES]
    place = {key: column for column, key in enumerate(keys)}
    has = np.zeros((len(sets), len(keys)), np.float32)
    for row, found in enumerate(sets):
        has[row, [place[key] for key in found if key in place]] = 1
    together = has[:, :HEADS].T @ has
    np.fill_diagonal(together, 0)
    best = np.argsort(-together, axis=1, kind="stable")[:, :most]
    return {
        keys[head]: tuple(keys[mate] for mate in mates if together[head, mate] > 0) for head, mates in enumerate(best)
    }


def page(one: Opened, files: Sequence[str], number: int, thumbs: Path) -> Page:
    """One page of the gallery; its thumbnails are made now, in threads, if they were not before."""
    pages = max(1, -(-len(files) // PAGE))
    number = max(0, min(pages - 1, number))
    captions = [one.project.captions[file] for file in files[number * PAGE : (number + 1) * PAGE]]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(partial(_small, folder=thumbs), captions))
    shown = tuple(
        Thumb(caption.file, small, len(caption.tags), caption.edited)
        for caption, small in zip(captions, made, strict=True)
    )
    return Page(shown, number, pages, len(files), len(one.project.captions))


def _small(caption: Caption, folder: Path) -> str:
    try:
        return str(thumbnail(caption.pictures[0], folder))
    except (OSError, ValueError, SyntaxError, IndexError):  # Pillow raises the first three for broken files
        return ""


def edited(one: Opened, file: str, thumbs: Path, limit: int = 75) -> Edited | None:
    """The picture for the editor; None for one that has gone."""
    caption = one.project.captions.get(file)
    if caption is None:
        return None
    known = one.chances(caption)
    row, scores = one.row(caption), one.scores
    offer: dict[str, float] = {}
    if row is not None and scores is not None:
        ratings = {names.key(tag.name) for tag in scores.tags if tag.category == 9}
        every = scores.picture(row).items()
        fresh = [(t, p) for t, p in every if p >= OFFER_FROM and names.key(t) not in caption.keys | ratings]
        offer = dict(fresh[:OFFERED])
    counter = one.project.counter
    tokens = None if counter is None else counter(names.join(caption.tags))
    return Edited(file, _small(caption, thumbs), caption.tags, offer, known, tokens, limit, vocabulary(one))


def vocabulary(one: Opened) -> dict[str, str]:
    """For completing: the dataset's tags with their counts, then the tagger's with those of its training."""
    words = {row.tag: f"{row.count:,} here" for row in one.project.table()}
    if one.scores is not None:
        ranked = sorted((t for t in one.scores.tags if t.category != 9), key=lambda t: -t.count)[:WORDS]
        for tag in ranked:
            words.setdefault(names.spaced(tag.name), f"{tag.count:,}")
    return dict(islice(words.items(), WORDS))


def suggestions(one: Opened) -> list[Suggestion]:
    """What could be better, in the order of the work; thought about again only when something has changed."""
    with one.lock:
        state = (one.project.revision, one.threshold, frozenset(one.dismissed), one.project.counter)
        if one.cards is None or one.cards[0] != state:
            one.cards = (state, suggest(looked_at(one), one.dismissed))
        return one.cards[1]


def looked_at(one: Opened) -> Captions:
    """The captions as suggestions look at them."""
    captions = list(one.project.captions.values())
    root = one.project.root.name
    concepts = tuple(concept_name(caption.concept) or root for caption in captions)
    known = triggers(captions, concepts)
    if any(not caption.concept for caption in captions) and not _is_a_tag(root, captions):
        known[root] = ()  # a folder that is no concept's is called what it may be called
    scores = one.scores
    if scores is not None:
        places = [one.row(caption) for caption in captions]
        scores = scores.take([p for p in places if p is not None]) if None not in places else None
    return Captions(
        files=tuple(caption.file for caption in captions), tags=tuple(caption.tags for caption in captions),
        concepts=concepts, triggers=known, scores=scores, threshold=one.threshold,
        tokens=one.project.counter,
    )  # fmt: skip


def concept_name(folder: str) -> str:
    """``10_mika dress`` to ``mika dress``."""
    found = parse_name(folder.rpartition("/")[2])
    return found[1] if found else folder


def _is_a_tag(name: str, captions: Sequence[Caption]) -> bool:
    return any(names.key(name) == names.key(word) for caption in captions for word in caption.tags)


def triggers(captions: Sequence[Caption], concepts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Of each concept: the tag that most captions begin with, else the folder's name."""
    firsts: dict[str, Counter[str]] = {}
    for caption, concept in zip(captions, concepts, strict=True):
        firsts.setdefault(concept, Counter()).update(caption.tags[:1])
    found: dict[str, tuple[str, ...]] = {}
    for concept, counts in firsts.items():
        best, count = next(iter(counts.most_common(1)), ("", 0))
        usual = count > sum(counts.values()) / 2 and not names.key(best)[:1].isdigit()
        word = best if usual and (names.key(best) == names.key(concept) or count == sum(counts.values())) else concept
        found[concept] = (word,) if word else ()
    return found


def cards(found: Sequence[Suggestion]) -> str:
    """As HTML."""
    return tags_view.suggestions(
        [(s.id, s.title, s.why, [(c.label, c.why) for c in s.choices], len(s.files)) for s in found]
    )


def history(one: Opened) -> str:
    """As HTML."""
    entries = [
        (str(p.id), p.label, p.files, time.strftime("%d %b %H:%M", time.localtime(p.time)), p.state == "undone")
        for p in one.project.history()
    ]
    return tags_view.history(entries, bool(one.project.next_undo()), bool(one.project.next_redo()))
