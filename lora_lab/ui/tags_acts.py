"""What clicks and keys of the Tags panel do: each a small function from a place (and the project) to a place."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from lora_lab.errors import UserError
from lora_lab.tagging import filters
from lora_lab.ui.tags_data import Opened, suggestions
from lora_lab.workflow.caption_values import Change


@dataclass(frozen=True)
class Place:
    """Where a window is in the panel: what is opened, filtered, selected, pending."""

    folder: str = ""
    extension: str = ".txt"
    where: str = ""
    """The filter."""
    only: tuple[str, ...] | None = None
    """Captions of a suggestion that is looked at; None for all."""
    page: int = 0
    selected: frozenset[str] = frozenset()
    current: str = ""
    done: float = 0
    """Number of the last action that was carried out."""
    pending: tuple[Change, ...] | None = None
    """A bulk edit that is shown and not applied yet."""
    label: str = ""
    """Of the pending edit, for the history."""

    def found(self, one: Opened) -> list[str]:
        """The captions that filter and suggestion leave.

        Raises:
            FilterError: the filter cannot be read.
        """
        only = None if self.only is None else set(self.only)
        return one.project.find(self.where, only)


Act = Callable[[Place, Opened, str], Place]


def carry_out(place: Place, one: Opened, text: str) -> tuple[Place, list[str]]:
    """All actions of a message that were not carried out yet; one that fails does not keep the next from happening.

    Args:
        place: of the window.
        one: the dataset.
        text: a JSON list of {n, act, value}, as the page's JavaScript writes it.

    Returns:
        The new place, and what could not be done.
    """
    try:
        actions = json.loads(text or "[]")
    except ValueError:
        return place, []
    errors = []
    for action in actions if isinstance(actions, list) else []:
        number = float(action.get("n", 0))
        act = ACTS.get(action.get("act"))
        if number <= place.done or act is None:
            continue
        try:
            place = act(place, one, str(action.get("value", "")))
        except UserError as error:
            errors.append(str(error))
        place = replace(place, done=number)
    return place, errors


def _open(place: Place, one: Opened, file: str) -> Place:
    return replace(place, current=file)


def _toggle(place: Place, one: Opened, file: str) -> Place:
    return replace(place, selected=place.selected ^ {file})


def _range(place: Place, one: Opened, file: str) -> Place:
    """All from the current picture to this one."""
    files = place.found(one)
    if file not in files or place.current not in files:
        return _toggle(place, one, file)
    first, last = sorted((files.index(file), files.index(place.current)))
    return replace(place, selected=place.selected | set(files[first : last + 1]))


def _select_all(place: Place, one: Opened, value: str) -> Place:
    return replace(place, selected=frozenset(place.found(one)))


def _select_none(place: Place, one: Opened, value: str) -> Place:
    return replace(place, selected=frozenset())


def _page(place: Place, one: Opened, value: str) -> Place:
    return replace(place, page=int(value) if value.isdigit() else 0)


def _tag(place: Place, one: Opened, tag: str) -> Place:
    """Filter by a tag; by the only one again: no filter."""
    term = filters.quote(tag)
    parts = [part for part in place.where.split(" AND ") if part]
    parts = [part for part in parts if part != term] if term in parts else [*parts, term]
    return replace(place, where=" AND ".join(parts), only=None, page=0)


def _step(place: Place, one: Opened, value: str) -> Place:
    """The next picture, or the one before; the gallery turns its pages along."""
    from lora_lab.ui.tags_data import PAGE

    files = place.found(one)
    if not files:
        return place
    at = files.index(place.current) + int(value) if place.current in files else 0
    at = max(0, min(len(files) - 1, at))
    return replace(place, current=files[at], page=at // PAGE)


def _caption(place: Place, one: Opened, value: str) -> Place:
    """Save the caption of one picture as the chips are now."""
    wanted = json.loads(value)
    file, tags = str(wanted["file"]), [str(tag) for tag in wanted["tags"]]
    changes = one.project.preview_tags({file: tags})
    if changes:
        one.project.apply(changes, f"edited {file.rpartition('/')[2]}")
    return place


def _take(place: Place, one: Opened, value: str) -> Place:
    """Carry out a choice of a suggestion: `number:choice`, as they were shown."""
    number, _, which = value.partition(":")
    found = suggestions(one)
    suggestion = found[int(number)] if int(number) < len(found) else None
    if suggestion is None or int(which) >= len(suggestion.choices):
        return place
    choice = suggestion.choices[int(which)]
    changes = one.project.preview_edits([(edit.operation, edit.files) for edit in choice.edits])
    if changes:
        one.project.apply(changes, f"{suggestion.title}: {choice.label}")
    return replace(place, only=None)


def _look(place: Place, one: Opened, ident: str) -> Place:
    """Show the pictures of a suggestion."""
    found = next((s for s in suggestions(one) if s.id == ident), None)
    return place if found is None else replace(place, only=found.files, where="", page=0)


def _dismiss(place: Place, one: Opened, ident: str) -> Place:
    one.dismiss(ident)
    return place


def _undo(place: Place, one: Opened, value: str) -> Place:
    one.project.undo()
    return place


def _redo(place: Place, one: Opened, value: str) -> Place:
    one.project.redo()
    return place


def _restore(place: Place, one: Opened, value: str) -> Place:
    """Back to a point of the history, which is a step that can be undone too."""
    point = int(value)
    changes = one.project.preview_restore(point)
    if changes:
        one.project.apply(changes, f"back to point {point}" if point else "back to how it was found", restores=point)
    return place


def _refresh(place: Place, one: Opened, value: str) -> Place:
    """Only look again."""
    return place


ACTS: Mapping[str, Act] = MappingProxyType(
    {
        "open": _open, "toggle": _toggle, "range": _range, "select-all": _select_all, "select-none": _select_none,
        "page": _page, "tag": _tag, "step": _step, "caption": _caption, "take": _take, "look": _look,
        "dismiss": _dismiss, "undo": _undo, "redo": _redo, "restore": _restore, "refresh": _refresh,
    }
)  # fmt: skip
