"""The ``if`` of a script: which of its statements count. Text is compared; no command is run."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from lora_lab.training.importing.variables import Variables
from lora_lab.training.importing.words import CLOSE, OPEN, Dialect, Piece, Statement, Word

_BRACKETS = frozenset({"[", "[[", "]", "]]", "(", ")", "then", ";", ""})
_ORDER: Mapping[str, Callable[[float, float], bool]] = MappingProxyType(
    {"-gt": operator.gt, "-lt": operator.lt, "-ge": operator.ge, "-le": operator.le}
)
_EQUAL, _OTHER = frozenset({"==", "=", "-eq"}), frozenset({"!=", "-ne"})
_FALSE = frozenset({"", "0", "false", "$false", "$null"})


@dataclass
class Block:
    """One ``if`` (or another block, which is always on)."""

    on: bool
    done: bool = True
    """One of its branches was taken, so that no later one is."""
    condition: bool = False


@dataclass
class Blocks:
    """Where in the nested blocks of a script the reading is."""

    variables: Variables
    open: list[Block] = field(default_factory=list)
    waiting: Block | None = None
    """PowerShell's condition, before its brace."""
    unclear: list[str] = field(default_factory=list)
    """Conditions that text cannot decide; their branch is passed over."""

    @property
    def on(self) -> bool:
        """Do statements count here?"""
        return all(block.on for block in self.open)

    def take(self, statement: Statement) -> Statement:
        """Follow a statement; what is left of it to be read (a command behind ``then``), empty when it is none."""
        if self.variables.dialect is Dialect.POWERSHELL:
            return self._powershell(statement)
        return self._bash(statement) if self.variables.dialect is Dialect.BASH else statement

    def _bash(self, statement: Statement) -> Statement:
        first = _plain(statement[0])
        if first == "if":
            self.open.append(self._begun(statement[1:]))
            return ()
        ifs = [block for block in self.open if block.condition]
        if first == "fi" and ifs:
            self.open.remove(ifs[-1])
            return ()
        if first in ("else", "elif") and ifs:
            self._otherwise(ifs[-1], statement[1:] if first == "elif" else None)
            return () if first == "elif" else statement[1:]
        return statement[1:] if first in ("then", "do") else statement

    def _powershell(self, statement: Statement) -> Statement:
        if statement == (OPEN,):
            self.open.append(self.waiting or Block(on=True))
            self.waiting = None
            return ()
        if statement == (CLOSE,):
            self.closed = self.open.pop() if self.open else None
            return ()
        first = _plain(statement[0]).lower().partition("(")[0]
        if first == "if":
            glued = (Piece(statement[0][0].text[2:]), *statement[0][1:])
            self.waiting = self._begun(((glued,) if _plain(glued) else ()) + statement[1:])
            return ()
        if first in ("else", "elseif") and self.closed is not None and self.closed.condition:
            self.waiting = self.closed
            self._otherwise(self.waiting, statement[1:] if first == "elseif" else None)
            return ()
        return statement

    closed: Block | None = None
    """PowerShell's block that ended last, to which an ``else`` belongs."""

    def _begun(self, words: Statement) -> Block:
        holds = self._holds(words) if self.on else False
        return Block(on=bool(holds), done=holds is not False, condition=True)

    def _otherwise(self, block: Block, words: Statement | None) -> None:
        holds = True if words is None or block.done else self._holds(words)
        block.on = bool(holds) and not block.done
        block.done = block.done or holds is not False

    def _holds(self, words: Statement) -> bool | None:
        """Does the condition hold? None when text cannot tell, as of a command's success."""
        if not words:
            return None
        texts = [self.variables.text(word).strip("()") for word in words]
        terms = [text for text, word in zip(texts, words, strict=True) if _counts(text, word)]
        bracketed = self.variables.dialect is Dialect.POWERSHELL or _plain(words[0])[:1] == "["
        if len(terms) == 1 and bracketed:
            return terms[0].lower() not in _FALSE
        if len(terms) == 2 and terms[0] in ("-n", "-z"):
            return (terms[1] == "") == (terms[0] == "-z")
        if len(terms) == 3 and terms[1] in _EQUAL | _OTHER:
            return _same(terms[0], terms[2]) == (terms[1] in _EQUAL)
        if len(terms) == 3 and terms[1] in _ORDER:
            try:
                return _ORDER[terms[1]](float(terms[0]), float(terms[2]))
            except ValueError:
                return None
        self.unclear.append(" ".join(texts)[:60])
        return None


def _plain(word: Word) -> str:
    return "".join(piece.text for piece in word)


def _counts(text: str, word: Word) -> bool:
    """An empty value counts, a bracket does not."""
    return text not in _BRACKETS or (text == "" and _plain(word) not in ("(", ")", "()"))


def _same(left: str, right: str) -> bool:
    try:
        return float(left) == float(right)
    except ValueError:
        return left.strip("\"'").lower() == right.strip("\"'").lower()
