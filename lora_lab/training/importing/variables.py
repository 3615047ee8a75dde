"""What the words of a script come to: variables, arithmetic, lists. Text only; a command in it stays text."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from lora_lab.errors import SettingsError
from lora_lab.training.importing.words import DOLLAR, Dialect, Piece, Word

Value = str | tuple[str, ...]
"""A variable's: text, or a list of words."""

MOST = 20_000
"""Longest text that a variable may grow to; a script that doubles one in a hundred lines would fill the memory."""

_INSIDE = r"(?:[^()]|\((?:[^()]|\([^()]{0,99}\)){0,99}\)){0,99}"
"""What may stand in ``$( )``; of limited length, so that a text full of open brackets is read at once."""
_DOLLARS = re.compile(r"\$\{([^{}]*)\}|\$\((" + _INSIDE + r")\)|\$([A-Za-z_]\w*(?::\w+)?|[@*#?0-9])")
_PERCENTS = re.compile(r"%([A-Za-z_][\w.-]*)%|!([A-Za-z_][\w.-]*)!")
_LIST = re.compile(r"\$\{(\w+)\[[@*]\]\}\Z|\$(\w+)\Z|@(\w+)\Z")
_ARITHMETIC = re.compile(r"[\d.eE+\-*/()\s]+\Z")


@dataclass
class Variables:
    """The variables of a script so far."""

    dialect: Dialect
    values: dict[str, Value] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    """Names that were used without a value."""
    commands: list[str] = field(default_factory=list)
    """Commands inside of values, which were not run."""

    def _key(self, name: str) -> str:
        return name if self.dialect is Dialect.BASH else name.lower()

    def set(self, name: str, value: Value, *, add: bool = False) -> None:
        """Give a variable a value.

        Args:
            add: ``+=``: behind what it has.

        Raises:
            SettingsError: the text has grown past all reason.
        """
        before = self.values.get(self._key(name), "") if add else ""
        if isinstance(before, tuple) or (add and isinstance(value, tuple)):
            value = (*_words(before), *_words(value))
        elif isinstance(value, str):
            value = before + value
        if sum(map(len, value)) > MOST:
            raise SettingsError(f"{name[:40]} in the script grows past {MOST:,} characters", remedy="write it out")
        self.values[self._key(name)] = value

    def get(self, name: str) -> str:
        """A variable's text, empty where it has none."""
        value = self.values.get(self._key(name))
        if value is None:
            self.missing.add(name)
            return ""
        return value if isinstance(value, str) else " ".join(value)

    def texts(self, word: Word) -> tuple[str, ...]:
        """What a word comes to: mostly one, several for a list."""
        if len(word) == 1 and word[0].quote != "'":
            found = _LIST.match(word[0].text)
            value = self.values.get(self._key(next(filter(None, found.groups())))) if found else None
            if isinstance(value, tuple):
                return value
        return (self.text(word),)

    def text(self, word: Sequence[Piece]) -> str:
        """A word with its variables filled in."""
        done = "".join(piece.text if piece.quote == "'" else self._fill(piece.text) for piece in word)
        if len(done) > MOST:
            raise SettingsError(f"a value in the script is longer than {MOST:,} characters", remedy="write it out")
        return done.replace(DOLLAR, "$")

    def _fill(self, text: str) -> str:
        if self.dialect is Dialect.BATCH:
            return _PERCENTS.sub(lambda found: self.get(found[1] or found[2]), text)
        if "`" in text and self.dialect is Dialect.BASH:
            self.commands.append(text)
        return _DOLLARS.sub(self._value, text)

    def _value(self, found: re.Match[str]) -> str:
        braced, command, name = found.groups()
        if name is not None:
            return self._named(name)
        if braced is not None:
            known = re.match(r"(\w+(?::\w+)?)(?:\[[@*]\])?(?::?-(.*))?\Z", braced, re.DOTALL)
            if known is None:
                return found[0]
            key, otherwise = known.groups()
            return self._named(key) if otherwise is None or self._key(key) in self.values else otherwise
        return self._computed(command, found[0])

    def _named(self, name: str) -> str:
        """``$env:NAME`` is the variable NAME of the environment, which a script may have set before."""
        return self.get(name[4:] if name.lower().startswith("env:") else name)

    def _computed(self, inside: str, whole: str) -> str:
        """``$((a + b))``, or PowerShell's ``$($a + $b)``; anything else is a command, and stays text."""
        names = r"\$?\b([A-Za-z_]\w*)\b" if self.dialect is Dialect.BASH else r"\$([A-Za-z_]\w*)\b"
        filled = re.sub(names, lambda found: self.get(found[1]), inside)
        result = arithmetic(filled.strip())
        if result is None and self.dialect is Dialect.POWERSHELL and re.fullmatch(r"\s*\$\w+\s*", inside):
            return filled.strip()
        if result is None:
            self.commands.append(whole)
            return whole.replace("$", DOLLAR)
        return result


def _words(value: Value) -> tuple[str, ...]:
    return value if isinstance(value, tuple) else tuple(value.split())


_SIGNS: MappingProxyType[type[ast.operator], Callable[[float, float], float]] = MappingProxyType(
    {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
)


def arithmetic(text: str) -> str | None:
    """``0.0001 * 2`` as text, None where it is none. Numbers, the four signs and brackets only."""
    if len(text) > 200 or not _ARITHMETIC.match(text):
        return None
    try:
        result = _compute(ast.parse(text.strip(), mode="eval").body)
        whole = result == int(result) and abs(result) < 1e15
    except (SyntaxError, ValueError, ArithmeticError, RecursionError, MemoryError, TypeError):
        return None
    return str(int(result)) if whole else repr(float(f"{result:.12g}"))


def _compute(node: ast.expr) -> float:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return node.value  # type: ignore[return-value]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        value = _compute(node.operand)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp) and type(node.op) in _SIGNS:
        return _SIGNS[type(node.op)](_compute(node.left), _compute(node.right))
    raise ValueError("no arithmetic")
