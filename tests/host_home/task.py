"""What a task does on a host: values through the XCom backend's rows. Runs as a program, speaks JSON."""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from types import SimpleNamespace
from typing import Any


def make(wanted: dict[str, Any]) -> Any:
    """Return an array of so many bytes, as a task would; gives the row that stands for it."""
    import numpy as np

    from airfreight import rows
    from airfreight.checkpoint import parse
    from airfreight.origin import Coordinates, Origin

    task_id = wanted.get("task_id", "make")
    value = np.random.default_rng(wanted["seed"]).integers(0, 255, wanted["nbytes"], dtype=np.uint8)
    members = {
        "multiple_outputs": False,
        "iter_mapped_dependants": lambda: iter(()),
        "task_id": task_id,
        "airfreight_checkpoint": parse(wanted.get("checkpoint"), reuse=False),
    }
    instance = SimpleNamespace(
        dag_id="d", run_id="r", task_id=task_id, map_index=-1, try_number=1, task=SimpleNamespace(**members)
    )
    row = rows.write(value, Origin(Coordinates("d", "r", task_id, -1, "return_value"), instance))
    return {"row": row, "digest": hashlib.sha256(value).hexdigest()}


def read(row: Any) -> Any:
    """Take the value of a row; gives what it is."""
    import numpy as np

    from airfreight import rows

    value = rows.read(row)
    return {"digest": hashlib.sha256(np.ascontiguousarray(value)).hexdigest(), "nbytes": value.nbytes}


def count(_: Any) -> Any:
    """What this host's store holds."""
    from airfreight.process import here

    return here().store.stat()


def main() -> None:
    """Do what the first argument says."""
    from airfreight.errors import AirfreightError

    # Airflow sets up the root's handlers by itself.
    log = logging.getLogger("airfreight.xcom")
    log.addHandler(logging.StreamHandler())
    log.setLevel(logging.INFO)

    do = {"make": make, "read": read, "count": count}[sys.argv[1]]
    try:
        answer: dict[str, Any] = {"result": do(json.load(sys.stdin))}
    except AirfreightError as error:
        answer = {"error": type(error).__name__, "message": error.message, "hint": error.hint}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
