"""What all Python tests share: one real Airflow with Airfreight as its XCom backend, and the processes they run in."""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_home import AirflowHome

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[1]
SHARED_MEMORY = Path("/dev/shm")
#: Fixtures of the whole session that are slow to come up, and what the tests that have one are called. The groups of
#: tests that take longest are first.
SLOW_FIXTURES = {"examples_airflow": "examples", "ray_home": "ray", "airflow": "airflow", "runner": "runner"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """
    Decide which tests run in one process when there are several (``--dist loadgroup``).

    Tests of one file stay together, and those that share what is slow to come up. The longest groups begin first, as
    otherwise one process would work alone at the end.
    """
    if not config.getoption("loadgroup", default=False):
        return
    groups: dict[Path, str] = {}
    ranks = {name: rank for rank, name in enumerate(SLOW_FIXTURES.values())}
    for item in items:
        found = [group for name, group in SLOW_FIXTURES.items() if _is_shared(item, name)]
        group = min([*found, groups.get(item.path, "")], key=lambda name: ranks.get(name, len(ranks)))
        groups[item.path] = group
    for item in items:
        name = groups[item.path] or str(item.path.relative_to(REPOSITORY))
        item.add_marker(pytest.mark.xdist_group(name))
    items.sort(key=lambda item: ranks.get(groups[item.path], len(ranks)))


def _is_shared(item: pytest.Item, name: str) -> bool:
    """Whether a test has a fixture of this name that lives as long as the session; modules have some of their own."""
    found = getattr(item, "_fixtureinfo", None)
    definitions = found.name2fixturedefs.get(name) if found is not None else None
    return bool(definitions) and definitions[-1].scope == "session"


@pytest.fixture(scope="session")
def store_folder() -> Iterator[Path]:
    """A folder for the store and its spilled objects that no other run shares."""
    folder = Path(tempfile.mkdtemp(prefix="airfreight-test-", dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def airflow_env(store_folder: Path) -> dict[str, str]:
    """The environment variables that make Airfreight the XCom backend, and nothing else."""
    return {
        "AIRFLOW__CORE__XCOM_BACKEND": "airfreight.xcom.AirfreightXCom",
        "AIRFLOW__AIRFREIGHT__STORE_PATH": str(store_folder / "store"),
        "AIRFLOW__AIRFREIGHT__SPILL_PATH": str(store_folder / "spill"),
    }


@pytest.fixture(scope="session")
def airflow(airflow_env: dict[str, str], request: pytest.FixtureRequest) -> Iterator[AirflowHome]:
    """
    A running Airflow that knows every DAG of ``examples/dags`` and of the ``dags`` folders below ``tests``.

    After a failed test its folder with all logs is kept.
    """
    dags = sorted(path for path in REPOSITORY.glob("tests/**/dags") if path.is_dir())
    with AirflowHome([REPOSITORY / "examples" / "dags", *dags], env=airflow_env) as home:
        yield home
        if request.session.testsfailed:
            home.keep = True
            print(f"\nThe logs of the Airflow that the tests used are in {home.folder}")


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What the log says of values, however Airflow has set logging up."""
    lines: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    log, listener = logging.getLogger("airfreight.xcom"), Listener()
    level = log.level
    log.setLevel(logging.INFO)
    log.addHandler(listener)
    yield lines
    log.removeHandler(listener)
    log.setLevel(level)
