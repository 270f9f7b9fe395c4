"""Airflow's database, copied from a template: a migration takes longer than a whole test."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import sqlite3
import subprocess
import tempfile
from pathlib import Path

from airflow_home import settings
from airflow_home.errors import AirflowHomeError, tail


def create(venv: Path, folder: Path) -> None:
    """
    Put a migrated, empty SQLite database into ``folder``.

    The template is kept inside the virtual environment that made it, under a name that changes with the packages
    of Airflow, and appears there in one step, so that runs at the same time can share it.

    :param venv: the virtual environment that Airflow runs in.
    :param folder: AIRFLOW_HOME; it has no ``airflow.cfg`` yet.
    :raises AirflowHomeError: ``airflow db migrate`` failed.
    """
    template = venv / "airflow-templates" / f"{_fingerprint(venv)}.db"
    if not template.exists():
        try:
            template.parent.mkdir(exist_ok=True)
        except OSError:  # somebody else's environment: do without a template
            _migrate(venv, folder)
            return
        with tempfile.TemporaryDirectory(dir=template.parent, prefix="migrating-") as scratch:
            _migrate(venv, Path(scratch))
            _copy_whole(Path(scratch) / "airflow.db", Path(scratch) / "template.db")
            (Path(scratch) / "template.db").replace(template)
    shutil.copyfile(template, folder / "airflow.db")


def _copy_whole(source: Path, target: Path) -> None:
    """Copy a database together with what is still in its write-ahead log."""
    with contextlib.closing(sqlite3.connect(source)) as connection:
        connection.execute("VACUUM INTO ?", [str(target)])


def _fingerprint(venv: Path) -> str:
    packages = sorted(path.name for path in venv.glob("lib/python*/site-packages/apache_airflow*.dist-info"))
    if not packages:
        raise AirflowHomeError(f"there is no Airflow in {venv}")
    return hashlib.sha256("\n".join(packages).encode()).hexdigest()[:16]


def _migrate(venv: Path, folder: Path) -> None:
    settings.write_cfg(folder / "airflow.cfg", settings.airflow_cfg(folder=folder, dags=[], port=1, parallelism=1))
    log = folder / "migrate.log"
    with log.open("wb") as output:
        done = subprocess.run(
            [venv / "bin" / "airflow", "db", "migrate"],
            env=settings.environment(venv, folder, {}),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode != 0:
        raise AirflowHomeError(f"airflow db migrate exited with {done.returncode}; the end of {log}:\n{tail(log)}")
