"""
Runs the same DAGs on Airflow 3.0 to 3.4: ``python -m tests.matrix [VERSION ...]``.

Environments are kept in ``.venvs``. Versions whose dependencies have moved on since are resolved as of their release.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
VENVS = REPOSITORY / ".venvs"
SHARED_MEMORY = Path("/dev/shm")
LIBRARIES = ("numpy", "pandas", "pyarrow")
BACKEND = "airfreight.xcom.AirfreightXCom"


@dataclass(frozen=True)
class Version:
    """
    One version of Airflow.

    :param as_of: resolve dependencies as of this day; the newest of today don't work with it.
    :param loops: it has loops.
    """

    number: str
    as_of: str | None = None
    loops: bool = False


VERSIONS = (
    Version("3.0.6", as_of="2025-09-05"),
    Version("3.1.8"),
    Version("3.2.2", as_of="2026-06-05"),
    Version("3.3.2"),
    Version("3.4.0b2", loops=True),
)


class MatrixError(Exception):
    """A version could not be set up, or a DAG failed on it."""


def main(wanted: list[str]) -> int:
    versions = [version for version in VERSIONS if not wanted or version.number in wanted]
    unknown = set(wanted) - {version.number for version in VERSIONS}
    if unknown:
        print(f"not in the matrix: {', '.join(sorted(unknown))}; known: {', '.join(v.number for v in VERSIONS)}")
        return 2
    failed = []
    for version in versions:
        began = time.monotonic()
        print(f"Airflow {version.number} …", end="", flush=True)
        try:
            done = check(version)
        except MatrixError as error:
            failed.append(version.number)
            print(f" failed\n{error}")
        else:
            print(f" {done} ({time.monotonic() - began:.0f} s)")
    return 1 if failed else 0


def check(version: Version) -> str:
    """Runs every DAG on one version; gives what to print."""
    python = environment(version)
    folder = Path(tempfile.mkdtemp(prefix=f"airfreight-matrix-{version.number}-"))
    store = Path(tempfile.mkdtemp(prefix="airfreight-matrix-", dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None))
    dags = folder / "dags"
    shutil.copytree(REPOSITORY / "tests" / "xcom" / "dags", dags, ignore=shutil.ignore_patterns("__pycache__"))
    if version.loops:
        shutil.copy(Path(__file__).parent / "loops" / "xcom_loop.py", dags)
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "AIRFREIGHT"))},
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__AIRFREIGHT__STORE_PATH": str(store / "store"),
        "AIRFLOW__AIRFREIGHT__SPILL_PATH": str(store / "spill"),
        "PATH": f"{python.parent}:{os.environ['PATH']}",
    }
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    default, ours = env, {**env, "AIRFLOW__CORE__XCOM_BACKEND": BACKEND}
    try:
        _run([python.parent / "airflow", "db", "migrate"], default, "the database")
        script = Path(__file__).with_name("run_dags.py")
        _run([python, script, "--before", folder / "runs.json"], default, "the run with Airflow's own backend")
        _run([python, script, "--after", folder / "runs.json"], ours, "the DAGs")
        return "every DAG succeeded"
    finally:
        shutil.rmtree(store, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


def environment(version: Version) -> Path:
    """The interpreter of a version's virtual environment, which is made when it isn't there."""
    venv = VENVS / f"airflow-{version.number}"
    python, ready = venv / "bin" / "python", venv / ".ready"
    uv = Path(sys.prefix) / "bin" / "uv"
    clean = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    if not ready.exists():
        shutil.rmtree(venv, ignore_errors=True)
        _run([uv, "venv", "--quiet", "--python", sys.executable, venv], clean, "a virtual environment")
        as_of = ["--exclude-newer", version.as_of] if version.as_of else []
        install = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", python, *as_of]
        _run([*install, f"apache-airflow=={version.number}", *LIBRARIES], clean, f"Airflow {version.number}")
        ready.touch()
    wheels = sorted((REPOSITORY / "dist").glob("airfreight-*.whl"))
    if not wheels:
        raise MatrixError("dist/ has no wheel: run `make wheel`")
    _run(
        [uv, "pip", "install", "--quiet", "--no-deps", "--reinstall", "--python", python, wheels[-1]],
        clean,
        "the wheel",
    )
    return python


def _run(command: list[str | Path], env: dict[str, str], what: str) -> str:
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        lines = (done.stdout + done.stderr).splitlines()
        raise MatrixError(f"{what} failed (exit {done.returncode}):\n" + "\n".join(line[:400] for line in lines[-60:]))
    return done.stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
