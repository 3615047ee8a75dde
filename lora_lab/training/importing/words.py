"""A lenient reader of shell text: statements of words. Nothing is ever executed, and nothing is refused.

Three dialects: bash, PowerShell and batch. A quotation mark that is not closed ends with its line, a block that is
not closed with the file; a comment line between continued lines is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum


class Dialect(Enum):
    """Value: the character that continues a line and takes away a character's meaning."""

    BASH = "\\"
    POWERSHELL = "`"
    BATCH = "^"


@dataclass(frozen=True)
class Piece:
    """Part of a word. `quote` is ``"``, or ``'`` where variables are not looked at, or nothing."""

    text: str
    quote: str = ""


Word = tuple[Piece, ...]
Statement = tuple[Word, ...]

OPEN, CLOSE = (Piece("{"),), (Piece("}"),)
"""Words that begin and end a block."""

_POWERSHELL_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0"}
_BASH_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "'": "'", '"': '"', "\\": "\\"}
_CODED = re.compile(r"\\(?:x([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{1,4})|U([0-9a-fA-F]{1,8}))")
_BLANKS = " \t\r\f\v\u00a0"


def dialect_of(text: str, suffix: str) -> Dialect:
    """By the file's ending, else by what the text looks like."""
    known = {
        ".ps1": Dialect.POWERSHELL, ".bat": Dialect.BATCH, ".cmd": Dialect.BATCH, ".sh": Dialect.BASH,
        ".bash": Dialect.BASH,
    }  # fmt: skip
    if suffix.lower() in known:
        return known[suffix.lower()]
    if re.search(r"^[ \t]*(?:\[\w+\])?\$\w+[ \t]*=|`[ \t]*$", text, re.MULTILINE):
        return Dialect.POWERSHELL
    if re.search(r"^[ \t]*(?:@?echo off|set [\"\w]+=|rem )|\^[ \t]*$", text, re.MULTILINE | re.IGNORECASE):
        return Dialect.BATCH
    return Dialect.BASH


def statements(text: str, dialect: Dialect) -> Iterator[Statement]:
    """The statements of a script, comments left out."""
    reader = _Reader(text.replace("\r\n", "\n").replace("\r", "\n"), dialect)
    while not reader.ended:
        found = reader.statement()
        if found:
            yield found


class _Reader:
    """Goes through the text once; `at` never goes back."""

    def __init__(self, text: str, dialect: Dialect) -> None:
        self.text, self.dialect, self.at = text, dialect, 0
        self._escape = dialect.value
        ends = "\n|&<>" if dialect is Dialect.BATCH else "\n;|&<>"
        self._ends = frozenset(ends)

    @property
    def ended(self) -> bool:
        return self.at >= len(self.text)

    def _here(self, count: int = 1) -> str:
        return self.text[self.at : self.at + count]

    def statement(self) -> Statement:
        """Words up to the end of the line or a separator."""
        words: list[Word] = []
        while not self.ended:
            if self._pass_continuation() or self._pass_comment(first=not words):
                continue
            here = self._here()
            if here in _BLANKS:
                self.at += 1
            elif here in self._ends:
                self.at += 1
                break
            elif here in "{}" and self.dialect is Dialect.POWERSHELL:
                if words:
                    break
                self.at += 1
                return (OPEN if here == "{" else CLOSE,)
            else:
                words.append(self._word())
        return tuple(words)

    def _pass_continuation(self) -> bool:
        """The mark at a line's end, with blanks or a comment behind it."""
        if self._here() != self._escape:
            return False
        rest = re.compile(r"[ \t]*(?:[ \t]#[^\n]*)?(?:\n|\Z)").match(self.text, self.at + 1)
        if rest is None:
            return False
        self.at = rest.end()
        return True

    def _pass_comment(self, *, first: bool) -> bool:
        """A comment up to its line's end; one that ends in the mark of continuation does not end the statement."""
        if self._here(2) == "<#" and self.dialect is Dialect.POWERSHELL:
            end = self.text.find("#>", self.at)
            self.at = len(self.text) if end < 0 else end + 2
            return True
        if self.dialect is Dialect.BATCH:
            if not first or not re.compile(r"@?(?:rem\b|::)", re.IGNORECASE).match(self.text, self.at):
                return False
        elif self._here() != "#":
            return False
        end = self.text.find("\n", self.at)
        line = self.text[self.at : end if end >= 0 else len(self.text)]
        self.at += len(line)
        alone = self.text.rfind("\n", 0, self.at - len(line)) + 1
        begun = not first and not self.text[alone : self.at - len(line)].strip()
        if line.rstrip().endswith(self._escape) or begun:
            self.at += 1  # a line that was commented out in the middle of a command: the command goes on
        return True

    def _word(self) -> Word:
        """Pieces up to a blank or the end of the statement."""
        pieces: list[Piece] = []
        while not self.ended:
            here = self._here()
            braced = here in "{}" and self.dialect is Dialect.POWERSHELL
            if here in _BLANKS or here in self._ends or braced:
                break
            if here == self._escape:
                if re.compile(r"[ \t]*(?:\n|\Z)").match(self.text, self.at + 1):
                    break
                pieces.append(Piece(self._escaped(), "'"))
            elif here in "\"'" and not (here == "'" and self.dialect is Dialect.BATCH):
                pieces.append(self._quoted(here))
            elif self._here(2) == "$'" and self.dialect is Dialect.BASH:
                self.at += 1
                pieces.append(self._quoted("'", escapes=True))
            else:
                pieces.append(Piece(self._plain()))
        return tuple(pieces)

    def _escaped(self) -> str:
        """The character behind the mark."""
        found = self._here(2)[1:]
        self.at += 2
        return _POWERSHELL_ESCAPES.get(found, found) if self.dialect is Dialect.POWERSHELL else found

    def _plain(self) -> str:
        """At least one character without a meaning of its own, or something with a dollar or backticks."""
        start = self.at
        if self._here() == "$" or (self._here() == "`" and self.dialect is Dialect.BASH):
            return self._substitution()
        special = _BLANKS + "\"'$" + self._escape + "".join(self._ends)
        special += "{}" if self.dialect is Dialect.POWERSHELL else "`"
        if self.dialect is Dialect.BATCH:
            special = special.replace("'", "").replace("$", "")
        self.at += 1
        while not self.ended and self._here() not in special:
            self.at += 1
        return self.text[start : self.at]

    def _substitution(self) -> str:
        """``$name``, ``${...}``, ``$(...)`` or `` `...` `` as they stand; brackets end with the line at the latest."""
        start, opened = self.at, self._here(2)[-1:]
        if self._here() == "`":
            end = self.text.find("`", self.at + 1)
            line = self.text.find("\n", self.at)
            self.at = end + 1 if end >= 0 and (line < 0 or end < line) else self.at + 1
            return self.text[start : self.at]
        self.at += 1
        pair = {"{": "}", "(": ")"}.get(opened)
        if pair is None:
            while not self.ended and (self._here().isalnum() or self._here() in "_:@*#?" or self.at == start + 1):
                if self._here() in _BLANKS + "\n\"'" + self._escape:
                    break
                self.at += 1
            return self.text[start : self.at]
        depth = 0
        while not self.ended and self._here() != "\n":
            depth += (self._here() == opened) - (self._here() == pair)
            self.at += 1
            if depth == 0:
                break
        return self.text[start : self.at]

    def _quoted(self, quote: str, *, escapes: bool = False) -> Piece:
        """Between quotation marks, which end with the line at the latest.

        Args:
            quote: which.
            escapes: bash's ``$'...'``, in which a backslash has a meaning.
        """
        self.at += 1
        found: list[str] = []
        while not self.ended and self._here() != "\n":
            here = self._here()
            if here == quote:
                self.at += 1
                doubled = self.dialect is Dialect.POWERSHELL and self._here() == quote
                if not doubled:
                    break
                self.at += 1
                found.append(quote)
            elif escapes and here == "\\":
                found.append(self._named_escape())
            elif here == self._escape and self._has_meaning(quote):
                found.append(self._kept(self._escaped()))
            else:
                found.append(here)
                self.at += 1
        return Piece("".join(found), quote if quote == '"' else "'")

    def _has_meaning(self, quote: str) -> bool:
        """Does the mark take away a meaning here?"""
        if quote == "'" or self.dialect is Dialect.BATCH:
            return False
        return self.dialect is Dialect.POWERSHELL or self._here(2)[1:] in ('"', "\\", "$", "`", "\n")

    def _kept(self, char: str) -> str:
        """An escaped dollar is marked, so that it is not looked up later."""
        return DOLLAR if char == "$" else char

    def _named_escape(self) -> str:
        """Of ``$'...'``: a name, or two, four or eight hexadecimal digits."""
        coded = _CODED.match(self.text, self.at)
        if coded is None:
            found = self._here(2)[1:]
            self.at += 2
            return _BASH_ESCAPES.get(found, "\\" + found)
        self.at = coded.end()
        code = int(next(group for group in coded.groups() if group), 16)
        return chr(code) if code < 0x110000 and not 0xD800 <= code < 0xE000 else "?"


DOLLAR = "\ue000"
"""Stands for a dollar sign that was escaped; a private character, turned back when the word is done."""
