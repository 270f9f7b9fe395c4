"""
A function and everything that it needs, taken out of the file that it stands in.

A DAG file can't be imported on a cluster: it imports Airflow and makes a DAG. So the function travels as its lines of
source, with the lines of the helpers and classes that it uses, the imports behind its names, and by value what else it
refers to: constants and what it closes over. On the cluster they make up a module of the same name, in which each
piece has its own line numbers. Whatever the function doesn't use stays at home.

Where no source can be had, cloudpickle takes the function, if both sides run the same Python.
"""

from __future__ import annotations

import builtins
import functools
import inspect
import sys
import types
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airfreight.errors import InvalidError
from airfreight.ray import scope
from airfreight.ray.neighbours import Neighbours, imports_airflow, is_installed
from airfreight.ray.payload import Values
from airfreight.ray.source import Piece, Source, annotation_names, computed_defaults, free_names, imported_as

if TYPE_CHECKING:
    import ast
    from collections.abc import Callable
    from pathlib import Path

    from airfreight.ray.source import Definition

_STANDARD = sys.stdlib_module_names

Reference = dict[str, Any]


@dataclass(slots=True)
class Module:
    """
    A module of which pieces are shipped.

    :param name: its name, here and on the cluster.
    :param namespace: what its names stand for, here.
    :param source: its file; of a notebook, the cell that the function is in.
    """

    name: str
    namespace: dict[str, Any]
    source: Source
    entries: list[dict[str, Any]] = field(default_factory=list)
    bound: set[str] = field(default_factory=set)

    cells: dict[str, Source] = field(default_factory=dict)

    @property
    def package(self) -> str:
        return str(self.namespace.get("__package__") or "")

    def source_of(self, raw: Any) -> Source:
        """The file of a function of this module: a notebook's cells are one file each."""
        file = getattr(getattr(raw, "__code__", None), "co_filename", self.source.file)
        if file == self.source.file:
            return self.source
        if file not in self.cells:
            self.cells[file] = Source.read(file, self.namespace) or self.source
        return self.cells[file]


class Function:
    """
    What a function needs on the cluster.

    :param callable_: the function, as it was decorated.
    :param roots: the folders whose modules are shipped, see :mod:`.neighbours`.
    :param allow_pickle: ``False`` sends no value that only pickle can say.
    :raises InvalidError: something that it needs can't leave Airflow, or its source can't be had.
    """

    def __init__(self, callable_: Callable[..., Any], roots: list[Path], *, allow_pickle: bool = True) -> None:
        self.callable = callable_
        self.name = getattr(callable_, "__name__", type(callable_).__name__)
        self.values = Values(allow_pickle=allow_pickle)
        self.neighbours = Neighbours(roots)
        self.modules: dict[str, Module] = {}
        self.scopes: list[scope.Scope] = []
        #: Every piece of source, with its file's name.
        self.pieces: list[tuple[str, Piece]] = []
        #: Modules that the function imports as soon as it is called, or with its file.
        self.requires: set[str] = set()
        #: Whether byte code travels, which only the same Python understands.
        self.same_python = False
        self._followed = 0
        raw = inspect.unwrap(callable_)
        if isinstance(raw, types.MethodType) or not isinstance(raw, types.FunctionType):
            kind = "a method" if isinstance(raw, types.MethodType) else f"an object of {type(raw).__qualname__}"
            raise InvalidError(
                f"cannot run {self.name} on Ray: it is {kind}, not a function",
                "define a function at the top level of the DAG file that calls it",
            )
        self.raw = raw
        self.reference = self._root(callable_, raw)
        self._follow_values()

    def argument(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """
        Adds the function's arguments.

        :raises UnstorableError: one of them can't leave this process.
        """
        self._check_arguments(args, kwargs)
        payload = self.values.add({"args": args, "kwargs": kwargs}, f"the arguments of {self.name}")
        self._follow_values()
        return payload

    def libraries(self) -> list[str]:
        """The libraries whose objects travel."""
        own = self.neighbours.names() | {name.partition(".")[0] for name in self.modules}
        return sorted(self.values.modules - own - {"airfreight", "__main__"})

    # The function itself

    def _root(self, callable_: Any, raw: types.FunctionType) -> Reference:
        module = self._module(raw, force=True)
        if module is None:
            return self._by_value(callable_)
        found = module.namespace.get(raw.__qualname__)
        node = module.source_of(raw).definition(raw.__code__.co_name, raw.__code__.co_firstlineno)
        if node is None or "<locals>" in raw.__qualname__ or module.source.enclosing(node) is not None:
            reference = self._nested(callable_, raw, module)
        else:
            kept = [] if callable_ is raw else kept_decorators(node)
            plain = raw if callable_ is raw else None
            self._add_definition(module, raw.__name__, node, kept, plain, module.source_of(raw))
            if found is not None:
                module.bound.add(raw.__qualname__)
            reference = {"module": module.name, "name": raw.__name__}
        if node is not None:
            self._require_imports(node)
        return reference

    def _by_value(self, callable_: Any) -> Reference:
        if not self.values.allow_pickle:
            raise InvalidError(
                f"cannot run {self.name} on Ray: its source can't be had, and [airfreight] allow_pickle is false",
                "define it in a file",
            )
        try:
            import cloudpickle
        except ImportError:
            raise InvalidError(
                f"cannot run {self.name} on Ray: its source can't be had, and cloudpickle isn't installed here",
                "define it in a file, or install cloudpickle",
            ) from None
        try:
            code = cloudpickle.dumps(callable_, protocol=5)
        except Exception as error:
            raise InvalidError(
                f"cannot run {self.name} on Ray: its source can't be had, and cloudpickle says: {error}",
                "define it in a file",
            ) from error
        self.same_python = True
        return {"pickled": self.values.add(code, self.name)}

    def _require_imports(self, node: Definition) -> None:
        """The modules that the function imports first thing, so that a missing one is found before it is called."""
        import ast

        for statement in node.body:
            if isinstance(statement, ast.Import):
                names = [alias.name for alias in statement.names]
            elif isinstance(statement, ast.ImportFrom) and not statement.level:
                names = [statement.module or ""]
            elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                continue
            else:
                break
            for name in names:
                self._require(name)

    def _require(self, module_name: str) -> None:
        top = module_name.partition(".")[0]
        if top and top not in _STANDARD and not self.neighbours.add(module_name):
            self.requires.add(top)

    # What its names stand for

    def refer(self, value: Any, subject: str) -> Reference:
        """How the cluster comes to a value that code refers to."""
        if isinstance(value, types.ModuleType):
            self._require(value.__name__)
            return {"import": value.__name__}
        raw = unwrapped(value)
        if isinstance(raw, types.FunctionType) or isinstance(value, type):
            module = self._module(raw)
            if module is not None:
                name = value.__qualname__
                if "<locals>" not in name and "." not in name and module.namespace.get(name) is value:
                    self._need(module, name)
                    return {"module": module.name, "name": name}
                if isinstance(raw, types.FunctionType):
                    return self._nested(value, raw, module)
                if "<locals>" in name:
                    return self._nested(value, None, module)
        _refuse_airflow(value, subject, self.name)
        payload = self.values.add(value, subject)
        return {"value": payload}

    def _nested(self, value: Any, raw: types.FunctionType | None, module: Module) -> Reference:
        return scope.place(self, value, raw, module)

    def _module(self, thing: Any, *, force: bool = False) -> Module | None:
        """
        The module of a function or class, if pieces of it are shipped.

        :param force: take its module apart wherever it is.
        """
        name = getattr(thing, "__module__", None) or "__main__"
        if name in self.modules:
            return self.modules[name]
        loaded = sys.modules.get(name)
        code = getattr(thing, "__code__", None)
        is_dag_file = name == "__main__" or name.startswith("unusual_prefix_")
        if not (force or is_dag_file or (loaded is not None and self._needs_airflow(loaded))):
            # Importable there if it is here; or it lies beside the DAG file.
            return None
        namespace = thing.__globals__ if code is not None else vars(loaded) if loaded is not None else None
        file = code.co_filename if code is not None else getattr(loaded, "__file__", None)
        if namespace is None or file is None:
            return None
        if is_installed(file) and "<locals>" in getattr(thing, "__qualname__", ""):
            # Somebody else's decorator, which has the user's function somewhere inside.
            return None
        source = Source.read(file, namespace)
        if source is None:
            return None
        module = Module(name, namespace, source)
        self.modules[name] = module
        return module

    def _needs_airflow(self, module: types.ModuleType) -> bool:
        """Whether a module beside the DAG file imports Airflow, so that the cluster could not import it."""
        file = getattr(module, "__file__", None)
        return bool(file) and self.neighbours.holds(file) and imports_airflow(str(file))

    def need_names(self, module: Module, piece: Piece, file: str, *, optional: set[str] | None = None) -> None:
        """Whatever a piece of source looks up in its module."""
        self.pieces.append((file, piece))
        for name in sorted(free_names(piece.compiled(file))):
            self._need(module, name)
        for name in sorted(optional or ()):
            self._need(module, name, optional=True)

    def _need(self, module: Module, name: str, *, optional: bool = False) -> None:
        if name in module.bound:
            return
        imports = list(module.source.imports(name))
        if name not in module.namespace:
            if imports or not hasattr(builtins, name):
                module.bound.add(name)
                # Imported for type checkers only, or nothing: then it fails there as it would here.
                self._add_imports(module, name, imports, optional=optional)
            return
        value = module.namespace[name]
        if name.startswith("__") and name.endswith("__"):
            return  # __name__, __file__: every module has its own
        module.bound.add(name)
        if imports and not self._is_own(module, name) and self._is_data(value):
            # A constant of another file: as it is, whatever else that file does.
            module.entries.append({"line": 0, "bind": name, "to": {"value": self.values.add(value, f"`{name}`")}})
            return
        if isinstance(value, types.ModuleType) and not imports:
            module.entries.append({"line": 0, "import": value.__name__, "as": name})
            self._require(value.__name__)
            return
        if imports and (isinstance(value, types.ModuleType) or value is None or not self._is_own(module, name)):
            fallback = value is None or len(module.source.bindings.get(name, ())) > len(imports)
            try:
                self._add_imports(module, name, imports, optional=optional, value=value, fallback=fallback)
            except InvalidError:
                if not optional:
                    raise
            return
        try:
            self._add_value(module, name, value)
        except InvalidError:
            if not optional:
                raise

    def _is_data(self, value: Any, depth: int = 0) -> bool:
        """Whether a value is made of Python's plainest types, so that it means the same wherever it comes from."""
        if type(value) in (str, int, float, bool, bytes):
            return True
        if depth > 5 or type(value) not in (list, tuple, dict, set, frozenset):
            return False
        parts = [*value, *value.values()] if isinstance(value, dict) else value
        return all(self._is_data(part, depth + 1) for part in parts)

    def _is_own(self, module: Module, name: str) -> bool:
        """Whether the last statement that binds a name defines it here, rather than imports it."""
        import ast

        return not isinstance(module.source.bindings[name][-1], ast.Import | ast.ImportFrom)

    def _add_imports(
        self,
        module: Module,
        name: str,
        imports: list[tuple[ast.Import | ast.ImportFrom, ast.alias]],
        *,
        optional: bool,
        value: Any = None,
        fallback: bool = False,
    ) -> None:
        import ast

        told = [statement for statement, alias in imports if _imports(statement, alias, value)]
        for statement, alias in imports:
            entry: dict[str, Any] = {"line": statement.lineno, "as": imported_as(statement, alias)}
            if isinstance(statement, ast.ImportFrom):
                entry["import"] = _absolute(statement, module.package)
                entry["name"] = alias.name
                if _is_airflow_exception(value):
                    entry["stand_in"] = True
                elif value is not None:
                    _refuse_airflow(value, f"`{name}`", self.name)
            else:
                entry["import"] = alias.name
                if alias.asname is None:
                    entry["as"] = None
            if entry["import"] == "__future__":
                continue
            if "name" in entry and self._take_apart(entry["import"], alias.name):
                entry["optional"] = False
                module.entries.append(entry)
                continue
            own = self.neighbours.add(entry["import"])
            # One of several that may be there, or not the one that was.
            is_alternative = module.source.is_tried(statement) or (bool(told) and statement not in told)
            if fallback:
                entry["fallback"] = self.values.add(None if isinstance(value, types.ModuleType) else value, f"`{name}`")
            elif optional or (is_alternative and [statement] != told):
                entry["optional"] = True
            elif not own and not entry.get("stand_in"):
                self._require(entry["import"])
            module.entries.append(entry)

    def _take_apart(self, module_name: str, name: str) -> bool:
        """Ships a piece of a module that the cluster could not import."""
        loaded = sys.modules.get(module_name)
        if loaded is None or not self._needs_airflow(loaded) or not hasattr(loaded, name):
            return False
        if module_name not in self.modules:
            source = Source.read(str(loaded.__file__), vars(loaded))
            if source is None:
                return False
            self.modules[module_name] = Module(module_name, vars(loaded), source)
        self._need(self.modules[module_name], name)
        return True

    def _add_value(self, module: Module, name: str, value: Any) -> None:
        import ast

        node = module.source.bindings.get(name, [None])[-1]
        value = undecorated(value, self.callable)
        _refuse_airflow(value, f"`{name}`", self.name)
        raw = unwrapped(value)
        source = module.source
        if isinstance(raw, types.FunctionType) and raw.__module__ == module.name:
            # Of several definitions in one file the one that counts, and not its namesake in another cell.
            source = module.source_of(raw)
            exact = source.definition(raw.__code__.co_name, raw.__code__.co_firstlineno)
            if exact is not None and exact.name == name and source.enclosing(exact) is None:
                node = exact
        if isinstance(node, ast.ClassDef):
            self._add_definition(module, name, node, node.decorator_list)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            plain = value if isinstance(value, types.FunctionType) and _is_defined_by(value, node) else None
            kept = [] if plain is not None and raw is value else kept_decorators(node)
            self._add_definition(module, name, node, kept, plain, source)
        elif isinstance(raw, types.FunctionType) and raw.__name__ != "<lambda>":
            module.entries.append({"line": _line(node), "bind": name, "to": self.refer(value, f"`{name}`")})
        else:
            self._add_constant(module, name, value, node)

    def _add_constant(self, module: Module, name: str, value: Any, node: ast.stmt | None) -> None:
        """A value as it is now; where it can't be pickled, the statement that made it."""
        named = not isinstance(value, type) and not isinstance(value, types.FunctionType)
        if named and getattr(value, "__module__", None) == module.name and getattr(value, "__name__", None) == name:
            named = False  # pickled by this very name, as a TypeVar is
        if named:
            before = len(self.values.named)
            try:
                payload = self.values.add(value, f"`{name}`")
            except InvalidError:
                if node is None:
                    raise
            else:
                own = any(_module_name(met) == module.name for met in self.values.named[before:])
                self._follow_values()
                line = _line(node) if own else 0
                module.entries.append({"line": line, "bind": name, "to": {"value": payload}})
                return
        if node is None:
            raise InvalidError(
                f"cannot run {self.name} on Ray: it uses `{name}`, a {type(value).__qualname__} that is made in a way "
                "that can't be repeated there",
                "make it inside the function",
            )
        piece = module.source.statement(node)
        module.entries.append(_entry(piece))
        self.need_names(module, piece, module.source.file)

    def _add_definition(
        self,
        module: Module,
        name: str,
        node: Definition,
        decorators: list[ast.expr],
        plain: types.FunctionType | None = None,
        source: Source | None = None,
    ) -> None:
        import ast

        source = source or module.source
        module.bound.add(name)
        is_class = isinstance(node, ast.ClassDef)
        defaults = self.defaults(plain, node)
        lazy = source.lazy_annotations if is_class or decorators else True
        piece = source.piece(node, decorators, lazy=lazy, blank_defaults=bool(defaults))
        module.entries.append(_entry(piece) | {"name": name, "file": source.file} | defaults)
        # What a class or another decorator makes of annotations, it makes of them there, too.
        optional = annotation_names(node) if lazy and (is_class or decorators) else set()
        self.need_names(module, piece, source.file, optional=optional)

    def define(self, module: Module, node: Definition, plain: types.FunctionType) -> None:
        """Ships a function of a module's top level without its decorators."""
        self._add_definition(module, node.name, node, [], plain, module.source_of(plain))

    def defaults(self, plain: types.FunctionType | None, node: Any) -> dict[str, Any]:
        """The defaults of a function as values, unless the source tells them."""
        if plain is None or not computed_defaults(node):
            return {}
        found = {}
        if plain.__defaults__:
            found["defaults"] = self.values.add(plain.__defaults__, f"the defaults of {plain.__name__}")
        if plain.__kwdefaults__:
            found["keyword_defaults"] = self.values.add(plain.__kwdefaults__, f"the defaults of {plain.__name__}")
        self._follow_values()
        return found

    def _follow_values(self) -> None:
        """Ships what values refer to by name: the classes of the DAG file, modules beside it."""
        while self._followed < len(self.values.named):
            named = self.values.named[self._followed]
            self._followed += 1
            name = _module_name(named)
            if name.partition(".")[0] in _STANDARD and name != "__main__":
                continue
            module = self._module(named)
            if module is None:
                self.neighbours.add(name)
                continue
            top = getattr(named, "__qualname__", "").partition(".")[0]
            if top in module.namespace:
                self._need(module, top)

    def _check_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        signature = inspect.signature(self.callable)
        try:
            bound = signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise InvalidError(
                f"cannot call {self.name}: {error}", f"its parameters are {', '.join(signature.parameters) or 'none'}"
            ) from error
        for name, value in bound.items():
            _refuse_airflow(value, f"its argument `{name}`", self.name)


def _entry(piece: Piece) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "line": piece.line,
        "source": piece.text,
        "lazy_annotations": piece.lazy_annotations,
    }
    if piece.hidden:
        entry["hidden"] = list(piece.hidden)
    return entry


def unwrapped(value: Any) -> Any:
    try:
        return inspect.unwrap(value) if callable(value) and not isinstance(value, type) else value
    except ValueError:
        return value


def undecorated(value: Any, own: Any) -> Any:
    """A function that calls itself finds the task of its name, where it means itself."""
    if getattr(value, "_airflow_is_task_decorator", False) and getattr(value, "function", None) is own:
        return own
    return value


def _is_defined_by(function: types.FunctionType, node: Any) -> bool:
    from airfreight.ray.source import first_line

    return function.__code__.co_firstlineno == first_line(node) and function.__code__.co_name == node.name


def kept_decorators(node: Definition) -> list[ast.expr]:
    """The decorators below ours: those above have decorated the task, not the function."""
    decorators = node.decorator_list
    ours = [index for index, decorator in enumerate(decorators) if _is_ours(decorator)]
    return decorators[ours[-1] + 1 :] if ours else list(decorators)


def _is_ours(decorator: ast.expr) -> bool:
    import ast

    target = decorator
    while isinstance(target, ast.Call):
        target = target.func
    if isinstance(target, ast.Attribute):
        return isinstance(target.value, ast.Name) and (
            (target.attr in ("ray", "ray_task") and target.value.id != "ray") or (target.attr == "task")
        )
    return isinstance(target, ast.Name) and target.id in ("ray_task", "ray")


def _imports(statement: ast.Import | ast.ImportFrom, alias: ast.alias, value: Any) -> bool:
    """Whether an import is the one that a module comes from."""
    import ast

    if not isinstance(value, types.ModuleType) or not isinstance(statement, ast.Import):
        return False
    return value.__name__ == (alias.name if alias.asname else alias.name.partition(".")[0])


def _line(node: ast.stmt | None) -> int:
    return node.lineno if node is not None else 0


def _module_name(named: Any) -> str:
    return getattr(named, "__module__", None) or ""


def _absolute(statement: ast.ImportFrom, package: str) -> str:
    if not statement.level:
        return statement.module or ""
    base = package.split(".")[: len(package.split(".")) - statement.level + 1]
    return ".".join([*base, *([statement.module] if statement.module else [])])


def _is_airflow_exception(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException) and value.__module__.startswith("airflow")


@functools.cache
def _airflow_kinds() -> list[tuple[type, str]]:
    from airflow.sdk import DAG, BaseOperator
    from airflow.sdk.definitions._internal.abstractoperator import AbstractOperator
    from airflow.sdk.definitions.connection import Connection
    from airflow.sdk.definitions.xcom_arg import XComArg

    return [
        (XComArg, "the output of a task"),
        (DAG, "the DAG"),
        (AbstractOperator, "a task of the DAG"),
        (BaseOperator, "a task of the DAG"),
        (Connection, "a connection"),
    ]


def _refuse_airflow(value: Any, subject: str, name: str) -> None:
    cls = type(value)
    if cls.__module__.partition(".")[0] != "airflow":
        return
    if getattr(value, "_airflow_is_task_decorator", False):
        raise InvalidError(
            f"cannot run {name} on Ray: it uses {subject}, which is a task itself",
            "move what both need into a function without a decorator, and call that",
        )
    for kind, what in _airflow_kinds():
        if isinstance(value, kind):
            raise InvalidError(
                f"cannot run {name} on Ray: it uses {subject}, which is {what} and means nothing outside of Airflow",
                "pass what the function needs of it as an argument",
            )
    module = cls.__module__
    if module.endswith((".task_runner", ".taskinstance", ".context")):
        raise InvalidError(
            f"cannot run {name} on Ray: it uses {subject}, a {cls.__qualname__} that belongs to the running task",
            "pass what the function needs of it as an argument, such as {{ run_id }}",
        )
