"""Launch scripts: bash, PowerShell and batch files that start kohya's trainer. Read as text, never run.

Variables, arithmetic, lists, functions and simple conditions are followed in the order of the lines; of the command
that starts the training, the options are taken.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lora_lab.errors import SettingsError
from lora_lab.training.importing import arguments
from lora_lab.training.importing.conditions import Blocks
from lora_lab.training.importing.found import Reading, listed
from lora_lab.training.importing.options import OPTIONS
from lora_lab.training.importing.variables import Variables, arithmetic
from lora_lab.training.importing.words import Dialect, Piece, Statement, Word, dialect_of, statements

TRAINERS = ("train_network.py", "sdxl_train_network.py")

_BASH = re.compile(r"([A-Za-z_]\w*)(\+?)=(.*)\Z", re.DOTALL)
_POWERSHELL = re.compile(r"(?:\[[\w.\[\]]+\])?\$(?:env:|global:|script:)?([A-Za-z_]\w*)\Z", re.IGNORECASE)
_DECLARE = frozenset({"local", "export", "declare", "readonly", "typeset", "set", "env"})

ReadToml = Callable[[Path], dict[str, Any]]
"""Reads the TOML that ``--config_file`` names."""


def read(text: str, suffix: str, *, folder: Path | None = None, load: ReadToml | None = None) -> Reading:
    """The options of the training that a script starts.

    Args:
        text: the script.
        suffix: of its file, such as ``.ps1``; else the text tells the dialect.
        folder: where the script stands, for the file that ``--config_file`` names; None does not look for it.
        load: reads that file.

    Raises:
        SettingsError: the script starts no training.
    """
    variables = Variables(dialect_of(text, suffix))
    commands, unclear = _commands(text, variables)
    if not commands:
        remedy = "choose a script with accelerate launch ... train_network.py, or a TOML or JSON file"
        raise SettingsError("the script starts no training of a LoRA", remedy=remedy)
    reading = Reading(origin=f"a launch script ({variables.dialect.name.lower()})")
    words = _own(commands[0], reading)
    reading.values = arguments.options(words)
    _launcher(reading)
    _config_file(reading, folder, load)
    if len(commands) > 1:
        reading.remark(f"The script starts {len(commands)} trainings; the first one is taken")
    for condition in unclear:
        reading.remark(f"What the script does if {condition} was not read, since text alone cannot tell")
    _tell(reading, variables)
    return reading


def _commands(text: str, variables: Variables) -> tuple[list[list[str]], list[str]]:
    """The words of every command that looks like a training, and the conditions that could not be decided."""
    found: list[list[str]] = []
    blocks = Blocks(variables)
    for whole in statements(text, variables.dialect):
        statement = blocks.take(whole)
        if not statement or not blocks.on:
            continue
        if _assign(statement, variables):
            continue
        before = (set(variables.missing), list(variables.commands))
        words = [text for word in statement for text in variables.texts(word)]
        if _is_training(words):
            found.append(words)
        else:
            variables.missing, variables.commands = before
    return found, blocks.unclear


def _is_training(words: list[str]) -> bool:
    """One of kohya's scripts is named, or several options that only they have."""
    if any(Path(word.replace("\\", "/")).name in TRAINERS for word in words):
        return True
    names = {word[2:].partition("=")[0] for word in words if word.startswith("--")}
    return len(names & OPTIONS.keys() - arguments.ACCELERATE) >= 3


def _own(words: list[str], reading: Reading) -> list[str]:
    """The words behind the script's name; all of them where it is missing, as in the guide."""
    for at, word in enumerate(words):
        name = word.replace("\\", "/").rpartition("/")[2]
        if name.endswith(".py") and not word.startswith("--"):
            if name not in TRAINERS:
                reading.remark(f"The script starts {name}, which is no LoRA training of SD1, SD2 or SDXL")
            return words[at + 1 :]
    reading.remark("The name of kohya's script is missing in the command; it is read as train_network.py")
    return words


def _launcher(reading: Reading) -> None:
    for name in [n for n in reading.values if n in arguments.ITS_OWN and n not in OPTIONS]:
        reading.leave(name, "an option of accelerate, which starts kohya's script; nothing is started that way here")


def _config_file(reading: Reading, folder: Path | None, load: ReadToml | None) -> None:
    """The file's values stand below those of the command line."""
    name = reading.values.get("config_file")
    if not isinstance(name, str):
        return
    path = Path(name if name.endswith(".toml") else f"{name}.toml")
    place = path if path.is_absolute() or folder is None else folder / path
    if folder is None or load is None or not place.is_file():
        reading.leave("config_file", f"the file {name} is not here: load it by itself")
        return
    reading.values = {**load(place), **{k: v for k, v in reading.values.items() if k != "config_file"}}
    reading.remark(f"The settings of {place.name} were read too; the command line wins")


def _tell(reading: Reading, variables: Variables) -> None:
    if variables.missing:
        names = listed(sorted(variables.missing))
        reading.remark(f"The script uses {names} without giving a value; it is read as nothing")
    for command in dict.fromkeys(variables.commands):
        reading.remark(f"{command[:60]} in the script is kept as text and was not run")


def _assign(statement: Statement, variables: Variables) -> bool:
    """Follow an assignment; False when the statement is none."""
    if variables.dialect is Dialect.POWERSHELL:
        return _assign_powershell(statement, variables)
    if variables.dialect is Dialect.BATCH:
        return _assign_batch(statement, variables)
    return _assign_bash(statement, variables)


def _first(word: Word) -> str:
    """What a word begins with outside of quotation marks."""
    return word[0].text if word and not word[0].quote else ""


def _assign_bash(statement: Statement, variables: Variables) -> bool:
    words = list(statement)
    while words and (_first(words[0]) in _DECLARE or (len(words) < len(statement) and _first(words[0])[:1] == "-")):
        words.pop(0)
    if not words or not all(_BASH.match(_first(word)) for word in words[:1]):
        return False
    while words:
        match = _BASH.match(_first(words[0]))
        if match is None:
            return not words  # `NAME=value command`: the variable is set, and the command is read too
        name, plus, rest = match.groups()
        value = (Piece(rest), *words.pop(0)[1:])
        if rest.startswith("("):
            variables.set(name, _listed(value, words, variables), add=bool(plus))
        else:
            variables.set(name, variables.text(value), add=bool(plus))
    return True


def _listed(first: Word, words: list[Word], variables: Variables) -> tuple[str, ...]:
    """``(a "b c")`` as its words; `words` loses those that belong to it."""
    parts: list[Word] = [(Piece(first[0].text[1:]), *first[1:])]
    while not _closes(parts[-1]) and words:
        parts.append(words.pop(0))
    if _closes(parts[-1]):
        last = parts[-1][-1]
        parts[-1] = (*parts[-1][:-1], Piece(last.text[: last.text.rindex(")")]))
    found = [text for word in parts for text in variables.texts(word)]
    return tuple(text for text in found if text)


def _closes(word: Word) -> bool:
    return bool(word) and not word[-1].quote and ")" in word[-1].text and not word[-1].text.startswith("$(")


def _assign_batch(statement: Statement, variables: Variables) -> bool:
    if _first(statement[0]).lower().lstrip("@") != "set":
        return False
    words = [word for word in statement[1:] if _first(word).lower() not in ("/a", "/p")]
    text = " ".join(variables.text(word) for word in words)
    name, sign, value = text.partition("=")
    if sign:
        computed = arithmetic(value) if len(words) < len(statement) - 1 else None
        variables.set(name.strip(), value.strip() if computed is None else computed)
    return True


def _assign_powershell(statement: Statement, variables: Variables) -> bool:
    added = _added(statement, variables)
    if added:
        return True
    name, rest = _left_side(statement)
    if name is None:
        return False
    plus, words = rest
    if words and _first(words[0]).startswith("@("):
        parts = list(words)
        head = parts.pop(0)
        value: Any = _listed((Piece(head[0].text[1:]), *head[1:]), parts, variables)
        variables.set(name, tuple(text.strip(",") for text in value if text != ","), add=plus)
        return True
    if words and re.match(r"\[[\w.]+\]::new\(", _first(words[0])):
        variables.set(name, ())
        return True
    variables.set(name, _expression(words, variables), add=plus)
    return True


def _left_side(statement: Statement) -> tuple[str | None, tuple[bool, Statement]]:
    """``$name = ...`` or ``$name=...``: the name, whether it is ``+=``, and the words behind."""
    pieces = list(statement[0])
    head = ""
    while pieces and not pieces[0].quote and "=" not in pieces[0].text:
        head += pieces.pop(0).text
    rest: Statement = ((tuple(pieces),) if pieces else ()) + statement[1:]
    name = _POWERSHELL.match(head)
    if name is None or not rest or not rest[0]:
        return None, (False, ())
    sign = re.match(r"(\+?)=(.*)\Z", _first(rest[0]), re.DOTALL)
    if sign is None:
        return None, (False, ())
    more = (Piece(sign[2]), *rest[0][1:]) if sign[2] else rest[0][1:]
    return name[1], (bool(sign[1]), ((more,) if more else ()) + rest[1:])


def _expression(words: Statement, variables: Variables) -> str:
    """A value, arithmetic, or texts put together with a plus."""
    texts = [variables.text(word) for word in words]
    whole = " ".join(texts)
    quoted = len(words) == 1 and all(piece.quote for piece in words[0])
    computed = None if quoted else arithmetic(whole)
    if computed is not None:
        return computed
    if len(texts) > 2 and all(text == "+" for text in texts[1::2]):
        return "".join(texts[::2])
    return whole


def _added(statement: Statement, variables: Variables) -> bool:
    """``[void]$list.Add("--flag")``."""
    pieces = [piece for word in statement for piece in word]
    plain = "".join(piece.text for piece in pieces[:3] if not piece.quote)
    match = re.match(r"(?:\[void\])?\$(\w+)\.Add\(", plain, re.IGNORECASE)
    quoted = [piece for piece in pieces if piece.quote]
    if match is None or not quoted:
        return False
    variables.set(match[1], (variables.text(quoted[:1]),), add=True)
    return True
