"""A folder of adapters as a library: what each file is, by its head alone, kept in a cache, and searched.

The cache is a JSON file that knows each path with the size and time that it had; a file that changed is read again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from lora_lab.errors import AdapterFileError, SettingsError, UserError
from lora_lab.network.streams import TensorFile
from lora_lab.surgery.adapters import AdapterReader
from lora_lab.surgery.metadata import read_recipe
from lora_lab.surgery.outcome import Progress, silent

VERSION = 1
"""Of the cache: another one is read anew."""
TAGS_KEPT = 60
"""Of each file, the most frequent ones."""


@dataclass(frozen=True)
class LibraryEntry:
    """One adapter file.

    Attributes:
        name: its path below the folder, with slashes, without `.safetensors`.
        stamp: size in bytes and time in nanoseconds, by which a change is seen.
        kind: such as `lora`, or several; empty with a problem.
        ranks: smallest and largest; 0 for kinds without one.
        base, base_hashes: the checkpoint that the file says it was trained on.
        trained: settings worth searching, by kohya's names without `ss_`.
        tags: of the training captions, with their counts, the most frequent first.
        problem: why it cannot be used; empty if it can.
    """

    name: str
    stamp: tuple[int, int]
    kind: str = ""
    family: str = ""
    sites: int = 0
    ranks: tuple[int, int] = (0, 0)
    title: str = ""
    trigger: str = ""
    notes: str = ""
    base: str = ""
    base_hashes: tuple[str, ...] = ()
    trained: Mapping[str, str] | None = None
    tags: Mapping[str, int] | None = None
    tool: str = ""
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        """As the command line prints it and the cache keeps it."""
        return asdict(self)

    @property
    def words(self) -> str:
        """Everything that plain words are looked for in, in small letters."""
        kept = (self.name, self.kind, self.family, self.title, self.trigger, self.notes, self.base, self.tool)
        trained = " ".join((self.trained or {}).values())
        return " ".join((*kept, trained, " ".join(self.tags or {}))).lower()


TRAINED = (
    "network_dim", "network_alpha", "optimizer", "learning_rate", "unet_lr", "text_encoder_lr", "steps", "epoch",
    "num_train_images", "resolution", "batch_size_per_device", "training_comment", "output_name",
)  # fmt: skip
"""Entries `ss_...` of the metadata that are kept."""


def read_library(folder: Path, cache: Path | None = None, progress: Progress = silent) -> list[LibraryEntry]:
    """Every `.safetensors` file below a folder, sorted by name; unchanged ones come from the cache.

    Args:
        cache: a JSON file, made where it is not there; None reads everything.

    Raises:
        AdapterFileError: there is no such folder.
    """
    if not folder.is_dir():
        raise AdapterFileError("there is no such folder", file=folder, remedy="check the path")
    known = _cached(cache, folder)
    paths = sorted(path for path in folder.rglob("*.safetensors") if not path.name.startswith("."))
    found = []
    for number, path in enumerate(paths):
        progress(number, len(paths), path.name)
        name = path.relative_to(folder).with_suffix("").as_posix()
        try:
            stat = path.stat()
        except OSError:  # gone meanwhile
            continue
        stamp = (stat.st_size, stat.st_mtime_ns)
        before = known.get(name)
        found.append(before if before is not None and before.stamp == stamp else describe(path, name, stamp))
    if cache is not None:
        _keep(cache, folder, found)
    return found


def describe(path: Path, name: str, stamp: tuple[int, int]) -> LibraryEntry:
    """One file by its head; what is wrong with it is told instead of raised."""
    try:
        with AdapterReader(path) as reader:
            ranks = [entry.rank for entry in reader if entry.rank]
            return replace(
                _card(reader.metadata, name, stamp),
                kind=", ".join(reader.kinds), family=reader.family.value, sites=len(reader.sites),
                ranks=(min(ranks), max(ranks)) if ranks else (0, 0),
            )  # fmt: skip
    except UserError as wrong:
        return LibraryEntry(name, stamp, problem=wrong.what)


def _card(metadata: Mapping[str, str], name: str, stamp: tuple[int, int]) -> LibraryEntry:
    recipe = read_recipe(metadata)
    hashes = (metadata.get("ss_new_sd_model_hash", ""), metadata.get("ss_sd_model_hash", ""))
    return LibraryEntry(
        name, stamp,
        title=metadata.get("modelspec.title", ""), trigger=metadata.get("modelspec.trigger_phrase", ""),
        notes=metadata.get("modelspec.description", ""), base=metadata.get("ss_sd_model_name", ""),
        base_hashes=tuple(h for h in hashes if h not in ("", "None")),
        trained={key: metadata[f"ss_{key}"] for key in TRAINED if metadata.get(f"ss_{key}", "None") != "None"},
        tags=tag_counts(metadata, TAGS_KEPT), tool=recipe["tool"] if recipe else "",
    )  # fmt: skip


def tag_counts(metadata: Mapping[str, str], most: int | None = None) -> dict[str, int]:
    """The training tags of kohya's `ss_tag_frequency`, all folders together, the most frequent first."""
    try:
        folders = json.loads(metadata.get("ss_tag_frequency", ""))
    except ValueError:
        return {}
    counts: dict[str, int] = {}
    for tags in folders.values() if isinstance(folders, dict) else ():
        for tag, number in tags.items() if isinstance(tags, dict) else ():
            if isinstance(number, int):
                counts[tag.strip()] = counts.get(tag.strip(), 0) + number
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return dict(ordered[:most])


def search(entries: Iterable[LibraryEntry], text: str) -> list[LibraryEntry]:
    """The entries that hold all words of a question.

    A word is looked for everywhere; `tag:hat`, `base:anime`, `kind:loha`, `family:sdxl`, `name:`, `trigger:` look in
    one place, `rank<=16`, `rank>=64`, `rank=8` at the largest rank, and `-` before any of them wants it not to be so.

    Raises:
        SettingsError: a place that is none, or a rank that is no number.
    """
    tests = [_wanted(word) for word in text.split()]
    return [entry for entry in entries if all(_holds(entry, *test) for test in tests)]


PLACES = ("name", "kind", "family", "title", "trigger", "notes", "base", "tool", "problem", "tag")


_TAG = re.compile(r"<(?:lora|lyco):([^:<>]+)", re.IGNORECASE)


def is_prompt(text: str) -> bool:
    """Whether a text names LoRAs as the webui's prompts do."""
    return _TAG.search(text) is not None


def in_prompt(entries: Sequence[LibraryEntry], prompt: str) -> tuple[list[LibraryEntry], list[str]]:
    """The files that a prompt names, in its order, each once; and the names that no file has.

    As in the webui, a name is the file's without its folder, or the one that its training gave it.
    """
    by_name: dict[str, LibraryEntry] = {}
    for entry in entries:
        by_name.setdefault((entry.trained or {}).get("output_name", ""), entry)
    by_name |= {entry.name.rpartition("/")[2]: entry for entry in entries}
    wanted = list(dict.fromkeys(name.strip() for name in _TAG.findall(prompt)))
    found = list({by_name[name].name: by_name[name] for name in wanted if name in by_name}.values())
    return found, [name for name in wanted if name not in by_name]


def _wanted(word: str) -> tuple[bool, str, str]:
    """Whether it is to be so, the place (empty: everywhere), and what is looked for."""
    wish = not word.startswith("-") or word == "-"
    word = word.removeprefix("-") if not wish else word
    for sign in ("<=", ">=", "="):
        if word.startswith(f"rank{sign}"):
            number = word.removeprefix(f"rank{sign}")
            if not number.isdigit():
                raise SettingsError(f"'{word}' names no rank", remedy="write rank<=16, rank>=16 or rank=16")
            return wish, f"rank{sign}", number
    place, colon, value = word.partition(":")
    if colon and value and place.lower() not in PLACES:
        raise SettingsError(f"'{place}' is no place to look in", remedy=f"choose {', '.join(PLACES)}, or rank")
    return (wish, place.lower(), value.lower()) if colon and value else (wish, "", word.lower())


def _holds(entry: LibraryEntry, wish: bool, place: str, value: str) -> bool:
    if place.startswith("rank"):
        rank, number = entry.ranks[1], int(value)
        there = {"rank<=": 0 < rank <= number, "rank>=": rank >= number, "rank=": rank == number}[place]
    elif place == "tag":
        there = any(value in tag.lower().replace(" ", "_") or value in tag.lower() for tag in entry.tags or {})
    else:
        there = value in (str(getattr(entry, place)).lower() if place else entry.words)
    return there is wish


@dataclass(frozen=True)
class Trained:
    """An adapter that was trained on a checkpoint, and how that is known: by the file's `hash`, or only its `name`."""

    entry: LibraryEntry
    by: str


def trained_on(entries: Sequence[LibraryEntry], checkpoint: Path, sha256: str | None = None) -> list[Trained]:
    """Which adapters say that they were trained on this checkpoint: those with its hash first.

    Args:
        sha256: of the whole file, where it is known; kohya's short hash is read from the file.

    Raises:
        AdapterFileError: the checkpoint cannot be read.
    """
    hashes = {short_hash(checkpoint), sha256} - {None}
    same = [Trained(entry, "hash") for entry in entries if hashes & {*entry.base_hashes}]
    stems = {checkpoint.stem.lower(), checkpoint.name.lower()}
    named = [
        Trained(entry, "name")
        for entry in entries
        if entry.base and entry.base.lower() in stems and not hashes & {*entry.base_hashes}
    ]
    return [*same, *named]


def short_hash(checkpoint: Path) -> str:
    """kohya's `sd_model_hash`: sha256 of 0x10000 bytes at 0x100000, 8 digits."""
    try:
        with checkpoint.open("rb") as file:
            file.seek(0x100000)
            return hashlib.sha256(file.read(0x10000)).hexdigest()[:8]
    except OSError as wrong:
        raise AdapterFileError(f"the file cannot be read ({wrong.strerror})", file=checkpoint) from wrong


def full_hash(path: Path) -> str:
    """The sha256 of a whole file: reads all of it.

    Raises:
        AdapterFileError: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(16 << 20):
                digest.update(piece)
    except OSError as wrong:
        raise AdapterFileError(f"the file cannot be read ({wrong.strerror})", file=path) from wrong
    return digest.hexdigest()


def _cached(cache: Path | None, folder: Path) -> dict[str, LibraryEntry]:
    """What the cache knows of this folder; nothing where it is damaged or of another version."""
    try:
        found = json.loads(cache.read_text(encoding="utf-8")) if cache else {}
        if found.get("version") != VERSION:
            return {}
        names = {field.name for field in fields(LibraryEntry)}
        rows = found["folders"].get(str(folder.resolve()), [])
        return {row["name"]: _entry({k: v for k, v in row.items() if k in names}) for row in rows}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _entry(row: dict[str, Any]) -> LibraryEntry:
    pairs = {key: tuple(row[key]) for key in ("stamp", "ranks", "base_hashes")}
    return LibraryEntry(**(row | pairs))


def _keep(cache: Path, folder: Path, entries: Sequence[LibraryEntry]) -> None:
    """Write the cache, whole or not at all; a disk that cannot be written to only costs time."""
    try:
        before = json.loads(cache.read_text(encoding="utf-8"))
        folders = dict(before["folders"]) if before.get("version") == VERSION else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        folders = {}
    folders[str(folder.resolve())] = [entry.to_json() for entry in entries]
    part = cache.with_name(f".{cache.name}.{os.getpid()}.part")
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps({"version": VERSION, "folders": folders}, ensure_ascii=False), encoding="utf-8")
        os.replace(part, cache)
    except OSError:
        part.unlink(missing_ok=True)


def opened_metadata(path: Path) -> dict[str, str]:
    """All metadata of a safetensors file.

    Raises:
        AdapterFileError: it is none.
    """
    with TensorFile(path, AdapterFileError) as file:
        return dict(file.metadata)
