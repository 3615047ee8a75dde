"""A dataset's captions as lists of tags: change them in bulk or one by one, look first, take everything back.

    project = CaptionProject.open(folder, data_dir)
    changes = project.preview(Recipe.of(TriggerFirst(("mika",)), where="folder:10_mika"))
    project.apply(changes, "trigger first")
    project.undo()

No torch. The tab and the command line both work through this.
"""

from __future__ import annotations

import re
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path

from lora_lab.dataset import kohya_json
from lora_lab.dataset.caption_folder import CaptionFile, problems_of, read_captions
from lora_lab.dataset.caption_text import read_text
from lora_lab.dataset.history import OUTSIDE, ChangedError, Done, History
from lora_lab.dataset.journal import Kind, Record
from lora_lab.dataset.problems import Problem, told
from lora_lab.errors import SettingsError
from lora_lab.tagging import filters, names
from lora_lab.tagging.operations import Context, Operation
from lora_lab.tagging.recipe import Recipe
from lora_lab.workflow.caption_values import Caption, Change, Point, State, TagRow
from lora_lab.workflow.project_folder import project_folder

Tokens = Callable[[str], int]
Scores = Callable[[str], Mapping[str, float]]
"""File -> key of a tag -> the tagger's probability for its picture."""
LONGEST_LABEL = 200
STARTED = "as found"
ODD = re.compile(r"[\n\r\t]|  ")
"""Blanks that are not kept as they are."""


class CaptionProject:
    """The captions of one folder. Threads may share it."""

    def __init__(self, root: Path, history: History, extension: str, *, recursive: bool = False) -> None:
        """See `open`."""
        self.root = root
        self.extension = extension
        self.recursive = recursive
        self.counter: Tokens | None = None
        """Counts a caption's tokens; limits and ``over_limit`` ask for it."""
        self.scores: Scores | None = None
        """The order by score asks for it."""
        self.revision = 0
        """Rises with every change of a caption, whoever has made it."""
        self._history = history
        self._lock = threading.RLock()
        self._captions: dict[str, Caption] = {}
        self.refresh()

    @classmethod
    def open(cls, folder: Path, data_dir: Path, extension: str = ".txt", *, recursive: bool = False) -> CaptionProject:
        """Read a folder's captions, and its history if it has one. Nothing is written.

        Args:
            folder: holds pictures, or ``<repeats>_<name>`` folders.
            data_dir: the host's data folder, in which the history is kept.
            extension: of the captions, with its dot.
            recursive: in all folders below, whatever their names.

        Raises:
            DatasetError: there is no such folder, or it cannot be read.
            SettingsError: the extension is none.
            OutputError: a history is there and cannot be read, or a step that was cut short cannot be mended.
        """
        if not extension.startswith(".") or len(extension) < 2 or any(mark in extension for mark in "/\\\0"):
            raise SettingsError(f"the caption extension is {extension!r}", remedy="write it with its dot: .txt")
        try:
            root = folder.resolve()
        except (OSError, RuntimeError, ValueError):
            root = folder  # reading it tells what is wrong
        return cls(root, History(root, project_folder(folder, data_dir)), extension, recursive=recursive)

    @property
    def captions(self) -> Mapping[str, Caption]:
        """File -> caption, sorted; also pictures without one, whose caption has no tags."""
        return self._captions

    @property
    def problems(self) -> list[Problem]:
        """Captions that cannot be written, are shared, or are not plain UTF-8."""
        return [p for caption in self._captions.values() for p in problems_of(self.root, caption.source)]

    def caption_of(self, picture: Path) -> Caption | None:
        """The caption of a picture; None for one that is not in the dataset."""
        try:
            file = picture.resolve().with_name(picture.stem + self.extension).relative_to(self.root).as_posix()
        except (ValueError, OSError):
            return None
        return self._captions.get(file)

    def refresh(self, label: str = OUTSIDE) -> list[str]:
        """Look at the folder again; what has changed beside this project is written down in the history.

        Args:
            label: what has happened, where it is known: pictures put aside, a concept renamed.

        Returns:
            Captions that differ from what was known.

        Raises:
            DatasetError: the folder has gone.
        """
        with self._lock:
            return self._look(label=label)

    def preview(self, recipe: Recipe, where: str = "", files: Collection[str] | None = None) -> list[Change]:
        """What a recipe would change; nothing is written.

        Args:
            recipe: its steps run one after the other, each on what the ones before have made.
            where: a filter on the captions as they are now, for all steps.
            files: only these captions; None for all.

        Raises:
            FilterError: a filter that cannot be read, or asks for tokens that nobody can count.
            OperationError: a limit without a counter.
        """
        with self._lock:
            chosen = self.find(where, files)
            tags = {file: list(caption.tags) for file, caption in self._captions.items()}
            for step in recipe.steps:
                self._run(step.operation, self._where(step.where, tags, chosen), tags)
            return self._changes({file: tags[file] for file in chosen})

    def preview_edits(self, edits: Iterable[tuple[Operation, Collection[str] | None]]) -> list[Change]:
        """What operations on chosen captions would change, one after the other; None for all captions."""
        with self._lock:
            tags = {file: list(caption.tags) for file, caption in self._captions.items()}
            for operation, files in edits:
                self._run(operation, self.find("", files), tags)
            return self._changes(tags)

    def preview_tags(self, wanted: Mapping[str, Sequence[str]]) -> list[Change]:
        """What becomes of captions that are to have these tags: a single edit, or what a tagger found."""
        with self._lock:
            return self._changes({file: tags for file, tags in wanted.items() if file in self._captions})

    def preview_conversion(self) -> list[Change]:
        """Captions that are not plain UTF-8, as they would be; their text stays."""
        with self._lock:
            odd = [c for c in self._captions.values() if c.source.text.encoding != "UTF-8" and not c.locked]
            texts = [c.source.text for c in odd]
            return [
                Change(c.file, c.tags, c.tags, text.encoding, c.source.data, text.with_line(text.line))
                for c, text in zip(odd, texts, strict=True)
            ]

    def preview_restore(self, point: int) -> list[Change]:
        """What would change if the captions became as they were after a step; byte by byte.

        Args:
            point: `Point.id`; 0 for how they were found. Captions whose picture has gone are left out.

        Raises:
            DatasetError: the history has no such point.
        """
        with self._lock:
            found = []
            for file, data in self._history.at(point).items():
                caption = self._captions.get(file)
                if caption is None or caption.locked or caption.source.data == data:
                    continue
                after = () if data is None else tuple(names.split(read_text(data).line))
                found.append(Change(file, caption.tags, after, None, caption.source.data, data))
            return found

    def apply(self, changes: Sequence[Change], label: str, *, restores: int | None = None) -> Done:
        """Write changes, all or none, as one step of the history.

        Args:
            changes: from a preview.
            label: one line for the history.
            restores: the point, if this restores one.

        Raises:
            ChangedError: a caption is no longer as in the preview; nothing is written.
            WriteError: it failed; all captions are as they were.
            OutputError: the history cannot be kept; nothing is written.
        """
        label = " ".join(label.split())[:LONGEST_LABEL] or "edit"
        with self._lock:
            if not changes:
                raise SettingsError("there is nothing to change", remedy="choose other captions, or another operation")
            gone = [c.file for c in changes if c.file not in self._captions or self._captions[c.file].locked]
            if gone:
                what, remedy = "this caption cannot be written any more", "look at the preview again"
                raise ChangedError(what, file=told(self.root / gone[0]), remedy=remedy)
            records = [Record(c.file, c.old, c.new) for c in changes]
            now = {c.file: c.source.data for c in self._captions.values() if not c.locked}
            kind: Kind = "edit" if restores is None else "restore"
            return self._done(lambda: self._history.write(label, records, now, kind=kind, of=restores))

    def undo(self) -> Done:
        """Take the last step back: the same bytes, the same times. What another program has written since is kept.

        Raises:
            DatasetError: there is nothing to undo, or all of it was changed by another program since.
            WriteError: it failed; all captions are as they were.
        """
        with self._lock:
            self.refresh()
            return self._done(self._history.undo)

    def redo(self) -> Done:
        """Do the step again that was taken back last; see `undo`."""
        with self._lock:
            self.refresh()
            return self._done(self._history.redo)

    def history(self) -> list[Point]:
        """All that was done, the newest first; at the end how everything was found."""
        with self._lock:
            done, undone = self._history.stacks()
            states: dict[int, State] = dict.fromkeys((s.id for s in done), "done")
            states.update(dict.fromkeys((s.id for s in undone), "undone"))
            steps = self._history.journal.steps()
            points = [Point(s.id, s.time, s.label, s.kind, s.files, states.get(s.id, "noted")) for s in steps]
            return [*reversed(points), *([Point(0, points[0].time, STARTED, "found", 0)] if points else [])]

    def next_undo(self) -> str:
        """The label of what undo would take back; empty if there is nothing."""
        done, _ = self._history.stacks()
        return done[-1].label if done else ""

    def next_redo(self) -> str:
        """The label of what redo would do again; empty if there is nothing."""
        _, undone = self._history.stacks()
        return undone[-1].label if undone else ""

    def find(self, where: str = "", files: Collection[str] | None = None) -> list[str]:
        """The captions that a filter means, among these.

        Raises:
            FilterError: it cannot be read, or asks for tokens that nobody can count.
        """
        with self._lock:
            found = filters.parse(where)
            wanted = self._captions.keys() if files is None else set(files)
            chosen = {file: caption for file, caption in self._captions.items() if file in wanted}
            if not found.asks:
                return list(chosen)
            return [file for file, caption in chosen.items() if found.matches(caption.look(self.counter))]

    def table(self, files: Collection[str] | None = None) -> list[TagRow]:
        """All tags with their counts, the most frequent first.

        Args:
            files: only these captions; None for all.
        """
        with self._lock:
            captions = [self._captions[file] for file in self.find("", files)]
        counts = Counter(chain.from_iterable(caption.keys for caption in captions))
        spelled = Counter(chain.from_iterable(caption.tags for caption in captions))
        spelling: dict[str, str] = {}
        for tag, _ in spelled.most_common():
            spelling.setdefault(names.key(tag), tag)
        means = self._means(captions, counts) if self.scores else {}
        whole = max(1, len(captions))
        return [
            TagRow(spelling[key], key, count, count / whole, means.get(key))
            for key, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        ]

    def together(self, tag: str, files: Collection[str] | None = None) -> list[tuple[str, int]]:
        """The tags that stand in captions with this one, and in how many, the most frequent first."""
        key = names.key(tag)
        with self._lock:
            captions = [self._captions[file] for file in self.find("", files)]
        counts = Counter(other for caption in captions if key in caption.keys for other in caption.keys)
        return [(other, count) for other, count in counts.most_common() if other != key]

    def write_json(self, path: Path, *, full_path: bool | None = None, replace: bool = False) -> int:
        """Write all captions as a metadata file of kohya's; see `kohya_json.write_entries`."""
        captions = {p: c.source.text.line for c in self._captions.values() for p in c.pictures if c.source.text.line}
        return kohya_json.write_entries(path, captions, full_path=full_path, replace=replace)

    def preview_json(self, path: Path) -> tuple[list[Change], list[str]]:
        """What taking the captions of such a file over would change, and its keys that no picture has.

        Raises:
            DatasetError: it is no metadata file.
        """
        pictures = [p for c in self._captions.values() for p in c.pictures]
        texts, unknown = kohya_json.captions_of(path, pictures, self.root)
        files = {p: c.file for c in self._captions.values() for p in c.pictures}
        return self.preview_tags({files[p]: names.split(text) for p, text in texts.items()}), unknown

    def _done(self, step: Callable[[], Done]) -> Done:
        """Do a step, and look at what it has written, whatever its files' times say."""
        again: Collection[str] = self._captions.keys()
        try:
            done = step()
            again = {*done.files, *done.kept}
            return done
        finally:
            self._look(again)

    def _look(self, again: Collection[str] = (), label: str = OUTSIDE) -> list[str]:
        known = {file: caption.source for file, caption in self._captions.items()}
        sources = read_captions(self.root, self.extension, recursive=self.recursive, known=known, again=again)
        self._history.notice({s.file: s.digest for s in sources if not s.locked}, label)
        return self._show(sources)

    def _show(self, sources: Sequence[CaptionFile]) -> list[str]:
        """Take a new look over; captions that are as before keep what was computed of them."""
        now = {s.file: s.digest for s in sources} if self._history.journal.exists else {}
        edited = self._history.edited(now) if now else frozenset()
        old, fresh = self._captions, {}
        for source in sources:
            before = old.get(source.file)
            same = before is not None and before.source is source and before.edited == (source.file in edited)
            fresh[source.file] = before if same and before else Caption(source, source.file in edited)
        self._captions = fresh
        if len(old) != len(fresh) or any(fresh[file] is not old.get(file) for file in fresh):
            self.revision += 1
        changed = [f for f, c in fresh.items() if f not in old or old[f].source.data != c.source.data]
        return changed + [file for file in old if file not in fresh]

    def _where(self, where: str, tags: Mapping[str, Sequence[str]], chosen: Sequence[str]) -> list[str]:
        """The captions that a step's filter means, as the steps before have left them."""
        found = filters.parse(where)
        if not found.asks:
            return list(chosen)
        looks = (
            (f, filters.Look(tuple(tags[f]), f, c.edited or c.tags != tuple(tags[f]), self.counter))
            for f in chosen
            if (c := self._captions[f])
        )
        return [file for file, look in looks if found.matches(look)]

    def _run(self, operation: Operation, files: Sequence[str], tags: dict[str, list[str]]) -> None:
        """One operation, into `tags`."""
        needs = operation.needs
        counts: Counter[str] = Counter()
        if "counts" in needs:
            counts.update(chain.from_iterable(set(map(names.key, each)) for each in tags.values()))
        if "scores" in needs and self.scores is None:
            remedy = "tag the pictures first (--write no leaves the captions as they are)"
            raise SettingsError("no tagger has seen these pictures", remedy=remedy)
        context = Context(counts, self.counter)
        for file in files:
            if "scores" in needs and self.scores is not None:
                context = Context(counts, self.counter, self.scores(file))
            tags[file] = operation.apply(tags[file], context)

    def _changes(self, wanted: Mapping[str, Sequence[str]]) -> list[Change]:
        """Those that differ from what is there, and may be written."""
        found = []
        for file, tags in wanted.items():
            caption = self._captions[file]
            if tuple(tags) == caption.tags or caption.locked:
                continue
            after, line = _clean(tags)
            text = caption.source.text
            if after != caption.tags:
                odd = None if text.encoding == "UTF-8" else text.encoding
                found.append(Change(file, caption.tags, after, odd, caption.source.data, text.with_line(line)))
        return found

    def _means(self, captions: Sequence[Caption], counts: Mapping[str, int]) -> dict[str, float]:
        sums: dict[str, float] = defaultdict(float)
        seen: Counter[str] = Counter()
        for caption in captions:
            scores = self.scores(caption.file) if self.scores else {}
            for key in caption.keys & scores.keys():
                sums[key] += scores[key]
                seen[key] += 1
        return {key: sums[key] / seen[key] for key in counts if seen[key]}


def _clean(tags: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """Tags, and the line they make. Commas and line breaks inside a tag part it, as they will when it is read."""
    line = names.join(tags)
    if line.count(",") < max(1, len(tags)) and not ODD.search(line):
        return tuple(tags), line
    parted = tuple(names.split(line))
    return parted, names.join(parted)
