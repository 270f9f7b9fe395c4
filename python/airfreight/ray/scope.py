"""
Functions and classes that are defined inside another function, as most tasks are that stand in a ``@dag``.

What they close over are variables of one call of that function. On the cluster another function stands in its place:
with the same lines for what is needed, and the variables as its parameters.
"""

from __future__ import annotations

import ast
import types
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airfreight.errors import InvalidError
from airfreight.ray.source import Definition, Piece

if TYPE_CHECKING:
    from airfreight.ray.function import Function, Module, Reference
    from airfreight.ray.source import Source

_EMPTY = object()


@dataclass(slots=True)
class Scope:
    """
    One call of an enclosing function.

    :param module: the module that it is in.
    :param enclosing: the function's node.
    """

    module: Module
    source: Source
    enclosing: ast.AST
    number: int
    #: What is defined in it: the value, its node, the decorators that are kept.
    made: dict[str, Made] = field(default_factory=dict)
    #: The variables of that call that come from elsewhere: their values here, and how the cluster comes to them.
    variables: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, Reference] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"__airfreight_scope_{self.number}__"

    def manifest(self) -> dict[str, Any]:
        """What the driver needs to know."""
        piece = self.piece()
        return {
            "module": self.module.name,
            "file": self.source.file,
            "name": self.name,
            "line": piece.line,
            "source": piece.text,
            "hidden": list(piece.hidden),
            "lazy_annotations": piece.lazy_annotations,
            "parameters": self.parameters,
            "made": {name: made.how for name, made in self.made.items()},
        }

    def piece(self) -> Piece:
        """The stand-in for the enclosing function."""
        source = self.source
        members = sorted(self.made.values(), key=lambda made: made.first)
        indentation = min((_indentation(made.text[0]) for made in members), key=len)
        first = min(made.first for made in members)
        # A deeper member stands in a block of the function, so there are two lines before it.
        begin = (
            first - 1 if members[0].first == first and _indentation(members[0].text[0]) == indentation else first - 2
        )
        lines: dict[int, str] = {begin: f"def {self.name}({', '.join(self.parameters)}):\n"}
        hidden = {begin}
        last = first
        for made in members:
            for offset, line in enumerate(made.text):
                lines[made.first + offset] = line
            last = max(last, made.first + len(made.text))
        for made in members:
            if len(_indentation(made.text[0])) > len(indentation) and made.first - 1 not in lines:
                lines[made.first - 1] = f"{indentation}if 1:\n"
                hidden.add(made.first - 1)
        names = ", ".join(f"{name!r}: {made.local}" for name, made in self.made.items())
        lines[last] = f"{indentation}return {{{names}}}\n"
        hidden.add(last)
        start = begin
        text = "".join(lines.get(number, "\n") for number in range(start, last + 1))
        hidden |= {number for number in range(start, last + 1) if number not in lines}
        lazy = source.lazy_annotations or all(not made.is_evaluated for made in members)
        return Piece(start, text, lazy, tuple(sorted(number - start for number in hidden)))


@dataclass(slots=True)
class Made:
    """One function or class of a scope."""

    value: Any
    node: Definition
    first: int
    text: list[str]
    local: str
    is_evaluated: bool
    how: dict[str, Any]


def place(function: Function, value: Any, raw: types.FunctionType | None, module: Module) -> Reference:
    """
    Puts a nested function or class into its scope.

    :param raw: the function without its decorators; ``None`` for a class.
    :raises InvalidError: it can't be taken out of its file.
    """
    if raw is not None and raw.__name__ == "<lambda>":
        return _place_lambda(function, raw, module)
    source = module.source_of(raw)
    if raw is None:
        node: Any = source.class_of(value.__qualname__)
    else:
        node = source.definition(raw.__code__.co_name, raw.__code__.co_firstlineno)
    if node is None:
        return _unplaced(function, value, source)
    enclosing = source.enclosing(node)
    if enclosing is None and raw is value and node.name not in module.bound:
        # At the top level, but its name stands for something else there: a decorator has it.
        function.define(module, node, raw)
        return {"module": module.name, "name": node.name}
    if isinstance(enclosing, ast.ClassDef) or enclosing is None:
        raise InvalidError(
            f"cannot run {function.name} on Ray: it uses {_qualname(value)}, which is defined in a class or replaced "
            "by another of its name",
            "define it as a function of its own at the top level of the file",
        )
    cells = _cells(value, raw)
    scope = _scope_for(function, module, source, enclosing, node.name, value, cells)
    if node.name not in scope.made:
        _fill(function, scope, value, raw, node, cells)
    return {"scope": scope.number, "name": node.name}


def _fill(
    function: Function,
    scope: Scope,
    value: Any,
    raw: types.FunctionType | None,
    node: Any,
    cells: dict[str, Any],
) -> None:
    from airfreight.ray.function import kept_decorators, undecorated

    module, source = scope.module, scope.source
    plain = raw if raw is value else None
    decorators = [] if plain is not None else kept_decorators(node) if raw is not None else node.decorator_list
    defaults = function.defaults(plain, node)
    text = source.cut(node, decorators, blank_defaults=bool(defaults))
    first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
    scope.made[node.name] = Made(
        value, node, first, text, node.name, raw is None or bool(decorators), {"qualname": _qualname(value)} | defaults
    )
    for name, found in cells.items():
        inner = undecorated(found, function.callable)
        if inner is _EMPTY or inner is value or name in scope.parameters:
            continue
        inner_raw = _raw(inner)
        if inner_raw is not None and _belongs(scope, inner_raw):
            place(function, inner, inner_raw if isinstance(inner_raw, types.FunctionType) else None, module)
            continue
        scope.variables[name] = inner
        scope.parameters[name] = {}  # while it is looked at, in case it comes back here
        scope.parameters[name] = function.refer(inner, f"`{name}`")
    function.need_names(module, scope.piece(), source.file)


def _scope_for(
    function: Function,
    module: Module,
    source: Source,
    enclosing: ast.AST,
    name: str,
    value: Any,
    cells: dict[str, Any],
) -> Scope:
    """The scope that has the same variables; two calls of one function are two scopes."""
    for scope in function.scopes:
        if scope.module is not module or scope.enclosing is not enclosing:
            continue
        same = all(scope.variables.get(each, inner) is inner for each, inner in cells.items())
        there = scope.made.get(name)
        if same and (there is None or there.value is value):
            return scope
    scope = Scope(module, source, enclosing, len(function.scopes))
    function.scopes.append(scope)
    return scope


def _belongs(scope: Scope, thing: Any) -> bool:
    """Whether a function or class is defined in the same enclosing function."""
    source = scope.source
    if isinstance(thing, type):
        node: Any = source.class_of(thing.__qualname__)
    elif thing.__code__.co_filename == source.file:
        node = source.definition(thing.__code__.co_name, thing.__code__.co_firstlineno)
    else:
        return False
    return node is not None and source.enclosing(node) is scope.enclosing


def _raw(value: Any) -> Any:
    from airfreight.ray.function import unwrapped

    raw = unwrapped(value)
    if isinstance(raw, types.FunctionType):
        return raw if raw.__name__ != "<lambda>" else None
    return value if isinstance(value, type) and "<locals>" in value.__qualname__ else None


def _cells(value: Any, raw: types.FunctionType | None) -> dict[str, Any]:
    """The variables that a function, or the methods of a class, close over."""
    functions = [raw] if raw is not None else [each for each in vars(value).values() if hasattr(each, "__closure__")]
    found = {}
    for each in functions:
        for name, cell in zip(each.__code__.co_freevars, each.__closure__ or (), strict=True):
            if name == "__class__":
                continue
            try:
                found[name] = cell.cell_contents
            except ValueError:
                found[name] = _EMPTY
    return found


def _place_lambda(function: Function, raw: types.FunctionType, module: Module) -> Reference:
    source = module.source_of(raw)
    node = source.lambda_of(raw.__code__)
    if node is None:
        return _unplaced(function, raw, source)
    segment = ast.get_source_segment("".join(source.lines), node) or ""
    lines = f"    {' ' * max(0, node.col_offset - 4)}({segment})".split("\n")
    scope = Scope(module, source, node, len(function.scopes))
    function.scopes.append(scope)
    name = "made"
    defaults = function.defaults(raw, node)
    # Its first line follows an assignment that has no line of its own.
    lines[0] = f"    {name} = {lines[0].lstrip()}"
    lines = [line + "\n" for line in lines]
    how = {"qualname": raw.__qualname__} | defaults
    stand_in: Any = node
    scope.made["<lambda>"] = Made(raw, stand_in, max(node.lineno, 2), lines, name, False, how)
    for variable, inner in _cells(raw, raw).items():
        scope.variables[variable] = inner
        scope.parameters[variable] = function.refer(inner, f"`{variable}`")
    function.need_names(module, scope.piece(), source.file)
    return {"scope": scope.number, "name": "<lambda>"}


def _unplaced(function: Function, value: Any, source: Source) -> Reference:
    raise InvalidError(
        f"cannot run {function.name} on Ray: the source of {_qualname(value)} is not where it was in {source.file}",
        "the file has changed since it was read, or the function was made by a program: run the task again, or define "
        "the function in the file",
    )


def _qualname(value: Any) -> str:
    return str(getattr(value, "__qualname__", type(value).__qualname__))


def _indentation(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]
