"""Values of every kind pass between tasks; the task that receives them checks them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import dag, task

ROWS = 20_000
LOOKALIKE = {"airfreight": 1, "type": "list", "id": "0" * 32, "hmac": "00000000:AAAA"}


@dataclass
class Point:
    x: int
    tags: frozenset[str]


def frame() -> pd.DataFrame:
    return pd.DataFrame({"a": range(ROWS), "t": pd.date_range("2020", periods=ROWS, freq="min"), "s": ["word"] * ROWS})


@dag(schedule=None, catchup=False)
def xcom_values() -> None:
    @task
    def small() -> Any:
        return {"rows": 5, "mean": [1.5, None, True, "text"]}

    @task
    def small_object() -> Any:
        return Point(1, frozenset({"a"})), 10.0**16, {1: "integer key"}

    @task
    def lookalike() -> Any:
        return LOOKALIKE

    @task
    def table() -> Any:
        return frame()

    @task
    def numbers() -> Any:
        return list(range(100_000))

    @task
    def text() -> Any:
        return "word " * 5_000

    @task
    def pushes(**context: Any) -> None:
        context["ti"].xcom_push("again", np.zeros(50_000))
        context["ti"].xcom_push("again", np.ones(50_000))

    @task(multiple_outputs=True)
    def split() -> Any:
        train = np.arange(100_000)
        return {"train": train, "test": frame(), "count": 7, "note": Point(2, frozenset())}

    @task
    def receive(*values: Any, train: Any, whole: Any, **context: Any) -> str:
        plain, packed, like, table, numbers, text = values
        assert plain == {"rows": 5, "mean": [1.5, None, True, "text"]}
        assert packed == (Point(1, frozenset({"a"})), 10.0**16, {1: "integer key"})
        assert [type(part) for part in packed] == [Point, float, dict]
        assert like == LOOKALIKE
        pd.testing.assert_frame_equal(table, frame())
        table.iloc[0, 0] = -1  # values can be changed in place
        assert type(numbers) is list
        assert numbers == list(range(100_000))
        assert text == "word " * 5_000
        assert (train == np.arange(100_000)).all()
        assert list(whole) == ["train", "test", "count", "note"]
        assert (whole["train"] == train).all()
        pd.testing.assert_frame_equal(whole["test"], frame())
        assert (whole["count"], whole["note"]) == (7, Point(2, frozenset()))
        assert context["ti"].xcom_pull(task_ids="pushes", key="again").sum() == 50_000
        pd.testing.assert_frame_equal(context["ti"].xcom_pull(task_ids="table"), frame())
        return "received"

    pulled = "{{ ti.xcom_pull(task_ids='%s') }}"
    printed = BashOperator(
        task_id="printed",
        bash_command=f"echo \"{pulled % 'small'}|{{{{ ti.xcom_pull(task_ids='numbers')[5] }}}}"
        "|{{ ti.xcom_pull(task_ids='text') | length }}\"",
    )

    @task
    def read_printed(line: str) -> None:
        assert line == "{'rows': 5, 'mean': [1.5, None, True, 'text']}|5|25000", line

    words, table_, numbers_, small_, parts = text(), table(), numbers(), small(), split()
    received = receive(small_, small_object(), lookalike(), table_, numbers_, words, train=parts["train"], whole=parts)
    pushes() >> received
    [small_, words, numbers_] >> printed
    read_printed(printed.output)


flow = xcom_values()
