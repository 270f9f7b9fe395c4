"""Importing the backend: every component of Airflow does it, so it must cost nothing and start nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

CHECK = """
import os, sys, threading
import airflow.sdk, airflow.sdk.execution_time.xcom
def descriptors():
    return {os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")} - OWN
OWN = {f"/proc/{os.getpid()}/fd"}
before, threads, modules = descriptors(), threading.active_count(), set(sys.modules)
import airfreight.xcom, airfreight.provider_info
import airfreight.process, airfreight.plugin
assert airfreight.process._current is None
assert descriptors() <= before, descriptors() - before
assert threading.active_count() == threads
new = set(sys.modules) - modules
heavy = {"numpy", "pandas", "pyarrow", "asyncio", "ssl"}
here = {"airfreight._store", "airfreight.codec.objects", "airfreight.rows"}
here |= {f"airfreight.codec.{name}" for name in ("elementwise", "memory", "plain", "stream")}
here |= {f"airfreight.codec.reducers.{name}" for name in ("numpy", "pandas", "pyarrow", "strings")}
assert here <= new, "each task would import these for itself"
assert not new & heavy, new & heavy
assert {name.partition(".")[0] for name in new} <= {"airfreight", "airflow"} | set(sys.stdlib_module_names), new
print("fine")
"""


def python(code: str, home: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "AIRFLOW_HOME": str(home), **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_nothing_is_started_opened_or_loaded(tmp_path: Path) -> None:
    done = python(CHECK, tmp_path)
    assert done.stdout.strip().endswith("fine"), done.stderr
    assert not list(Path(tmp_path).glob("airfreight*"))


def test_a_bad_setting_does_not_break_the_import_of_airflow(tmp_path: Path) -> None:
    done = python(
        "import airflow.sdk; from airflow.sdk.execution_time.xcom import XCom; print(XCom.__name__)",
        tmp_path,
        AIRFLOW__CORE__XCOM_BACKEND="airfreight.xcom.AirfreightXCom",
        AIRFLOW__AIRFREIGHT__MAPPING="upside down",
        AIRFLOW__AIRFREIGHT__STORE_PATH="/nowhere/at/all",
    )
    assert done.stdout.strip().endswith("AirfreightXCom"), done.stderr


def test_a_broken_installation_does_not_break_the_import_of_airflow(tmp_path: Path) -> None:
    done = python(
        "import sys; sys.modules['airfreight._store'] = None\n"
        "from airflow.sdk.execution_time.xcom import XCom; print(XCom.__name__)",
        tmp_path,
        AIRFLOW__CORE__XCOM_BACKEND="airfreight.xcom.AirfreightXCom",
    )
    assert done.stdout.strip().endswith("AirfreightXCom"), done.stderr


def test_the_state_is_made_anew_after_a_fork(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = python(
        "import os\n"
        "from airfreight.process import here\n"
        "parent = here()\n"
        "pid = os.fork()\n"
        "if pid == 0: os._exit(0 if here() is not parent and here() is here() else 1)\n"
        "assert os.waitpid(pid, 0)[1] == 0 and here() is parent\n"
        "print('fine')",
        tmp_path,
    )
    assert done.stdout.strip().endswith("fine"), done.stderr
