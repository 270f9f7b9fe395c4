"""What all Python tests share: one real Airflow with Airfreight as its XCom backend, and the processes they run in."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_home import AirflowHome

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[1]
SHARED_MEMORY = Path("/dev/shm")
#: Files, or folders of files, whose tests share what is slow to come up: an Airflow, a Ray, a runner. Those that take
#: longest are first. Any other file is by itself.
GROUPS = {
    "tests/ray/examples/": "examples",
    "tests/ray/cluster/": "runner",
    **{f"tests/ray/{name}/": "" for name in ("survival", "values", "warm")},
    "tests/ray/": "ray",
    "tests/checkpoint/test_checkpoint_airflow.py": "airflow",
    "tests/cli/test_collect.py": "airflow",
    "tests/docs/test_samples.py": "airflow",
    "tests/test_demo.py": "airflow",
    "tests/test_examples.py": "airflow",
    "tests/xcom/test_airflow.py": "airflow",
}
ORDER = ("examples", "ray", "airflow", "runner")


def group(nodeid: str) -> str:
    """Which tests a test shares a process with when there are several."""
    file = nodeid.partition("::")[0]
    return next((name for start, name in GROUPS.items() if file.startswith(start)), "") or file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the longest groups begin first, as otherwise one process would work alone at the end."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        ranks = {name: rank for rank, name in enumerate(ORDER)}
        items.sort(key=lambda item: ranks.get(group(item.nodeid), len(ranks)))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End what a group has shared together with it: an idle Airflow takes a third of a core."""
    if "PYTEST_XDIST_WORKER" in os.environ and nextitem is not None and group(nextitem.nodeid) != group(item.nodeid):
        item.session._setupstate.teardown_exact(None)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show why a test failed that has passed since: a second try is for a starved machine, not for hiding anything."""
    for report in terminalreporter.getreports("rerun"):
        terminalreporter.section(f"failed at first: {report.nodeid}", yellow=True)
        terminalreporter.line(report.longreprtext)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each process whole groups; a mark `xdist_group` would say the same, but pytest 9.2 takes no notice."""
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid)

    return ByGroup(config, log)


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
