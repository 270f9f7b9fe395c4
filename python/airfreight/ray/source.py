"""A Python file as the places in it: where its functions, classes, imports and names are, and their exact lines."""

from __future__ import annotations

import ast
import dis
import linecache
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
Definition = FunctionNode | ast.ClassDef

# What looks a name up where a module's names are.
_GLOBAL_LOADS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS", "LOAD_CLASSDEREF"})
_LAZY = "annotations"


@dataclass(frozen=True, slots=True)
class Piece:
    """
    Lines of a file that can be compiled alone.

    :param line: the number of the first one.
    :param text: the lines.
    :param lazy_annotations: compile them so that no annotation is evaluated.
    :param hidden: which of the lines aren't the file's own.
    """

    line: int
    text: str
    lazy_annotations: bool
    hidden: tuple[int, ...] = ()

    def compiled(self, file: str) -> CodeType:
        flags = 0
        if self.lazy_annotations:
            import __future__

            flags |= __future__.annotations.compiler_flag
        source = "\n" * (self.line - 1) + self.text
        code: CodeType = compile(source, file, "exec", flags=flags, dont_inherit=True)
        return code


@dataclass(slots=True)
class Source:
    """
    One file.

    :param file: its name, as its code objects have it.
    :param lines: its lines with their ends.
    :param tree: the same, parsed.
    """

    file: str
    lines: list[str]
    tree: ast.Module
    parents: dict[ast.AST, ast.AST] = field(default_factory=dict)
    bindings: dict[str, list[ast.stmt]] = field(default_factory=dict)

    @classmethod
    def read(cls, file: str, namespace: dict[str, Any] | None = None) -> Source | None:
        """
        Reads the source of a file, a notebook's cell or a member of a zip archive.

        :param namespace: a module's names, of which its loader is asked for what is in no file.
        :returns: ``None`` when there is none, or none that this Python can read.
        """
        linecache.checkcache(file)
        lines = linecache.getlines(file, namespace)
        if not lines:
            return None
        try:
            tree = ast.parse("".join(lines))
        except (SyntaxError, ValueError):
            return None
        source = cls(file, lines, tree)
        for node in ast.walk(tree):
            for child in ast.iter_child_nodes(node):
                source.parents[child] = node
        for statement in _module_level(tree.body):
            for name in _bound(statement):
                source.bindings.setdefault(name, []).append(statement)
        return source

    @property
    def lazy_annotations(self) -> bool:
        """Whether the file itself asks that annotations aren't evaluated."""
        return any(
            isinstance(statement, ast.ImportFrom)
            and statement.module == "__future__"
            and any(alias.name == _LAZY for alias in statement.names)
            for statement in self.tree.body
        )

    def definition(self, name: str, line: int) -> FunctionNode | None:
        """The function of a code object, by its name and first line."""
        for node in ast.walk(self.tree):
            if isinstance(node, FunctionNode) and node.name == name and first_line(node) == line:
                return node
        return None

    def lambda_of(self, code: CodeType) -> ast.Lambda | None:
        """The lambda of a code object, which knows its column."""
        start = next(((line, column) for line, _, column, _ in code.co_positions() if column), None)
        found = [
            node for node in ast.walk(self.tree) if isinstance(node, ast.Lambda) and node.lineno == code.co_firstlineno
        ]
        if len(found) == 1:
            return found[0]
        holding = [node for node in found if start is not None and _holds(node.body, *start)]
        return holding[0] if len(holding) == 1 else None

    def class_of(self, qualname: str) -> ast.ClassDef | None:
        """A class by the names of what it is defined in."""
        found = [
            node for node in ast.walk(self.tree) if isinstance(node, ast.ClassDef) and self.qualname(node) == qualname
        ]
        return found[0] if len(found) == 1 else None

    def qualname(self, node: ast.AST) -> str:
        """What Python calls a definition, seen from its module."""
        names = [getattr(node, "name", "<lambda>")]
        above = self.parents.get(node)
        while above is not None:
            if isinstance(above, FunctionNode | ast.Lambda):
                names += ["<locals>", getattr(above, "name", "<lambda>")]
            elif isinstance(above, ast.ClassDef):
                names.append(above.name)
            above = self.parents.get(above)
        return ".".join(reversed(names))

    def enclosing(self, node: ast.AST) -> FunctionNode | ast.Lambda | ast.ClassDef | None:
        """The function or class in which something is defined."""
        above = self.parents.get(node)
        while above is not None and not isinstance(above, FunctionNode | ast.Lambda | ast.ClassDef):
            above = self.parents.get(above)
        return above

    def is_tried(self, statement: ast.stmt) -> bool:
        """Whether a statement may fail without harm."""
        above = self.parents.get(statement)
        while above is not None and not isinstance(above, ast.Try):
            above = self.parents.get(above)
        return above is not None

    def cut(self, node: Definition, decorators: list[ast.expr], *, blank_defaults: bool = False) -> list[str]:
        """
        The lines of a definition, without what stands above it.

        :param decorators: those that are kept; the others stand above them.
        :param blank_defaults: put a constant in place of each default that isn't one itself.
        """
        lines = self.lines[self._start(node, decorators) - 1 : node.end_lineno]
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += "\n"
        if blank_defaults and isinstance(node, FunctionNode):
            _blank(lines, self._start(node, decorators), computed_defaults(node))
        return lines

    def piece(self, node: Definition, decorators: list[ast.expr], *, lazy: bool, blank_defaults: bool = False) -> Piece:
        """A definition of the module itself, which may stand in a block such as ``try``."""
        lines = self.cut(node, decorators, blank_defaults=blank_defaults)
        line = self._start(node, decorators)
        if node.col_offset == 0:
            return Piece(line, "".join(lines), lazy)
        # There is a line before it: that of the block.
        return Piece(line - 1, "".join(["if 1:\n", *lines]), lazy, (0,))

    def statement(self, node: ast.stmt) -> Piece:
        """A simple statement, wherever it stands."""
        segment = ast.get_source_segment("".join(self.lines), node) or ""
        return Piece(node.lineno, segment + "\n", self.lazy_annotations)

    def imports(self, name: str) -> Iterator[tuple[ast.Import | ast.ImportFrom, ast.alias]]:
        """The module's statements that import something under a name."""
        for statement in self.bindings.get(name, ()):
            if isinstance(statement, ast.Import | ast.ImportFrom):
                for alias in statement.names:
                    if imported_as(statement, alias) == name:
                        yield statement, alias

    def _start(self, node: Definition, decorators: list[ast.expr]) -> int:
        return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def first_line(node: Definition) -> int:
    """Where Python says that a definition begins: at its first decorator."""
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def imported_as(statement: ast.Import | ast.ImportFrom, alias: ast.alias) -> str:
    """The name that an import binds."""
    if alias.asname:
        return alias.asname
    return alias.name.partition(".")[0] if isinstance(statement, ast.Import) else alias.name


def free_names(code: CodeType) -> set[str]:
    """What code looks up among a module's names or Python's own, its nested functions included."""
    found: set[str] = set()
    own = set()
    for instruction in dis.get_instructions(code):
        if instruction.opname in _GLOBAL_LOADS:
            found.add(str(instruction.argval))
        elif instruction.opname == "STORE_NAME":
            own.add(str(instruction.argval))
    found -= own
    for constant in code.co_consts:
        if hasattr(constant, "co_code"):
            found |= free_names(constant)
    return found


def annotation_names(node: ast.AST) -> set[str]:
    """The names in the annotations of a definition, those in strings included."""
    found: set[str] = set()
    for part in ast.walk(node):
        annotations = [getattr(part, name, None) for name in ("annotation", "returns")]
        for annotation in annotations:
            if isinstance(annotation, ast.expr):
                found |= _names_in(annotation)
    return found


def _names_in(expression: ast.expr) -> set[str]:
    found = set()
    for part in ast.walk(expression):
        if isinstance(part, ast.Name):
            found.add(part.id)
        elif isinstance(part, ast.Constant) and isinstance(part.value, str):
            try:
                found |= _names_in(ast.parse(part.value, mode="eval").body)
            except SyntaxError:
                continue
    return found


def computed_defaults(node: FunctionNode | ast.Lambda) -> list[ast.expr]:
    """The defaults whose value the source alone doesn't tell."""
    defaults = [*node.args.defaults, *(default for default in node.args.kw_defaults if default is not None)]
    return [default for default in defaults if not isinstance(default, ast.Constant)]


def _blank(lines: list[str], first: int, expressions: list[ast.expr]) -> None:
    """Puts a zero in the place of expressions; lines and columns stay."""
    for expression in expressions:
        end_line, end_column = expression.end_lineno or expression.lineno, expression.end_col_offset or 0
        for number in range(expression.lineno, end_line + 1):
            raw = lines[number - first].encode()
            start = expression.col_offset if number == expression.lineno else 0
            stop = end_column if number == end_line else len(raw.rstrip(b"\r\n"))
            filler = b" " * (stop - start)
            if number == expression.lineno:
                filler = b"0" + filler[1:]
            lines[number - first] = (raw[:start] + filler + raw[stop:]).decode()


def _holds(node: ast.expr, line: int | None, column: int) -> bool:
    return (node.lineno, node.col_offset) <= (line or 0, column) < (node.end_lineno or 0, node.end_col_offset or 0)


def _module_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that a module runs itself: those in blocks, but not those in functions and classes."""
    for statement in body:
        yield statement
        if isinstance(statement, Definition):
            continue
        for part in ast.iter_child_nodes(statement):
            if isinstance(part, ast.stmt):
                yield from _module_level([part])
            elif isinstance(part, ast.ExceptHandler | ast.match_case):
                yield from _module_level(part.body)


def _bound(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, Definition):
        yield statement.name
    elif isinstance(statement, ast.Import | ast.ImportFrom):
        for alias in statement.names:
            yield imported_as(statement, alias)
    elif isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        for target in targets:
            for part in ast.walk(target):
                if isinstance(part, ast.Name):
                    yield part.id
    elif type(statement).__name__ == "TypeAlias":
        yield statement.name.id  # type: ignore[attr-defined]
