"""The configuration of the Airflow under test."""

from __future__ import annotations

import base64
import configparser
import json
import os
import random
import secrets
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

#: Below the range that the kernel hands out to outgoing connections, so that none of those can take a port between
#: our look and Airflow's bind.
PORTS = range(20000, 32000)


def free_port() -> int:
    """Find a TCP port on the loopback interface that nobody listens on."""
    for port in random.sample(PORTS, k=len(PORTS)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no free port on 127.0.0.1 in {PORTS}")


def airflow_cfg(*, folder: Path, dags: Sequence[Path], port: int, parallelism: int) -> dict[str, dict[str, str]]:
    """
    Choose the settings by section: as in production where it matters, quick and quiet where it does not.

    :param folder: AIRFLOW_HOME.
    :param dags: folders of DAG files; each becomes a bundle of its own.
    :param port: where the API server listens.
    :param parallelism: how many tasks may run at once.
    """
    bundles = [
        {
            "name": f"dags-{number}",
            "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
            "kwargs": {"path": str(path.resolve()), "refresh_interval": 2},
        }
        for number, path in enumerate(dags)
    ]
    url = f"http://127.0.0.1:{port}"
    return {
        "core": {
            "executor": "LocalExecutor",
            "parallelism": str(parallelism),
            "load_examples": "False",
            "dags_folder": str(folder / "dags"),
            "plugins_folder": str(folder / "plugins"),
            "dags_are_paused_at_creation": "False",
            "simple_auth_manager_all_admins": "True",
            "execution_api_server_url": f"{url}/execution/",
            "fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "default_task_retry_delay": "1",
            # A loaded machine may take long over pandas and its like.
            "dagbag_import_timeout": "120",
        },
        # Who writes waits for a minute; by default five seconds, which a busy machine can exceed.
        "database": {"sql_alchemy_conn": f"sqlite:///{folder / 'airflow.db'}?timeout=60"},
        "api": {
            "host": "127.0.0.1",
            "port": str(port),
            "base_url": url,
            "workers": "1",
            "secret_key": secrets.token_hex(32),
        },
        "api_auth": {"jwt_secret": secrets.token_hex(64)},
        "dag_processor": {
            "dag_bundle_config_list": json.dumps(bundles),
            "refresh_interval": "2",
            "bundle_refresh_check_interval": "1",
            # A changed file is parsed at once; this is for those that did not change.
            "min_file_process_interval": "600",
        },
        "scheduler": {
            "scheduler_heartbeat_sec": "1",
            "job_heartbeat_sec": "2",
            "scheduler_idle_sleep_time": "0.4",
            "scheduler_health_check_threshold": "60",
        },
        "triggerer": {"triggerer_health_check_threshold": "60"},
        "workers": {
            # The supervisor of a task sleeps so long before it notices that the task has ended.
            "min_heartbeat_interval": "1",
            "execution_api_timeout": "30",
        },
        "logging": {"base_log_folder": str(folder / "logs")},
        "usage_data_collection": {"enabled": "False"},
    }


def write_cfg(path: Path, sections: Mapping[str, Mapping[str, str]]) -> None:
    """Write ``airflow.cfg``, readable by its owner alone since it holds keys."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_dict(
        {section: {k: v.replace("%", "%%") for k, v in values.items()} for section, values in sections.items()}
    )
    path.touch(mode=0o600)
    with path.open("w") as file:
        parser.write(file)


def environment(venv: Path, folder: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """
    Make the environment of every Airflow process: ours, without what would leak into the Airflow under test.

    :param venv: the virtual environment that Airflow runs in.
    :param folder: AIRFLOW_HOME.
    :param extra: what the caller wants on top, such as ``AIRFLOW__CORE__XCOM_BACKEND``.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "AIRFREIGHT_"))}
    # Without bytecode files every Airflow command compiles for seconds what it imports.
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    env.pop("PYTHONHOME", None)
    # Tasks talk to the API server on the loopback interface, which no proxy can reach.
    for name in ("no_proxy", "NO_PROXY"):
        env[name] = ",".join(filter(None, [env.get(name), "127.0.0.1,localhost"]))
    return env | {
        "AIRFLOW_HOME": str(folder),
        "PATH": f"{venv / 'bin'}{os.pathsep}{env.get('PATH', os.defpath)}",
        "VIRTUAL_ENV": str(venv),
        "NO_COLOR": "1",
        "PYTHONUNBUFFERED": "1",
        # OpenMP's threads spin while they wait, which takes a tenfold time when tasks share few cores.
        "OMP_WAIT_POLICY": "passive",
        **extra,
    }
