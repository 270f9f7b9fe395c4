"""What differs between the worker and the cluster, found before anything is sent or read."""

from __future__ import annotations

import ast
import sys
from importlib import import_module, metadata
from typing import TYPE_CHECKING

from airfreight.errors import InvalidError
from airfreight.ray.report import generation

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airfreight.ray.function import Function


def versions(libraries: Iterable[str]) -> dict[str, str | None]:
    """The versions that this process has of some libraries, by the names of their modules."""
    return {library: version(library) for library in libraries}


def version(library: str) -> str | None:
    """The version of a library; asking the loaded library itself is a hundred times as fast."""
    found = getattr(sys.modules.get(library), "__version__", None)
    if isinstance(found, str):
        return found
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        names = metadata.packages_distributions().get(library)
        return metadata.version(names[0]) if names else None


def check_python(function: Function, cluster_python: str | None) -> None:
    """
    Whether the cluster's Python can read what is sent.

    :param cluster_python: its version; ``None`` when it isn't known, and the driver will tell.
    :raises InvalidError: it can't; both versions are named.
    """
    if not cluster_python:
        return
    major, minor = cluster_python.split(".")[:2]
    theirs = (int(major), int(minor))
    ours = sys.version_info[:2]
    here = ".".join(map(str, sys.version_info[:3]))
    if function.same_python and theirs != ours:
        raise InvalidError(
            f"cannot run {function.name} on Ray: its source can't be had, and its byte code is of Python {here}, while "
            f"the cluster has Python {cluster_python}",
            "define the function in a file, or use the same Python on both sides",
        )
    if theirs >= ours:
        return
    for file, piece in function.pieces:
        try:
            ast.parse("\n" * (piece.line - 1) + piece.text, file, feature_version=theirs)
        except SyntaxError as error:
            raise InvalidError(
                f"cannot run {function.name} on Ray: line {error.lineno} of {file} is beyond the cluster's Python "
                f"{cluster_python} ({error.msg}); the worker has Python {here}",
                f"write it as Python {theirs[0]}.{theirs[1]} understands it, or give the cluster Python "
                f"{ours[0]}.{ours[1]}",
            ) from None


def check_result(python: str, libraries: Mapping[str, str], name: str) -> None:
    """
    Whether this process can read a result.

    :param python: the version of the cluster's Python.
    :param libraries: the versions of the libraries that the result was pickled with.
    :raises InvalidError: a library is missing here, or of another generation; both versions are named.
    """
    for library, theirs in libraries.items():
        try:
            # Reading the result imports it in any case.
            ours = version(library) or str(getattr(import_module(library), "__version__", ""))
        except ImportError:
            raise InvalidError(
                f"the result of {name} holds objects of {library} {theirs}, of the cluster's Python {python}, and "
                "this worker doesn't have that library",
                "install it here, too, or return plain data",
            ) from None
        if ours and generation(library, ours) != generation(library, theirs):
            raise InvalidError(
                f"the result of {name} holds objects of {library} {theirs}, of the cluster's Python {python}, and "
                f"this worker has {library} {ours}",
                "install the same version on both sides, or return plain data",
            )
