"""
What the values of a DAG run are, and what they would have cost through Airflow's own XCom.

Runs as ``python -m demo.measure`` in the environment of the Airflow that ran the DAG: a process of its own, as a task
is. Reads a :class:`Request` as JSON and prints one JSON line: the parameters that each task received, and each value.
"""

from __future__ import annotations

import inspect
import json
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypedDict

from airflow_home import ApiError
from airflow_home.rest import RestClient, quote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: What Airflow's own way gets for one value.
LIMIT_SECONDS = 60

_PREFIX = "serialised: "


class Request(TypedDict):
    """What to measure."""

    dag_file: str
    dag_id: str
    run_id: str
    url: str
    store: str
    #: Whether to send the values through Airflow's own XCom, too.
    costs: bool


class Parameter(TypedDict):
    """One parameter of a task and the XCom that it takes."""

    task: str
    name: str
    source: str
    key: str


class Cost(TypedDict, total=False):
    """What a value costs through Airflow's own XCom, in seconds, or why it cannot go that way."""

    refused: str
    serialise: float
    row_bytes: int
    api_write: float
    api_read: float
    deserialise: float
    same: bool


class Value(TypedDict):
    """
    One value as a task would read it.

    In seconds: ``read`` for a process that has imported what the value is of, ``row_trip`` for its XCom row to the
    database and back.
    """

    task: str
    key: str
    description: str
    nbytes: int
    in_store: bool
    mapped_bytes: int
    read: float
    row_trip: float
    cost: Cost


def main() -> None:
    request: Request = json.load(sys.stdin)
    parameters = list(_parameters(Path(request["dag_file"]), request["dag_id"]))
    sources = dict.fromkeys((each["source"], each["key"]) for each in parameters)
    values = [_value(request, task, key) for task, key in sources]
    print(json.dumps({"parameters": parameters, "values": values}))


def _parameters(dag_file: Path, dag_id: str) -> Iterator[Parameter]:
    from airflow.sdk.definitions.xcom_arg import XComArg

    dag = _load_dag(dag_file, dag_id)
    for task in dag.topological_sort():
        for name, argument in _arguments(task).items():
            for operator, key in XComArg.iter_xcom_references(argument):
                yield {"task": task.task_id, "name": name, "source": operator.task_id, "key": key}


def _arguments(task: Any) -> dict[str, Any]:
    if not task.is_mapped:
        return inspect.signature(task.python_callable).bind_partial(*task.op_args, **task.op_kwargs).arguments
    # Those of `.partial()` and those of `.expand()`, which are named ones both.
    return {**task.partial_kwargs["op_kwargs"], **task.op_kwargs_expand_input.value}


def _load_dag(dag_file: Path, dag_id: str) -> Any:
    import runpy

    # As Airflow does, for the modules beside the DAG.
    sys.path.append(str(dag_file.parent))
    return runpy.run_path(str(dag_file))[dag_id]()


def _value(request: Request, task: str, key: str) -> Value:
    from airfreight._store import Store
    from airfreight.xcom import AirfreightXCom

    client = RestClient(request["url"])
    entries = (
        f"/api/v2/dags/{quote(request['dag_id'])}/dagRuns/{quote(request['run_id'])}"
        f"/taskInstances/{quote(task)}/xcomEntries"
    )
    rows = _rows(client, f"{entries}/{quote(key)}")
    if len(rows) > 1:
        values = [AirfreightXCom.deserialize_value(SimpleNamespace(value=row)) for row in rows]
        return {
            "task": task,
            "key": key,
            "description": f"{len(rows)} of {_describe(values[0])}",
            "nbytes": sum(len(json.dumps(row)) for row in rows),
            "in_store": False,
            "mapped_bytes": 0,
            "read": 0.0,
            "row_trip": 0.0,
            "cost": {},
        }
    (row,) = rows
    value, read = _timed_twice(lambda: AirfreightXCom.deserialize_value(SimpleNamespace(value=row)))
    in_store = isinstance(row, dict) and "airfreight" in row and "id" in row
    nbytes, mapped = len(json.dumps(row)), 0
    if in_store:
        item = Store(request["store"], create=False).get(row["id"])
        nbytes, mapped = item.nbytes, sum(len(buffer) for buffer in item.buffers)
    return {
        "task": task,
        "key": key,
        "description": _describe(value),
        "nbytes": nbytes,
        "in_store": in_store,
        "mapped_bytes": mapped,
        "read": read,
        "row_trip": sum(_through_api(client, entries, f"airfreight_{key}", json.dumps(row))[1:]),
        "cost": _cost_in_airflow(client, entries, f"airflow_{key}", value) if request["costs"] else {},
    }


def _rows(client: RestClient, entry: str) -> list[Any]:
    """The row of a task, or those of all its mapped instances."""
    rows = []
    for map_index in [-1, *range(1000)]:
        try:
            found = client.get(f"{entry}?deserialize=false&stringify=false&map_index={map_index}")
        except ApiError as error:
            if error.status != 404:
                raise
            if map_index >= 0:
                break
        else:
            rows.append(found["value"])
            if map_index < 0:
                break
    return rows


def _describe(value: Any) -> str:
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"{type(value).__name__} {' x '.join(f'{length:,}' for length in shape)}"
    return type(value).__name__


def _cost_in_airflow(client: RestClient, entries: str, key: str, value: Any) -> Cost:
    """Take a value the way of Airflow's default backend: its serialisation, the API server, the database, and back."""
    from airflow.sdk.bases.xcom import BaseXCom

    cost: Cost = {}
    try:
        with _time_limit(LIMIT_SECONDS):
            serialised, cost["serialise"] = _timed_twice(lambda: json.dumps(BaseXCom.serialize_value(value)))
            cost["row_bytes"] = len(serialised)
            text, cost["api_write"], cost["api_read"] = _through_api(client, entries, key, serialised)
            back, cost["deserialise"] = _timed_twice(
                lambda: BaseXCom.deserialize_value(SimpleNamespace(value=json.loads(text)))
            )
            cost["same"] = _same(value, back)
    except Exception as error:  # whatever Airflow raises is the result
        cost["refused"] = f"{type(error).__name__}: {error}"
    return cost


def _through_api(client: RestClient, entries: str, key: str, text: str) -> tuple[str, float, float]:
    """Write a row through the API server and read it again; the seconds for each."""
    # As a string, and not one of JSON, since the API that anyone may use takes no serialised classes.
    body = {"key": key, "value": _PREFIX + text}
    _, write = _timed(lambda: client.request("POST", entries, body, timeout=LIMIT_SECONDS))
    path = f"{entries}/{quote(key)}?deserialize=false&stringify=false"
    answer, read = _timed(lambda: client.get(path, timeout=LIMIT_SECONDS))
    return answer["value"].removeprefix(_PREFIX), write, read


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    result = call()
    return result, time.perf_counter() - began


def _timed_twice(call: Callable[[], Any]) -> tuple[Any, float]:
    """The time of the second call: the first one may import the library that the value is of."""
    call()
    return _timed(call)


@contextmanager
def _time_limit(seconds: int) -> Iterator[None]:
    def give_up(number: int, frame: object) -> None:
        raise TimeoutError(f"not done after {seconds} s")

    previous = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def _same(value: Any, back: Any) -> bool:
    if type(value) is not type(back):
        return False
    if hasattr(value, "equals"):
        return bool(value.equals(back)) and list(value.dtypes) == list(back.dtypes)
    return bool(value == back)


if __name__ == "__main__":
    main()
