"""The two tables of the demo."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from demo.journal import Journal
    from demo.measure import Cost, Parameter, Value


def received(parameters: Iterable[Parameter], values: Iterable[Value], journal: Journal) -> Table:
    """What each task received, and how."""
    by_source = {(value["task"], value["key"]): value for value in values}
    table = _table("What each task received, and how it got it (times are from the tasks' own logs)")
    for column in ("task", "parameter", "value"):
        table.add_column(column)
    table.add_column("size", justify="right")
    table.add_column("how")
    table.add_column("stored in", justify="right")
    table.add_column("read in", justify="right")
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
            _milliseconds(journal.read.get((each["task"], each["source"], each["key"]))),
        )
        before = each["task"]
    return table


def costs(values: Iterable[Value], journal: Journal) -> Table:
    """What the values cost through Airflow's own XCom."""
    table = _table("The same values through Airflow's own XCom (measured just now, on this machine)")
    for column in ("made by", "value"):
        table.add_column(column)
    for column in ("serialise", "row", "API and database", "read back", "in all", "with Airfreight"):
        table.add_column(column, justify="right")
    for value in values:
        table.add_row(
            _source(value), value["description"], *_cells(value["cost"]), _milliseconds(_ours(value, journal))
        )
    return table


def refusals(values: Iterable[Value]) -> list[str]:
    """Why Airflow's own XCom refuses what it refuses, a line each."""
    return [
        f"{_source(value)}: {value['cost']['refused'].splitlines()[0]}"
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
        return "inline, in Airflow's database"
    copied = value["nbytes"] - value["mapped_bytes"]
    if value["mapped_bytes"] < copied:
        return "shared memory, unpickled"
    return f"shared memory, {value['mapped_bytes'] / value['nbytes']:.1%} mapped without a copy"


def _ours(value: Value, journal: Journal) -> float | None:
    """The time to store a value and the mean time to read it."""
    reads = [time for (_, task, key), time in journal.read.items() if (task, key) == (value["task"], value["key"])]
    stored = journal.stored.get((value["task"], value["key"]))
    return None if stored is None or not reads else stored + sum(reads) / len(reads)


def _cells(cost: Cost) -> list[str | Text]:
    if "refused" in cost:
        return [Text("refused", style="red"), "", "", "", ""]
    parts = (cost["serialise"], cost["api_write"], cost["api_read"] + cost["deserialise"])
    serialise, write, read = (_milliseconds(part * 1000) for part in parts)
    whole = _milliseconds(sum(parts) * 1000)
    return [serialise, size(cost["row_bytes"]), write, read, whole if cost["same"] else f"{whole}, changed"]


def _source(value: Value) -> str:
    return value["task"] if value["key"] == "return_value" else f"{value['task']}[{value['key']}]"


def _milliseconds(time: float | None) -> str:
    if time is None:
        return ""
    return f"{time:,.0f} ms" if time >= 10 else f"{time:.2g} ms"


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False)
