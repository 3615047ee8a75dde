"""What a module of ours can say: its expressions read as texts with holes where values go, without running them.

Names are followed to what is assigned to them, loops to what they run through, calls to functions of the same module and
back; both sides of a choice are taken. What cannot be told so is a value.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Container, Iterator
from itertools import count, product
from pathlib import Path

NUMBER, VALUE, CUT = "\ue000", "\ue001", "\ue002"
"""A number; any other value; and where an element of the page begins or ends, and with it a text."""
MOST = 256
"""Ways to put a text together; what has more is a value."""
ELEMENTS = {"tag", "void", "act", "bar", "own", "bullets", "listed", "_button"}
"""Functions that make one; what they are given is read where they are called."""
NUMBERS = {"len", "duration", "speed", "memory", "rate", "number"}
"""Functions that make a number, with its unit or without."""

Function = ast.FunctionDef | None


class Module:
    """A file whose texts are read.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.tree = ast.parse(path.read_text(encoding="utf-8"))
        self.functions = {node.name: node for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef)}
        self._sites = [(call, name, within) for call, name, within in self.calls()]
        self._asked: list[tuple[str, Function]] = []

    def calls(self) -> Iterator[tuple[ast.Call, str, Function]]:
        """Every call of a named function, the name, and the function that it stands in."""
        for node, within in self._nodes(self.tree, None):
            if isinstance(node, ast.Call) and isinstance(node.func, (ast.Name, ast.Attribute)):
                yield node, _name(node), within

    def named(self, *names: str) -> Iterator[tuple[ast.expr, Function]]:
        """Everything that is given by one of these names, to a function or in a dict."""
        for node, within in self._nodes(self.tree, None):
            if isinstance(node, ast.keyword) and node.arg in names:
                yield node.value, within
            elif isinstance(node, ast.Dict):
                for key, value in zip(node.keys, node.values, strict=True):
                    if isinstance(key, ast.Constant) and key.value in names:
                        yield value, within

    def markup(self) -> Iterator[tuple[ast.JoinedStr, Function]]:
        """Every f-string that is HTML."""
        for node, within in self._nodes(self.tree, None):
            pieces = node.values if isinstance(node, ast.JoinedStr) else []
            if any(isinstance(piece, ast.Constant) and re.search("<[a-z]", piece.value) for piece in pieces):
                yield node, within  # type: ignore[misc]

    def yields(self) -> Iterator[str]:
        """What functions yield that make texts one by one."""
        for node, within in self._nodes(self.tree, None):
            if isinstance(node, (ast.Yield, ast.YieldFrom)):
                yield from self.says(node.value, within)

    def texts(self) -> Iterator[str]:
        """Everything that is a text, but for docstrings."""
        for node, within in self._nodes(self.tree, None):
            if not isinstance(node, (ast.Expr, ast.JoinedStr)):
                for child in ast.iter_child_nodes(node):
                    if isinstance(child, (ast.Constant, ast.JoinedStr)):
                        yield from self.says(child, within)

    def _nodes(self, node: ast.AST, within: Function) -> Iterator[tuple[ast.AST, Function]]:
        for child in ast.iter_child_nodes(node):
            inner = child if within is None and isinstance(child, ast.FunctionDef) else within
            yield child, inner
            yield from self._nodes(child, inner)

    def says(self, node: ast.AST | None, within: Function) -> set[str]:
        """All texts that an expression can have."""
        found = getattr(self, f"_{type(node).__name__.lower()}", lambda node, within: {VALUE})(node, within)
        return found if len(found) <= MOST else {VALUE}

    def _constant(self, node: ast.Constant, within: Function) -> set[str]:
        return {node.value} if isinstance(node.value, str) else {"" if node.value is None else NUMBER}

    def _joinedstr(self, node: ast.JoinedStr, within: Function) -> set[str]:
        return _joined(self.says(piece, within) for piece in node.values)

    def _formattedvalue(self, node: ast.FormattedValue, within: Function) -> set[str]:
        if node.conversion > 0:
            return {VALUE}
        return {NUMBER} if node.format_spec else self.says(node.value, within)

    def _binop(self, node: ast.BinOp, within: Function) -> set[str]:
        sides = [self.says(side, within) for side in (node.left, node.right)]
        return {NUMBER} if not isinstance(node.op, ast.Add) or {NUMBER} in sides else _joined(sides)

    def _ifexp(self, node: ast.IfExp, within: Function) -> set[str]:
        return self.says(node.body, within) | self.says(node.orelse, within)

    def _boolop(self, node: ast.BoolOp, within: Function) -> set[str]:
        return set().union(*(self.says(value, within) for value in node.values))

    def _list(self, node: ast.List | ast.Tuple, within: Function) -> set[str]:
        """Any of its items."""
        return set().union(*(self.says(item, within) for item in node.elts))

    def _starred(self, node: ast.Starred, within: Function) -> set[str]:
        return self.says(node.value, within)

    def _generatorexp(self, node: ast.GeneratorExp | ast.ListComp, within: Function) -> set[str]:
        return self.says(node.elt, within)

    _listcomp = _generatorexp

    def _subscript(self, node: ast.Subscript, within: Function) -> set[str]:
        found = [self.says(source, where) for source, where in self._sources(node, within)]
        return set().union(*found) if found else {VALUE}

    def _call(self, node: ast.Call, within: Function) -> set[str]:
        name = _name(node)
        if name in ELEMENTS:
            return {CUT}
        if name == "esc":
            return self.says(node.args[0], within)
        if name == "count":
            words = [self.says(word, within) for word in node.args[1:]]
            many = words[1] if len(words) > 1 else {word + "s" for word in words[0]}
            return {f"{NUMBER} {word}" for word in words[0] | many}
        if name in NUMBERS:
            return {NUMBER}
        if name == "join" and isinstance(node.func, ast.Attribute):
            return self._join(node, within)
        made = self.functions.get(name) if isinstance(node.func, ast.Name) else None
        return {VALUE} if made is None else self._resolved(name, None, self._returned(made))

    def _join(self, node: ast.Call, within: Function) -> set[str]:
        """Elements one after the other, or a list of values."""
        plain = isinstance(node.func, ast.Attribute) and self.says(node.func.value, within) == {""}
        return {CUT} if plain or any(CUT in text for text in self.says(node.args[0], within)) else {VALUE}

    def _namedexpr(self, node: ast.NamedExpr, within: Function) -> set[str]:
        return self.says(node.value, within)

    def _name(self, node: ast.Name, within: Function) -> set[str]:
        for scope in (within, None):
            found = self._resolved(node.id, scope, self._bound(node.id, scope))
            if found:
                return found
        return {VALUE}

    def _resolved(self, name: str, scope: Function, ways: Iterator[set[str]]) -> set[str]:
        """All ways together; a value where a name is made out of itself."""
        if (name, scope) in self._asked:
            return {VALUE}
        self._asked.append((name, scope))
        try:
            return set().union(*ways)
        finally:
            self._asked.pop()

    def _returned(self, made: ast.FunctionDef) -> Iterator[set[str]]:
        for node in ast.walk(made):
            if isinstance(node, ast.Return):
                yield self.says(node.value, made)

    def _bound(self, name: str, scope: Function) -> Iterator[set[str]]:
        """What is assigned to a name, added to it, or runs through it."""
        so_far: set[str] = set()
        yield from (self.says(argument, where) for argument, where in self._passed(name, scope))
        for node in ast.walk(scope) if scope else self.tree.body:
            found: set[str] = set()
            if isinstance(node, (ast.Assign, ast.AnnAssign)):
                found = self._assigned(_target(node), node.value, name, scope)
            elif isinstance(node, ast.AugAssign) and _is(node.target, name):
                more = self.says(node.value, scope)
                found = more if isinstance(node.value, ast.List) else _joined([so_far or {VALUE}, more])
            elif isinstance(node, (ast.For, ast.comprehension)):
                found = self._runs(node.target, node.iter, name, scope)
            so_far = so_far | found
            yield found

    def _assigned(self, target: ast.expr, value: ast.expr | None, name: str, scope: Function) -> set[str]:
        """What one assignment gives to a name, alone or among others."""
        if _is(target, name):
            return self.says(value, scope)
        place = _place(target, name)
        if place is None or value is None:
            return set()
        sources = [(source, where) for source, where in self._sources(value, scope) if isinstance(source, ast.Tuple)]
        return set().union(*(self.says(source.elts[place], where) for source, where in sources)) if sources else {VALUE}

    def _runs(self, target: ast.expr, through: ast.expr, name: str, scope: Function) -> set[str]:
        """What a loop gives to a name."""
        place = _place(target, name)
        if place is None:
            return set()
        names = len(target.elts) if isinstance(target, ast.Tuple) else 1
        items = [(parts, where) for parts, where in self._items(through, scope) if len(parts) == names]
        return set().union(*(self.says(parts[place], where) for parts, where in items)) if items else {VALUE}

    def _items(self, through: ast.expr, scope: Function) -> Iterator[tuple[list[ast.expr], Function]]:
        """What a loop runs through, each item in its parts; nothing where that cannot be told."""
        pairs = isinstance(through, ast.Call) and isinstance(through.func, ast.Attribute) and through.func.attr == "items"
        for source, where in self._sources(through.func.value if pairs else through, scope):  # type: ignore[attr-defined]
            if isinstance(source, ast.Dict):
                for key, value in zip(source.keys, source.values, strict=True):
                    if key is not None:
                        yield [key, value] if pairs else [key], where
            elif isinstance(source, (ast.Tuple, ast.List)):
                yield from ((_parts(item), where) for item in source.elts)
            elif isinstance(source, (ast.ListComp, ast.GeneratorExp)):
                yield _parts(source.elt), where
        for call, name, within in self._sites:
            if name == "append" and within is scope and isinstance(through, ast.Name) and _is(call.func.value, through.id):
                yield _parts(call.args[0]), within

    def _sources(self, node: ast.expr, scope: Function) -> Iterator[tuple[ast.expr, Function]]:
        """The expressions behind a name, each with the function that it stands in."""
        if isinstance(node, ast.Subscript):
            for table, where in self._sources(node.value, scope):
                if isinstance(table, ast.Dict):
                    yield from ((value, where) for value in table.values)
                elif isinstance(table, ast.Tuple) and isinstance(node.slice, ast.Constant):
                    yield table.elts[node.slice.value], where
        elif isinstance(node, ast.Call) and _name(node) in self.functions:
            made = self.functions[_name(node)]
            for one in ast.walk(made):
                if isinstance(one, ast.Return) and one.value is not None:
                    yield one.value, made
        elif not isinstance(node, ast.Name):
            yield node, scope
        if not isinstance(node, ast.Name):
            return
        for argument, where in self._passed(node.id, scope):
            yield from self._sources(argument, where) if where is not scope else ()
        for inside in dict.fromkeys((scope, None)):
            for one in ast.walk(inside) if inside else self.tree.body:
                assigned = isinstance(one, (ast.Assign, ast.AnnAssign, ast.AugAssign)) and _is(_target(one), node.id)
                if assigned and one.value is not None:
                    yield one.value, inside

    def _passed(self, name: str, scope: Function) -> Iterator[tuple[ast.expr, Function]]:
        """What callers in the same module give to a parameter, and what it is when they do not."""
        if scope is None:
            return
        places = [argument.arg for argument in (*scope.args.posonlyargs, *scope.args.args)]
        sites = [(call, within) for call, called, within in self._sites if called == scope.name]
        for call, within in sites:
            yield from ((argument, within) for argument in given(call, {name, *_index(places, name)}))
        usual = dict(zip(places[::-1], scope.args.defaults[::-1], strict=False))
        usual |= {a.arg: d for a, d in zip(scope.args.kwonlyargs, scope.args.kw_defaults, strict=True) if d}
        if sites and name in usual:
            yield usual[name], None


def _is(node: ast.AST | None, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _target(node: ast.Assign | ast.AnnAssign | ast.AugAssign) -> ast.expr:
    return node.targets[0] if isinstance(node, ast.Assign) else node.target


def _place(target: ast.expr, name: str) -> int | None:
    """Where a name stands among those that are given a value."""
    names = target.elts if isinstance(target, ast.Tuple) else [target]
    return next((n for n, one in enumerate(names) if _is(one, name)), None)


def _parts(item: ast.expr) -> list[ast.expr]:
    return item.elts if isinstance(item, ast.Tuple) else [item]


def _index(places: list[str], name: str) -> list[int]:
    return [places.index(name)] if name in places else []


def _name(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


def _joined(pieces: Iterator[set[str]] | list[set[str]]) -> set[str]:
    """One behind the other, in every way."""
    found = {""}
    for piece in pieces:
        found = {before + after for before, after in product(found, piece)}
        if len(found) > MOST:
            return {VALUE}
    return found


def given(call: ast.Call, places: Container[int | str | None]) -> Iterator[ast.expr]:
    """The arguments of a call that stand at these places or have these names."""
    yield from (argument for place, argument in enumerate(call.args) if place in places)
    yield from (word.value for word in call.keywords if word.arg in places)


def numbered(text: str) -> str:
    """Numbers as ``{0}``, other values as ``{1*}``; those that touch are one."""
    number = count()
    kind = {NUMBER: ""}
    return re.sub(f"[{NUMBER}{VALUE}]+", lambda hole: f"{{{next(number)}{kind.get(hole[0], '*')}}}", text)
