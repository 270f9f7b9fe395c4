"""The tables of the demo."""

from __future__ import annotations

from textwrap import shorten
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from demo.cluster import Job
    from demo.journal import Journal
    from demo.measure import Cost, Parameter, Value


def received(dag_id: str, parameters: Iterable[Parameter], values: Iterable[Value], journal: Journal) -> Table:
    """What each task received, and how."""
    by_source = {(value["task"], value["key"]): value for value in values}
    table = _table(f"{dag_id}: what each task received, and how it got it")
    for column in ("task", "parameter", "value"):
        table.add_column(column)
    table.add_column("size", justify="right")
    table.add_column("how")
    for column in ("stored in", "read in", "with imports"):
        table.add_column(column, justify="right")
    before = ""
    for each in parameters:
        value = by_source[each["source"], each["key"]]
        table.add_row(
            each["task"] if each["task"] != before else "",
            each["name"],
            value["description"],
            size(value["nbytes"]),
            _how(value),
            _milliseconds(journal.stored.get((each["source"], each["key"]))),
            _milliseconds(value["read"] * 1000) if value["in_store"] else "",
            _milliseconds(journal.read.get((each["task"], each["source"], each["key"]))),
        )
        before = each["task"]
    return table


RECEIVED_NOTE = (
    "mapped: read in shared memory itself; stored in: from the log of the task that made it; with imports: from the "
    "log of the task that took it, where the first value of a kind also imports its library; read in: the same in "
    "another new process once that is imported"
)


MAPPED_NOTE = "what `try_out` and `train` received went on to Ray with the function, and what they returned came back"


def costs(values: Iterable[Value], journal: Journal) -> Table:
    """What the values cost through Airflow's own XCom."""
    table = _table("The same values through Airflow's own XCom, there and back")
    for column in ("made by", "value"):
        table.add_column(column)
    for column in ("serialise", "row", "write", "read", "deserialise", "in all", "with Airfreight"):
        table.add_column(column, justify="right")
    for value in values:
        table.add_row(
            _source(value), value["description"], *_cells(value["cost"]), _milliseconds(_ours(value, journal))
        )
    return table


COSTS_NOTE = (
    "measured just now: Airflow's default serialisation in a new process with everything imported, then one row "
    "through the API server into the database and back; with Airfreight: stored, read, and its row there and back"
)


def jobs(found: Iterable[Job]) -> Table:
    """What ran on Ray."""
    table = _table("flights_ray: its jobs on Ray, and what their functions printed, from the tasks' logs in Airflow")
    for column in ("task", "job", "status"):
        table.add_column(column, no_wrap=True)
    for column in ("on Ray", "in Airflow"):
        table.add_column(column, justify="right")
    table.add_column("printed")
    for each in found:
        times = [f"{seconds:.1f} s" for seconds in (each.on_ray, each.in_airflow)]
        table.add_row(each.name, each.submission_id, each.status, *times, Text(each.printed))
    return table


JOBS_NOTE = (
    "on Ray: from the job's submission to its end as Ray has it, waiting for a free CPU included; in Airflow: the same "
    "of the task"
)


def refusals(values: Iterable[Value]) -> list[str]:
    """Why Airflow's own XCom refuses what it refuses, a line each."""
    return [
        f"refused: {_source(value)}, {shorten(value['cost']['refused'], 160, placeholder=' …')}"
        for value in values
        if "refused" in value["cost"]
    ]


def size(nbytes: int) -> str:
    """A size for people."""
    if nbytes < 1024:
        return f"{nbytes} B"
    return f"{nbytes / 1024:.1f} KiB" if nbytes < 1024**2 else f"{nbytes / 1024**2:.1f} MiB"


def _how(value: Value) -> str:
    if not value["in_store"]:
        return "inline in its row"
    copied = value["nbytes"] - value["mapped_bytes"]
    if value["mapped_bytes"] < copied:
        return "unpickled"
    return f"mapped, {value['mapped_bytes'] / value['nbytes']:.1%} without a copy"


def _ours(value: Value, journal: Journal) -> float | None:
    stored = journal.stored.get((value["task"], value["key"]))
    return None if stored is None else stored + (value["read"] + value["row_trip"]) * 1000


def _cells(cost: Cost) -> list[str | Text]:
    if "refused" in cost:
        return [Text("refused", style="red"), "", "", "", "", ""]
    steps = [cost["serialise"], cost["api_write"], cost["api_read"], cost["deserialise"]]
    serialise, write, read, deserialise, whole = (_milliseconds(step * 1000) for step in [*steps, sum(steps)])
    return [
        serialise,
        size(cost["row_bytes"]),
        write,
        read,
        deserialise,
        whole if cost["same"] else f"{whole}, value changed",
    ]


def _source(value: Value) -> str:
    return value["task"] if value["key"] == "return_value" else f"{value['task']}[{value['key']}]"


def _milliseconds(time: float | None) -> str:
    if time is None:
        return ""
    return f"{time:,.0f} ms" if time >= 10 else f"{time:.2g} ms"


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False)
