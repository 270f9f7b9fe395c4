"""One Ray cluster of its own: a head node with everything that a user's has, small."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from airflow_home.errors import tail
from airflow_home.settings import free_port
from airflow_home.turn import turn
from ray_home import guardian

if TYPE_CHECKING:
    from collections.abc import Mapping

REPOSITORY = Path(__file__).parents[2]
VENV = REPOSITORY / ".venvs" / "ray"
START_SECONDS = 120.0
#: On a loaded machine `ray start` gives up after half a minute, which it can't be talked out of.
ATTEMPTS = 3
#: The path of a Unix socket has at most 107 bytes, and Ray's names below its folder take up to 64 of them.
FOLDER_LENGTH_MAX = 43
OBJECT_STORE_BYTES = 200 * 1024 * 1024
OVER = ("SUCCEEDED", "FAILED", "STOPPED")
#: All the ports that Ray would take from a fixed place, so that a cluster meets no other one on this machine.
PORTS = {
    "gcs": "--port",
    "dashboard": "--dashboard-port",
    "agent": "--dashboard-agent-listen-port",
    "agent_grpc": "--dashboard-agent-grpc-port",
    "runtime_env": "--runtime-env-agent-port",
    "client": "--ray-client-server-port",
    "metrics": "--metrics-export-port",
    "node_manager": "--node-manager-port",
    "object_manager": "--object-manager-port",
}
METRIC_PORTS = ("AUTOSCALER_METRIC_PORT", "DASHBOARD_METRIC_PORT")


class RayHomeError(Exception):
    """Ray didn't start, died, or refused; the message ends with its log."""


class _EndedError(RayHomeError):
    """``ray start`` has given up."""


class RayHome:
    """
    A running Ray; :meth:`start` makes one, leaving the context stops it.

    :param folder: everything that Ray writes; removed at the end unless a test failed in between.
    :param num_cpus: the logical CPUs that tasks and actors may take.
    :param num_gpus: as many logical GPUs; Ray looks for none itself.
    :param token: the cluster's token; ``None`` lets everyone in.
    :param env: environment variables of the whole cluster on top.
    :param venv: where Ray is installed.
    :param object_store_bytes: the memory that Ray keeps values in.
    """

    def __init__(
        self,
        folder: Path,
        *,
        num_cpus: int,
        num_gpus: int = 0,
        token: str | None,
        env: Mapping[str, str],
        venv: Path,
        object_store_bytes: int = OBJECT_STORE_BYTES,
    ) -> None:
        self.folder = folder
        self.object_store_bytes = object_store_bytes
        self.venv = venv
        self.token = token
        #: What a program needs in its environment to be at home in this cluster, such as the ``ray`` command.
        self.env = _environment(venv, token) | env
        self.ports: dict[str, int] = {}
        self.num_cpus = num_cpus
        self.num_gpus = num_gpus
        #: Whether to leave the folder when all is over.
        self.keep = False
        self._guardian: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(
        cls,
        folder: Path | None = None,
        *,
        num_cpus: int = 2,
        num_gpus: int = 0,
        token: str | None = None,
        env: Mapping[str, str] | None = None,
        venv: Path = VENV,
        object_store_bytes: int = OBJECT_STORE_BYTES,
    ) -> Self:
        """
        Start a cluster and return when it takes jobs.

        :param folder: where Ray may write, at most 43 characters long; by default a new folder in /tmp.
        :raises RayHomeError: there is no Ray, or it didn't start.
        """
        if not (venv / "bin" / "ray").exists():
            raise RayHomeError(f"no Ray in {venv}: `make ray` installs it")
        folder = Path(tempfile.mkdtemp(prefix="airfreight-ray-", dir="/tmp")) if folder is None else folder
        if len(os.fsencode(folder)) > FOLDER_LENGTH_MAX:
            raise RayHomeError(f"{folder} is too long for Ray's sockets: at most {FOLDER_LENGTH_MAX} bytes")
        home = cls(
            folder,
            num_cpus=num_cpus,
            num_gpus=num_gpus,
            token=token,
            env=env or {},
            venv=venv,
            object_store_bytes=object_store_bytes,
        )
        home._start()
        return home

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        # A user who interrupts does not want the logs.
        if error is not None and not isinstance(error, KeyboardInterrupt | SystemExit):
            self.keep = True
            error.add_note(f"the logs of this Ray are in {self.logs}")
        self.stop()

    @property
    def address(self) -> str:
        """Where the dashboard and the Jobs API are."""
        return f"http://127.0.0.1:{self.ports['dashboard']}"

    @property
    def agent_address(self) -> str:
        """Where the node's agent serves log files by range."""
        return f"http://127.0.0.1:{self.ports['agent']}"

    @property
    def gcs_address(self) -> str:
        """What ``ray.init(address=…)`` and ``RAY_ADDRESS`` inside the cluster take."""
        return f"127.0.0.1:{self.ports['gcs']}"

    @property
    def session(self) -> Path:
        """The folder of the session that runs."""
        # Every worker that starts removes the link `session_latest` and makes it anew, so it isn't always there.
        return max(path for path in self.folder.glob("session_2*") if path.is_dir())

    @property
    def logs(self) -> Path:
        """The log folder of the session that runs."""
        return self.session / "logs"

    @property
    def pids(self) -> list[int]:
        """Every process of this cluster, drivers of jobs among them."""
        return [] if self._guardian is None else guardian.descendants(self._guardian.pid)

    def restart(self) -> None:
        """Kill the whole cluster and start an empty one at the same address, which has another session name."""
        self._kill()
        self._start(keep_address=True)

    def stop(self) -> None:
        """Kill every process, and remove the folder unless it is to be kept."""
        self._kill()
        if not self.keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """
        Ask the dashboard, as little as a test needs that wants to know what Ray thinks.

        :param path: such as ``/api/jobs/``.
        :returns: the JSON of the answer, or its text.
        :raises urllib.error.HTTPError: Ray refused.
        """
        return self._request(self.address + path, method, body)

    def job(self, submission_id: str) -> dict[str, Any] | None:
        """Give the job as Ray describes it, or ``None`` if Ray doesn't know it."""
        try:
            job: dict[str, Any] = self.request("GET", f"/api/jobs/{quote(submission_id, safe='')}")
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise
        return job

    def jobs(self) -> list[dict[str, Any]]:
        """Every job that was ever submitted to this cluster."""
        jobs: list[dict[str, Any]] = self.request("GET", "/api/jobs/")
        return [job for job in jobs if job["type"] == "SUBMISSION"]

    def wait_for_job(
        self, submission_id: str, states: tuple[str, ...] = OVER, *, timeout: float = 120.0
    ) -> dict[str, Any]:
        """
        Return when a job is in one of the states, by default when it is over.

        :raises RayHomeError: it ended in another one, or time ran out.
        """
        deadline = time.monotonic() + timeout
        job = None
        while time.monotonic() < deadline:
            job = self.job(submission_id)
            if job is not None and job["status"] in states:
                return job
            if job is not None and job["status"] in OVER:
                break
            time.sleep(0.1)
        raise RayHomeError(f"job {submission_id} is not {' or '.join(states)} but {job}{self._explanation()}")

    def log(self, submission_id: str) -> str:
        """Give the whole log of a job."""
        return (self.logs / f"job-driver-{submission_id}.log").read_text(errors="replace")

    def _start(self, *, keep_address: bool = False) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            names = [name for name in (*PORTS, *METRIC_PORTS) if not (keep_address and name == "dashboard")]
            self.ports |= dict(zip(names, _free_ports(len(names)), strict=True))
            try:
                with turn():
                    self._launch()
                    self._wait_until_ready()
            except BaseException as error:
                self._kill()
                if not isinstance(error, _EndedError) or attempt == ATTEMPTS:
                    self.keep = True
                    raise
            else:
                return

    def _launch(self) -> None:
        command = [
            str(self.venv / "bin" / "ray"),
            "start",
            "--head",
            "--block",
            "--disable-usage-stats",
            "--node-ip-address=127.0.0.1",
            "--dashboard-host=127.0.0.1",
            "--include-dashboard=true",
            f"--num-cpus={self.num_cpus}",
            f"--num-gpus={self.num_gpus}",
            f"--object-store-memory={self.object_store_bytes}",
            f"--temp-dir={self.folder}",
            *(f"{option}={self.ports[name]}" for name, option in PORTS.items()),
            # The kernel chooses for workers.
            "--min-worker-port=0",
            "--max-worker-port=0",
        ]
        self._guardian = subprocess.Popen(
            [sys.executable, "-ISE", guardian.__file__, str(self._log), *command],
            # What Ray's processes leave lying when they are killed goes with the folder.
            env=self.env | {"TMPDIR": str(self.folder)} | {name: str(self.ports[name]) for name in METRIC_PORTS},
            cwd=self.folder,
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def _wait_until_ready(self) -> None:
        assert self._guardian is not None
        deadline = time.monotonic() + START_SECONDS
        # The dashboard passes a submission on to the agent, which is up last.
        waiting_for = [f"{self.address}/api/version", f"{self.agent_address}/api/local_raylet_healthz"]
        while waiting_for:
            if (code := self._guardian.poll()) is not None:
                raise _EndedError(f"ray start ended with {code}{self._explanation()}")
            if time.monotonic() > deadline:
                raise RayHomeError(f"{waiting_for[0]} doesn't answer after {START_SECONDS:.0f} s{self._explanation()}")
            try:
                self._request(waiting_for[0], "GET", None)
            except OSError:  # not up yet, or not able yet
                time.sleep(0.05)
            else:
                del waiting_for[0]

    def _request(self, url: str, method: str, body: Any) -> Any:
        headers = {"Content-Type": "application/json", "User-Agent": "airfreight-tests"}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data=data, method=method, headers=headers)
        # Without the proxies that the environment may name.
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            text = answer.read().decode()
        return json.loads(text) if "json" in answer.headers.get_content_type() else text

    def _kill(self) -> None:
        if self._guardian is not None:
            self._guardian.communicate()
            self._guardian = None

    @property
    def _log(self) -> Path:
        return self.folder / "ray-start.log"

    def _explanation(self) -> str:
        return f"; the end of {self._log}:\n{tail(self._log)}"


def _free_ports(count: int) -> set[int]:
    ports: set[int] = set()
    while len(ports) < count:
        ports.add(free_port())
    return ports


def _environment(venv: Path, token: str | None) -> dict[str, str]:
    """Our environment without what would leak into a cluster that knows nothing of us."""
    strange = ("RAY_", "AIRFLOW_", "AIRFREIGHT_")
    leaking = {"PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "PYTEST_CURRENT_TEST"}
    env = {name: value for name, value in os.environ.items() if not name.startswith(strange) and name not in leaking}
    for name in ("no_proxy", "NO_PROXY"):
        env[name] = ",".join(filter(None, [env.get(name), "127.0.0.1,localhost"]))
    # A token in the environment, as it is in KubeRay's pods.
    auth = {"RAY_AUTH_MODE": "disabled"} if token is None else {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    return (
        env
        | auth
        | {
            "PATH": f"{venv / 'bin'}{os.pathsep}{env.get('PATH', os.defpath)}",
            "VIRTUAL_ENV": str(venv),
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_WAIT_POLICY": "passive",
        }
    )
