"""Edit a file's metadata without touching a tensor: title, trigger, notes, and what the webui's card shows."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_lab.errors import AdapterFileError, OutputError, SettingsError
from lora_lab.network.streams import HASH_KEYS, TensorFile, TensorWriter, check_output
from lora_lab.surgery.metadata import check_metadata

FRIENDLY = {
    "title": "modelspec.title",
    "author": "modelspec.author",
    "description": "modelspec.description",
    "trigger": "modelspec.trigger_phrase",
    "tags": "modelspec.tags",
    "license": "modelspec.license",
    "usage": "modelspec.usage_hint",
    "comment": "ss_training_comment",
}
"""Short names for the entries that people change."""

CARD = {
    "trigger": "activation text",
    "negative": "negative text",
    "weight": "preferred weight",
    "notes": "notes",
    "description": "description",
}
"""What goes into the webui's own `NAME.json` beside the file, by our short names and by the webui's."""


@dataclass(frozen=True)
class Edited:
    """The metadata before and after."""

    before: Mapping[str, str]
    after: Mapping[str, str]

    @property
    def changed(self) -> list[str]:
        """The keys that are new, gone or different."""
        keys = {*self.before, *self.after}
        return sorted(key for key in keys if self.before.get(key) != self.after.get(key))


def edit_metadata(
    path: Path,
    changes: Mapping[str, str],
    remove: Sequence[str] = (),
    *,
    out: Path | None = None,
    force: bool = False,
    dry_run: bool = False,
) -> Edited:
    """Change metadata entries of a safetensors file; the tensors' bytes are copied as they are.

    Args:
        changes: new texts by key, or by a short name of :data:`FRIENDLY`.
        remove: keys to take out.
        out: another file to write; None replaces the file itself, whole or not at all.

    Raises:
        AdapterFileError: no safetensors file.
        SettingsError: an entry that cannot be set, or one to remove that is not there.
        OutputError: see :func:`lora_lab.network.streams.check_output`.
    """
    new = check_metadata((FRIENDLY.get(key, key), text) for key, text in changes.items())
    with TensorFile(path, AdapterFileError) as file:
        gone = [FRIENDLY.get(key, key) for key in remove]
        missing = [key for key in gone if key not in file.metadata]
        if missing:
            raise SettingsError(f"there is no entry {missing[0]}", file=path, remedy="look at them with inspect")
        before = dict(file.metadata)
        after = {key: text for key, text in before.items() if key not in gone} | new
        if dry_run:
            return Edited(before, after)
        target = out or path.with_name(f".{path.stem}.{os.getpid()}.edit.safetensors")
        if out is not None:
            check_output(out, 0, force=force, inputs=[path])
        _copy(file, target, after, force or out is None)
    if out is None:
        _take_place(target, path)
    with TensorFile(out or path) as written:
        return Edited(before, dict(written.metadata))


def _copy(file: TensorFile, target: Path, metadata: Mapping[str, str], force: bool) -> None:
    """All tensors as they are, under other metadata."""
    hashes = any(key in file.metadata for key in HASH_KEYS)
    with TensorWriter(target, file.specs, metadata, force=force, hashes=hashes) as writer:
        for name in file:
            writer.copy(name, file)


def _take_place(target: Path, path: Path) -> None:
    try:
        os.replace(target, path)
    except OSError as wrong:
        target.unlink(missing_ok=True)
        raise OutputError(f"cannot write ({wrong.strerror})", file=path) from wrong


def edit_card(path: Path, changes: Mapping[str, str], *, dry_run: bool = False) -> dict[str, Any]:
    """Change the webui's card of a LoRA, `NAME.json` beside it; entries of other programs stay.

    Args:
        changes: by the short names of :data:`CARD`; an empty text removes one.

    Raises:
        SettingsError: an unknown name, or a weight that is no number.
        OutputError: a card that is no JSON object, or cannot be written.
    """
    card = path.with_suffix(".json")
    content: dict[str, Any] = {}
    if card.exists():
        try:
            content = json.loads(card.read_text(encoding="utf-8"))
        except (OSError, ValueError) as wrong:
            raise OutputError("the card cannot be read", file=card, remedy="mend it or move it away") from wrong
        if not isinstance(content, dict):
            raise OutputError("the card is no JSON object", file=card, remedy="mend it or move it away")
    for name, text in changes.items():
        if name not in CARD:
            raise SettingsError(f"the card has no '{name}'", remedy=f"choose {', '.join(CARD)}")
        value: Any = text
        if name == "weight" and text:
            try:
                value = float(text)
            except ValueError:
                raise SettingsError(f"'{text}' is no weight", remedy="give a number such as 0.8") from None
        content.pop(CARD[name], None)
        if text:
            content[CARD[name]] = value
    if not dry_run:
        part = card.with_name(f".{card.name}.part")
        try:
            part.write_text(json.dumps(content, indent=4, ensure_ascii=False), encoding="utf-8")
            os.replace(part, card)
        except OSError as wrong:
            part.unlink(missing_ok=True)
            raise OutputError(f"the card cannot be written ({wrong.strerror})", file=card) from wrong
    return content


PREVIEW_SIDE = 768
"""Of a card's picture at most, in pixels: cards are small, and the webui sends them whole."""


def set_preview(path: Path, picture: Path, *, force: bool = False, dry_run: bool = False) -> Path:
    """Put a picture beside a LoRA as `NAME.preview.png`, where the webui's card looks for it.

    Raises:
        AdapterFileError: there is no such LoRA.
        OutputError: a preview is there already and ``force`` is not set, or it cannot be written.
        SettingsError: the picture cannot be read.
    """
    from PIL import Image

    if not path.is_file():
        raise AdapterFileError("there is no such file", file=path, remedy="check the path")
    target = path.with_name(f"{path.stem}.preview.png")
    if target.exists() and not force:
        raise OutputError("the LoRA has a preview already", file=target, remedy="choose to overwrite it (--force)")
    try:
        with Image.open(picture) as opened:
            image = opened.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as wrong:
        raise SettingsError("the picture cannot be read", file=picture, remedy="give a PNG, JPEG or WebP") from wrong
    image.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    if not dry_run:
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            image.save(part, "PNG")
            os.replace(part, target)
        except OSError as wrong:
            part.unlink(missing_ok=True)
            raise OutputError(f"the preview cannot be written ({wrong.strerror})", file=target) from wrong
    return target


def read_card(path: Path) -> dict[str, str]:
    """The webui's card of a LoRA by our short names of :data:`CARD`; empty texts where there is none."""
    try:
        content = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = {}
    found = content if isinstance(content, dict) else {}
    return {name: str(found.get(key, "")) for name, key in CARD.items()}
