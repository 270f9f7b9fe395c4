"""Every error message that the sources can raise, with ``…`` for what depends on the case."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from docs.pages import REPOSITORY

RUST = (
    "airfreight-core",
    "airfreight-store",
    "airfreight-airflow",
    "airfreight-apolo",
    "airfreight-http",
    "airfreight-bucket",
    "airfreight-cluster",
    "airfreight-agent",
    "airfreight-client",
    "airfreight-ray",
    "airfreight-cli",
    "airfreight-py",
    "airfreight-remote",
)

_DERIVED = re.compile(r'#\[error\(\s*"((?:[^"\\]|\\.|\\\n)*)"', re.DOTALL)
_RAISED = re.compile(
    r'(?:error::new\(\s*py,\s*ErrorKind::\w+|invalid\(\s*py),\s*(?:&format!\()?"((?:[^"\\]|\\.)*)"', re.DOTALL
)


def messages() -> dict[str, Path]:
    """Each message with the file that it stands in."""
    return _of_rust() | _of_python()


def sources() -> list[Path]:
    """The files that messages stand in."""
    rust = [path for crate in RUST for path in (REPOSITORY / "crates" / crate / "src").rglob("*.rs")]
    return sorted([*rust, *(REPOSITORY / "python" / "airfreight").rglob("*.py")])


def _of_rust() -> dict[str, Path]:
    found = {}
    for path in sources():
        if path.suffix != ".rs":
            continue
        text = path.read_text().partition("#[cfg(test)]")[0]
        for raw in [*_DERIVED.findall(text), *_RAISED.findall(text)]:
            message = re.sub(r"\\\n\s*", "", raw).replace('\\"', '"')
            message = re.sub(r"\{[^}]*\}", "…", message)
            found[_plain(message)] = path
    found.pop("…", None)
    return found


def _of_python() -> dict[str, Path]:
    found = {}
    for path in sources():
        if path.suffix != ".py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and _is_error(node.func) and node.args:
                message = _text(node.args[0])
                if message is not None:
                    found[_plain(message)] = path
    return found


def _is_error(function: ast.expr) -> bool:
    """An exception of ``airfreight.errors``; those of Python itself speak for themselves."""
    if isinstance(function, ast.Attribute):
        return function.attr == "__init__" and isinstance(function.value, ast.Call)
    name = function.id if isinstance(function, ast.Name) else ""
    kinds = ("NotFound", "Lost", "Full", "Unavailable", "Denied", "Invalid", "Corrupt", "Conflict", "Internal")
    return name.removesuffix("Error").removeprefix("Object").removeprefix("Store") in kinds


def _text(node: ast.expr) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_part(part) for part in node.values)
    return None


def _part(part: ast.expr) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    is_section = isinstance(part, ast.FormattedValue) and ast.unparse(part.value) == "SECTION"
    return "airfreight" if is_section else "…"


def _plain(message: str) -> str:
    """Without backticks, and several placeholders in a row as one."""
    return re.sub(r"(…\s?)*…", "…", message.replace("`", ""))
