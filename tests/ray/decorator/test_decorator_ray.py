"""
Goal: what a function does with Ray itself works, and its value comes through the dashboard.

Method: a real Ray, whose Python has neither Airflow nor Airfreight; jobs are submitted as the operator submits them.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from airfreight.decorators.function import _RayDecoratedOperator
from airfreight.errors import InvalidError

if TYPE_CHECKING:
    from pathlib import Path

    from ray_home import RayHome

Load = Callable[[str], ModuleType]

HEAD = "from airflow.sdk import task\nfrom airfreight.decorators import ray\n"


class Task:
    """Runs decorated functions as Airflow would, one task instance after the other."""

    numbers = itertools.count()

    def __init__(self, monkeypatch: pytest.MonkeyPatch, ray_home: RayHome, folder: Path) -> None:
        monkeypatch.setenv(
            "AIRFLOW_CONN_RAY_DEFAULT", f'{{"conn_type": "ray", "extra": {{"address": "{ray_home.address}"}}}}'
        )
        monkeypatch.setenv("AIRFLOW_CTX_DAG_ID", "flights")
        self.folder = folder
        self.xcoms: dict[str, Any] = {}
        self.operator: Any = None

    def call(self, decorated: Any, *args: Any, **kwargs: Any) -> Any:
        self.operator = _RayDecoratedOperator(
            python_callable=decorated.function,
            op_args=args,
            op_kwargs=kwargs,
            **{"num_cpus": 0, **decorated.kwargs, "task_id": f"t{next(self.numbers)}"},
        )
        instance = SimpleNamespace(
            dag_id="flights",
            run_id="r",
            task_id=self.operator.task_id,
            map_index=-1,
            try_number=1,
            max_tries=0,
            start_date=None,
            xcom_push=lambda key, value: self.xcoms.update({key: value}),
        )
        dag = SimpleNamespace(fileloc=str(self.folder / "flow.py"))
        return self.operator.execute({"ti": instance, "dag": dag, "run_id": "r", "params": {"n": 3}})


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch, ray_home: RayHome, tmp_path: Path) -> Task:
    return Task(monkeypatch, ray_home, tmp_path / "dags")


def test_ray_in_a_function_finds_what_the_function_uses(task: Task, dag_file: Load, tmp_path: Path) -> None:
    (tmp_path / "dags" / "beside_near.py").write_text("def half(x):\n    return x / 2\n")
    module = dag_file(
        HEAD
        + """
from dataclasses import dataclass
from beside_near import half

FACTOR = 3

@dataclass
class Row:
    n: float

def scaled(row):
    return Row(half(row.n * FACTOR))

@task.ray
def f(rows):
    import ray

    @ray.remote(num_cpus=1)
    def one(row):
        print("row", row.n)
        return scaled(row)

    @ray.remote(num_cpus=1)
    class Counter:
        def __init__(self):
            self.rows = []

        def add(self, row):
            self.rows.append(scaled(row))
            return len(self.rows)

    counter = Counter.remote()
    ray.get([counter.add.remote(row) for row in rows])
    return ray.get([one.remote(row) for row in rows])
"""
    )
    assert task.call(module.f, [module.Row(2), module.Row(4)]) == [module.Row(3), module.Row(6)]


def test_a_large_value_comes_through_the_dashboard(task: Task, dag_file: Load, ray_home: RayHome) -> None:
    import numpy as np

    module = dag_file(
        HEAD
        + """
import os
import numpy as np

@task.ray
def f(array):
    print("no end of line", end="")
    return {"sum": array.cumsum(), "dag": os.environ["AIRFLOW_CTX_DAG_ID"]}
"""
    )
    array = np.arange(2_000_000.0)
    found = task.call(module.f, array)
    assert (found["sum"] == array.cumsum()).all()
    assert found["dag"] == "flights"
    found["sum"][0] = 1.0
    assert list(ray_home.logs.glob(f"airfreight-result-{task.operator.job_id}.log"))


def test_the_users_own_environment_stays(task: Task, dag_file: Load, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    (folder / "inner").mkdir(parents=True)
    (folder / "data.txt").write_text("of the working directory")
    (tmp_path / "mine" / "my_near").mkdir(parents=True)
    (tmp_path / "mine" / "my_near" / "__init__.py").write_text("N = 7\n")
    module = dag_file(
        HEAD
        + f"""
CONFIG = {{
    "runtime_env": {{
        "working_dir": "{folder}",
        "py_modules": ["{tmp_path / "mine" / "my_near"}"],
        "env_vars": {{"OF": "{{{{ params.n }}}}"}},
    }},
}}

@ray.task(config=CONFIG)
def f():
    import os
    import my_near

    return open("data.txt").read(), my_near.N, os.environ["OF"]
"""
    )
    before = repr(module.CONFIG)
    # Without a DAG run nothing is rendered.
    assert task.call(module.f) == ("of the working directory", 7, "{{ params.n }}")
    assert repr(module.CONFIG) == before


def test_an_error_of_a_remote_function_is_told(task: Task, dag_file: Load) -> None:
    module = dag_file(
        HEAD
        + """
@task.ray
def f():
    import ray

    @ray.remote
    def bad():
        raise KeyError("inner")

    return ray.get(bad.remote())
"""
    )
    with pytest.raises(KeyError, match="inner") as caught:
        task.call(module.f)
    assert "bad" in str(caught.value)
    assert caught.traceback[-1].name != "_failure"


def test_a_job_that_dies_is_told_as_ray_tells_it(task: Task, dag_file: Load) -> None:
    module = dag_file(HEAD + "@task.ray\ndef f():\n    import os\n    print('last words')\n    os._exit(7)\n")
    with pytest.raises(RuntimeError, match="exit code 7") as caught:
        task.call(module.f)
    assert "last words" in str(caught.value)


def test_nothing_of_a_call_is_in_the_job(task: Task, dag_file: Load, ray_home: RayHome) -> None:
    module = dag_file(HEAD + "@task.ray\ndef f(password):\n    return len(password)\n")
    assert task.call(module.f, "geheimnis") == 9
    job = ray_home.job(task.operator.job_id)
    assert job is not None
    assert "geheimnis" not in repr(job)
    assert "geheimnis" not in ray_home.log(task.operator.job_id)


@pytest.mark.parametrize("key", ["image_uri", "container"])
def test_environments_that_take_no_packages_are_refused(task: Task, dag_file: Load, key: str) -> None:
    module = dag_file(HEAD + f"@task.ray(runtime_env={{{key!r}: 'x'}})\ndef f():\n    return 1\n")
    with pytest.raises(Exception, match=f"its runtime environment has {key}") as caught:
        task.call(module.f)
    assert isinstance(caught.value.__cause__, InvalidError)


def test_the_decorator_loads_nothing_that_it_does_not_need() -> None:
    program = (
        "import sys, airflow.sdk\n"
        "before = set(sys.modules)\n"
        "from airfreight.decorators import ray, ray_task\n"
        "print(*sorted(set(sys.modules) - before))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split("\n")[-2].split())
    assert not {name for name in loaded if name.startswith("airfreight.ray.")} & {
        "airfreight.ray.function",
        "airfreight.ray.driver",
        "airfreight.ray.parcel",
        "airfreight.ray.outcome",
    }
    assert not {"airfreight._remote", "numpy", "pandas", "ray", "airfreight.codec"} & loaded
    assert len(loaded) < 30
