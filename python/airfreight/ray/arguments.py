"""What a function on the cluster is called with: what the DAG says, and what its parameters ask of the context."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from airfreight import caller, references
from airfreight.errors import AirfreightError, InvalidError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

#: What of the context is plain data, and so may travel.
_PLAIN = frozenset(
    {
        "data_interval_end",
        "data_interval_start",
        "ds",
        "ds_nodash",
        "expanded_ti_count",
        "logical_date",
        "map_index_template",
        "params",
        "prev_data_interval_end_success",
        "prev_data_interval_start_success",
        "prev_end_date_success",
        "prev_start_date_success",
        "reason",
        "run_id",
        "start_date",
        "task_instance_key_str",
        "test_mode",
        "ts",
        "ts_nodash",
        "ts_nodash_with_tz",
    }
)

#: What is made of an upstream task's values, and reads them one by one.
_VIEWS = frozenset({"LazyXComSequence", "StoredSequence", "LazyXComIterator"})

_DEPTH_MAX = 20


def of(
    function: Callable[..., Any], op_args: Collection[Any], op_kwargs: Mapping[str, Any], context: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """
    The arguments of one call, with handles in place of large values.

    :raises InvalidError: a parameter asks for a part of the context that can't leave Airflow.
    :raises AirfreightError: a reference can't be resolved here; the message names the setting.
    """
    name = getattr(function, "__name__", "the function")
    with caller.taking_handles():
        args = tuple(resolve(value, name) for value in op_args)
        kwargs = {key: resolve(value, name) for key, value in op_kwargs.items()}
    return args, _of_context(function, args, kwargs, context, name) | kwargs


def resolve(value: Any, name: str, depth: int = 0) -> Any:
    """A value with the values behind Airfreight's references in it, whatever XCom backend has read it."""
    cls = type(value)
    if cls.__name__ in _VIEWS and cls.__module__.startswith(("airflow.", "airfreight.")):
        return [resolve(element, name, depth + 1) for element in value]
    if cls is dict and references.is_row(value):
        return _read(value, name)
    if depth < _DEPTH_MAX:
        # Copied only where something is in it to be resolved: others may hold the same list.
        if cls is dict:
            items = {key: resolve(part, name, depth + 1) for key, part in value.items()}
            return items if any(items[key] is not value[key] for key in items) else value
        if cls in (list, tuple):
            parts = [resolve(part, name, depth + 1) for part in value]
            return cls(parts) if any(ours is not part for ours, part in zip(parts, value, strict=True)) else value
    return value


def _read(row: dict[str, Any], name: str) -> Any:
    from airfreight import rows

    try:
        return rows.read(row)
    except AirfreightError as error:
        raise type(error)(
            f"an argument of {name} is a value in Airfreight's store that can't be read here: {error.message}",
            "give this worker the [airfreight] store_path and secret_key of the task that made it, and set [core] "
            f"xcom_backend = airfreight.xcom.AirfreightXCom for both{f'; {error.hint}' if error.hint else ''}",
        ) from error


def _of_context(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    context: Mapping[str, Any],
    name: str,
) -> dict[str, Any]:
    """What parameters named like parts of the context get, as those of every task's function do."""
    signature = inspect.signature(function)
    taken = set(list(signature.parameters)[: len(args)]) | set(kwargs)
    found: dict[str, Any] = {}
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            found |= {
                key: _part(context, key) for key in _PLAIN if key in context and key not in taken and key not in found
            }
        elif (
            parameter.name in context and parameter.name not in taken and parameter.kind is not parameter.VAR_POSITIONAL
        ):
            if parameter.name not in _PLAIN:
                raise InvalidError(
                    f"cannot run {name} on Ray: its parameter `{parameter.name}` asks for a part of Airflow's context "
                    "that can't leave the worker",
                    "take what the function needs of it as an argument, such as {{ ti.try_number }}",
                )
            found[parameter.name] = _part(context, parameter.name)
    return found


def _part(context: Mapping[str, Any], key: str) -> Any:
    value = context[key]
    return {name: value[name] for name in value} if key == "params" else value
