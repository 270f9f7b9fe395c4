"""Mapped tasks expand over values in the store, and each reads its own element alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from airflow.sdk import dag, task, task_group

COUNT = 5

#: The elements that were unpickled in this process since a task last looked.
unpickled: list[int] = []


class Element:
    """Large enough for the store; remembers that it was read."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.array = np.full(2_000, number)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        unpickled.append(self.number)


def taken() -> list[int]:
    found = sorted(unpickled)
    unpickled.clear()
    return found


def next_number(element: Element) -> int:
    return element.number + 1


@dag(schedule=None, catchup=False)
def xcom_mapping() -> None:
    @task
    def elements() -> Any:
        taken()
        return [Element(number) for number in range(COUNT)]

    @task
    def records() -> Any:
        return [{"number": number, "text": "x" * 5_000} for number in range(COUNT)]

    @task
    def by_name() -> Any:
        return {f"k{number}": np.full(2_000, number) for number in range(3)}

    @task
    def alone(element: Element, **context: Any) -> Any:
        assert taken() == [context["ti"].map_index]
        assert element.number == context["ti"].map_index
        return element.array * 2

    @task
    def zipped(pair: Any) -> None:
        element, record = pair
        assert type(pair) is tuple
        assert type(record) is dict
        assert element.number == record["number"]
        assert taken() == [element.number]

    @task
    def mapped(number: int, **context: Any) -> None:
        assert number == context["ti"].map_index + 1
        assert taken() == [number - 1]

    @task
    def chained(element: Element, **context: Any) -> None:
        assert element.number == context["ti"].map_index % COUNT
        assert taken() == [element.number]

    @task
    def by_keyword(number: int, text: str, **context: Any) -> None:
        assert number == context["ti"].map_index
        assert text == "x" * 5_000

    @task
    def by_item(item: Any, **context: Any) -> None:
        key, array = item
        assert key == f"k{context['ti'].map_index}"
        assert (array == context["ti"].map_index).all()

    @task
    def whole(values: Any) -> None:
        assert type(values) is list
        assert [element.number for element in values] == list(range(COUNT))
        taken()

    @task
    def reduced(arrays: Any) -> Any:
        assert [int(array[0]) for array in arrays] == [2 * number for number in range(COUNT)]
        return {"all of them": arrays}

    @task
    def reduced_again(values: Any) -> None:
        arrays = values["all of them"]
        assert type(arrays) is list
        assert [int(array[0]) for array in arrays] == [2 * number for number in range(COUNT)]

    @task
    def pulled(**context: Any) -> None:
        arrays = context["ti"].xcom_pull(task_ids="alone", map_indexes=[1, 3])
        assert [int(array[0]) for array in arrays] == [2, 6]

    @task_group
    def group(element: Any) -> None:
        @task
        def in_group(element: Any, **context: Any) -> Any:
            assert element.number == context["ti"].map_index
            assert taken() == [element.number]
            return [element.array, element.array]

        @task
        def after_in_group(arrays: Any, **context: Any) -> None:
            assert type(arrays) is list
            assert arrays[1][0] == context["ti"].map_index

        after_in_group(in_group(element))

    values, rows = elements(), records()
    results = alone.expand(element=values)
    zipped.expand(pair=values.zip(rows))
    mapped.expand(number=values.map(next_number))
    chained.expand(element=values.concat(values))
    by_keyword.expand_kwargs(rows)
    by_item.expand(item=by_name())
    whole(values)
    reduced_again(reduced(results))
    results >> pulled()
    group.expand(element=values)


flow = xcom_mapping()
