"""Goal: a function gets values, whatever XCom backend Airflow runs, and of the context what may leave the worker."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pendulum
import pytest
from driver_home import DriverHome

from airfreight import process, rows
from airfreight.errors import AirfreightError, InvalidError
from airfreight.origin import Origin, coordinates
from airfreight.ray import arguments


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Puts a value into a store as an upstream task does; gives what stands in its XCom row."""
    memory = Path(tempfile.mkdtemp(prefix="airfreight-test-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    monkeypatch.setenv("AIRFLOW__AIRFREIGHT__SPILL_PATH", str(memory / "spill"))

    def put(value: Any, place: str = "one") -> Any:
        monkeypatch.setenv("AIRFLOW__AIRFREIGHT__STORE_PATH", str(memory / place))
        monkeypatch.setattr(process, "_current", None)
        return rows.write(value, Origin(coordinates("d", "r", "up", -1, "return_value")))

    yield put
    shutil.rmtree(memory, ignore_errors=True)


def take(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


def test_references_become_values_wherever_they_are(store: Callable[..., Any]) -> None:
    row = store(np.arange(50_000))
    assert row["airfreight"] == 1
    plain = {"rows": [1, 2]}
    args, kwargs = arguments.of(take, [row, [row, "a"], plain], {"deep": {"x": (row,)}}, {})
    for found in (args[0], args[1][0], kwargs["deep"]["x"][0]):
        assert found.sum() == 50_000 * 49_999 // 2
    assert args[1][1] == "a"
    assert args[2] is plain


def test_a_reference_that_cannot_be_read_names_the_settings(store: Callable[..., Any]) -> None:
    row = store(np.arange(50_000))
    store(1, "another")
    with pytest.raises(AirfreightError) as caught:
        arguments.of(take, [row], {}, {})
    assert "an argument of take is a value in Airfreight's store that can't be read here" in str(caught.value)
    assert "[core] xcom_backend = airfreight.xcom.AirfreightXCom" in str(caught.value)
    assert "[airfreight] store_path" in str(caught.value)


def test_the_context_goes_to_who_asks_for_it() -> None:
    moment = pendulum.datetime(2026, 1, 2, tz="Europe/Kyiv")
    context = {"ds": "2026-01-02", "logical_date": moment, "params": {"n": 1}, "ti": object(), "run_id": "r"}

    def plain(a: int, ds: Any, *, params: Any = None, other: int = 2) -> None: ...
    def everything(a: int, **context: Any) -> None: ...
    def instance(a: int, ti: Any = None) -> None: ...

    assert arguments.of(plain, [1], {}, context) == ((1,), {"ds": "2026-01-02", "params": {"n": 1}})
    assert arguments.of(plain, [1, "mine"], {}, context) == ((1, "mine"), {"params": {"n": 1}})
    _, found = arguments.of(everything, [], {"a": 1}, context)
    assert found == {"a": 1, "ds": "2026-01-02", "logical_date": moment, "params": {"n": 1}, "run_id": "r"}
    with pytest.raises(InvalidError, match="its parameter `ti` asks for a part of Airflow's context"):
        arguments.of(instance, [1], {}, context)
    assert arguments.of(instance, [1], {"ti": 3}, context) == ((1,), {"ti": 3})


@pytest.mark.parametrize(
    "moment",
    [
        pendulum.datetime(2026, 7, 2, 3, 4, 5, 6, tz="Europe/Kyiv"),
        pendulum.datetime(2026, 1, 2, tz="UTC"),
        pendulum.datetime(2026, 1, 2, tz=pendulum.fixed_timezone(3600)),
        pendulum.naive(2026, 1, 2),
        pendulum.date(2026, 1, 2),
        pendulum.time(1, 2, 3),
    ],
)
def test_airflows_dates_are_pythons_own_there(home: DriverHome, moment: Any) -> None:
    def told(value: Any) -> Any:
        return type(value).__module__, value

    module, found = home.call(told, moment)
    assert module == "datetime"
    assert found == moment
    assert found.isoformat() == moment.isoformat()
