"""One Airflow of its own, from the database to the last process."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from airflow_home import database, settings
from airflow_home.components import Component, Components
from airflow_home.errors import AirflowHomeError, ApiError, DagBrokenError, RunFailedError, WaitTimeoutError
from airflow_home.rest import RestClient, quote
from airflow_home.turn import turn

COMMANDS = {
    "api-server": ["api-server"],
    # Task logs are files on this very host, so nobody needs the servers for them and their fixed ports.
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}
#: What the health endpoint calls the components that have no port.
HEALTH = {"scheduler": "scheduler", "dag-processor": "dag_processor", "triggerer": "triggerer"}
START_SECONDS = 300.0
RUN_SECONDS = 600.0
DONE_STATES = frozenset({"success", "failed"})
DONE_TASK_STATES = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})


@dataclass(frozen=True)
class Progress:
    """How far a step of the harness is."""

    done: int
    total: int
    detail: str


ProgressCallback = Callable[[Progress], None]


def _ignore(progress: Progress) -> None:
    pass


class AirflowHome:
    """
    A whole Airflow in a temporary folder: API server, scheduler, DAG processor, triggerer, LocalExecutor, SQLite.

    Entering the context starts it and returns when tasks can run; leaving stops every process and removes the folder.
    After an error the folder stays, with all logs, and the error names it.

    :param dags: the folder, or folders, with DAG files.
    :param env: environment variables on top, such as ``{"AIRFLOW__CORE__XCOM_BACKEND": "airfreight.xcom.…"}``.
    :param venv: the virtual environment to run; by default the one of this interpreter.
    :param progress: told of each thing that is up.
    :param parallelism: how many tasks may run at once.
    """

    def __init__(
        self,
        dags: Path | Sequence[Path],
        *,
        env: Mapping[str, str] | None = None,
        venv: Path | None = None,
        progress: ProgressCallback = _ignore,
        parallelism: int = 4,
    ) -> None:
        self.dags = [dags] if isinstance(dags, Path) else list(dags)
        self.venv = Path(sys.prefix) if venv is None else venv
        self.folder = Path(tempfile.mkdtemp(prefix="airfreight-airflow-"))
        self.env = settings.environment(self.venv, self.folder, env or {})
        #: Whether to leave the folder when all is over.
        self.keep = False
        self.components = Components()
        self._port = settings.free_port()
        self._parallelism = parallelism
        self._progress = progress
        self._rest = RestClient(f"http://127.0.0.1:{self._port}")

    @property
    def url(self) -> str:
        """Where Airflow's UI and API are."""
        return self._rest.url

    @property
    def token(self) -> str:
        """A bearer token of an administrator."""
        return self._rest.token

    def __enter__(self) -> Self:
        try:
            with turn():
                self._start()
        except BaseException as error:
            self.keep = self._note(error)
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is not None and self._note(error):
            self.keep = True
        self.stop()

    def stop(self) -> None:
        """Stop every process, and remove the folder unless it is to be kept."""
        self.components.stop()
        if not self.keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def restart(self, name: str) -> Component:
        """Stop one component, such as ``triggerer``, unless it was stopped before, and start it anew."""
        if name in self.components:
            self.components.stop([name])
        return self._start_component(name)

    def cli(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """
        Run an ``airflow`` command in this home.

        :raises AirflowHomeError: it failed and ``check`` is set; the message has its output.
        """
        done = subprocess.run(
            [self.venv / "bin" / "airflow", *arguments],
            env=self.env,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode != 0:
            raise AirflowHomeError(
                f"airflow {' '.join(arguments)} exited with {done.returncode}:\n{done.stdout}{done.stderr}"
            )
        return done

    def request(self, method: str, path: str, json: Any = None) -> Any:
        """
        Ask Airflow's public API.

        :param path: below ``/api/v2``, such as ``/dags``.
        :raises ApiError: Airflow refused.
        :raises ComponentDiedError: Airflow did not answer because one of its components is gone.
        """
        with self._explained():
            return self._rest.request(method, f"/api/v2{path}", json)

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None, run_id: str | None = None) -> str:
        """
        Start a run of a DAG, as soon as its file is parsed.

        :returns: the id of the run.
        :raises DagBrokenError: a DAG file cannot be imported and the DAG is unknown.
        """
        self.wait_for_dag(dag_id)
        run_id = run_id or f"run_{uuid4().hex[:12]}"
        self.request(
            "POST",
            f"/dags/{quote(dag_id)}/dagRuns",
            {"dag_run_id": run_id, "logical_date": None, "conf": dict(conf or {})},
        )
        return run_id

    def wait_for_dag(self, dag_id: str, *, timeout: float = 120.0) -> None:
        """
        Return when Airflow knows the DAG.

        :raises DagBrokenError: it does not, and a DAG file cannot be imported.
        """

        def known() -> bool:
            try:
                self.request("GET", f"/dags/{quote(dag_id)}")
            except ApiError as error:
                if error.status != 404:
                    raise
            else:
                return True
            if broken := self.request("GET", "/importErrors")["import_errors"]:
                raise DagBrokenError(
                    "\n".join(
                        [f"no DAG {dag_id}, and these files cannot be imported:"]
                        + [f"{each['filename']}:\n{each['stack_trace']}" for each in broken]
                    )
                )
            return False

        self._until(known, f"DAG {dag_id} in {', '.join(map(str, self.dags))}", timeout=timeout)

    def wait(
        self,
        dag_id: str,
        run_id: str,
        *,
        expect: str | None = "success",
        timeout: float = RUN_SECONDS,
        progress: Callable[[list[dict[str, Any]]], None] | None = None,
    ) -> dict[str, Any]:
        """
        Return when a run is over.

        :param expect: the state in which it has to end; ``None`` for any.
        :param progress: given the task instances again and again while they run.
        :returns: the run as the API describes it.
        :raises RunFailedError: it ended otherwise; the message has the logs of the tasks that failed.
        """
        path = f"/dags/{quote(dag_id)}/dagRuns/{quote(run_id)}"
        run: dict[str, Any] = {}

        def over() -> bool:
            run.update(self.request("GET", path))
            if progress is not None:
                progress(self.task_instances(dag_id, run_id))
            return run["state"] in DONE_STATES

        self._until(over, f"run {run_id} of {dag_id}", timeout=timeout)
        if expect is not None and run["state"] != expect:
            raise RunFailedError(self._explain_run(dag_id, run_id, run["state"], expect))
        return run

    def run(self, dag_id: str, conf: Mapping[str, Any] | None = None, **wait: Any) -> str:
        """Trigger a DAG, wait for its success, and give the id of the run."""
        run_id = self.trigger(dag_id, conf)
        self.wait(dag_id, run_id, **wait)
        return run_id

    def wait_for_state(
        self, dag_id: str, run_id: str, task_id: str, state: str, *, map_index: int = -1, timeout: float = RUN_SECONDS
    ) -> dict[str, Any]:
        """
        Return when a task instance has reached a state, such as ``running`` or ``deferred``.

        :raises RunFailedError: it ended in another one.
        """
        found: dict[str, Any] = {}

        def reached() -> bool:
            for instance in self.task_instances(dag_id, run_id, task_id):
                if instance["map_index"] == map_index:
                    found.update(instance)
            if found.get("state") != state and found.get("state") in DONE_TASK_STATES:
                raise RunFailedError(self._explain_run(dag_id, run_id, f"{task_id} {found['state']}", state))
            return found.get("state") == state

        self._until(reached, f"task {task_id} of run {run_id} of {dag_id} to be {state}", timeout=timeout)
        return found

    def task_instances(self, dag_id: str, run_id: str, task_id: str | None = None) -> list[dict[str, Any]]:
        """List the task instances of a run, mapped ones each on its own."""
        path = f"/dags/{quote(dag_id)}/dagRuns/{quote(run_id)}/taskInstances"
        instances: list[dict[str, Any]] = []
        while True:
            page = self.request("GET", f"{path}?limit=100&offset={len(instances)}")
            instances += page["task_instances"]
            if not page["task_instances"] or len(instances) >= page["total_entries"]:
                return [each for each in instances if task_id in (None, each["task_id"])]

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """
        Give the raw JSON of an XCom row, as the UI shows it; no backend takes part.

        :raises ApiError: there is no such row (status 404).
        """
        query = urllib.parse.urlencode({"map_index": map_index, "deserialize": "false", "stringify": "false"})
        path = f"{self._instance(dag_id, run_id, task_id)}/xcomEntries/{quote(key)}?{query}"
        return self.request("GET", path)["value"]

    def xcom_keys(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> list[str]:
        """List the keys that a task instance has written."""
        entries = self.request("GET", f"{self._instance(dag_id, run_id, task_id)}/xcomEntries?limit=100")
        return [each["key"] for each in entries["xcom_entries"] if each["map_index"] == map_index]

    def clear(
        self, dag_id: str, run_id: str, task_ids: Sequence[str | tuple[str, int]] | None = None, **options: bool
    ) -> None:
        """
        Clear tasks, all by default, so that they run again.

        :param task_ids: names, or pairs of name and map index.
        :param options: of the API, such as ``include_downstream=True``.
        """
        body: dict[str, Any] = {"dry_run": False, "only_failed": False, "dag_run_id": run_id, **options}
        if task_ids is not None:
            body["task_ids"] = task_ids
        self.request("POST", f"/dags/{quote(dag_id)}/clearTaskInstances", body)

    def log(
        self, dag_id: str, run_id: str, task_id: str, map_index: int = -1, try_number: int | None = None
    ) -> list[dict[str, Any]]:
        """
        Give the log of a task instance: for each event at least ``event``, mostly also ``level`` and ``logger``.

        :param try_number: the attempt; by default the last.
        """
        if try_number is None:
            tries = [
                each["try_number"]
                for each in self.task_instances(dag_id, run_id, task_id)
                if each["map_index"] == map_index
            ]
            try_number = max(tries, default=1)
        path = f"{self._instance(dag_id, run_id, task_id)}/logs/{try_number}?map_index={map_index}&full_content=true"
        content = self.request("GET", path)["content"]
        return [{"event": each} if isinstance(each, str) else each for each in content]

    def trigger_speaks(self, dag_id: str, run_id: str, task_id: str) -> bool:
        """Whether the trigger of a deferred task has logged anything since it was last started."""
        events = [str(line["event"]) for line in self.log(dag_id, run_id, task_id)]
        # Which logger a line is of, Airflow says from 3.2 on.
        starts = [number for number, event in enumerate(events) if re.fullmatch(r"trigger .* starting", event)]
        return bool(starts) and starts[-1] < len(events) - 1

    def _start(self) -> None:
        steps = ["database", "api-server", "execution API", *HEALTH]
        up: list[str] = []

        def is_up(step: str) -> None:
            up.append(step)
            self._progress(Progress(len(up), len(steps), step))

        self._progress(Progress(0, len(steps), ""))
        for name in ("dags", "plugins", "logs", "components"):
            (self.folder / name).mkdir(exist_ok=True)
        database.create(self.venv, self.folder)
        settings.write_cfg(
            self.folder / "airflow.cfg",
            settings.airflow_cfg(folder=self.folder, dags=self.dags, port=self._port, parallelism=self._parallelism),
        )
        is_up("database")
        for name in COMMANDS:
            self._start_component(name)

        self._until(self._answers, "the API server", timeout=START_SECONDS)
        is_up("api-server")
        # The first request builds every version of the execution API, which takes longer than a task would wait.
        with self._explained():
            self._rest.get("/execution/health", authenticated=False, timeout=START_SECONDS)
        is_up("execution API")

        def healthy() -> bool:
            health = self.request("GET", "/monitor/health")
            for component, name in HEALTH.items():
                if component not in up and (health.get(name) or {}).get("status") == "healthy":
                    is_up(component)
            return up_to_all()

        def up_to_all() -> bool:
            return len(up) == len(steps)

        self._until(healthy, "scheduler, DAG processor and triggerer to be healthy", timeout=START_SECONDS)

    def _start_component(self, name: str) -> Component:
        command = [str(self.venv / "bin" / "airflow"), *COMMANDS[name]]
        return self.components.start(name, command, env=self.env, log=self.folder / "components" / f"{name}.log")

    def _answers(self) -> bool:
        try:
            self._rest.get("/api/v2/version", authenticated=False, timeout=5.0)
        except OSError:
            return False
        return True

    def _until(self, condition: Callable[[], bool], what: str, *, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            self.components.check()
            if time.monotonic() > deadline:
                raise WaitTimeoutError(f"waited {timeout:.0f} s in vain for {what}")
            time.sleep(0.2)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """When Airflow does not answer, a component that died is the better explanation."""
        try:
            yield
        except (OSError, ApiError):
            self.components.check()
            raise

    def _instance(self, dag_id: str, run_id: str, task_id: str) -> str:
        return f"/dags/{quote(dag_id)}/dagRuns/{quote(run_id)}/taskInstances/{quote(task_id)}"

    def _explain_run(self, dag_id: str, run_id: str, state: str, expect: str) -> str:
        lines = [f"run {run_id} of {dag_id} is {state}, not {expect}"]
        instances = self.task_instances(dag_id, run_id)
        lines += [f"  {each['task_id']}[{each['map_index']}] {each['state']}" for each in instances]
        for each in [each for each in instances if each["state"] == "failed"][:3]:
            lines.append(f"the end of the log of {each['task_id']}[{each['map_index']}]:")
            for entry in self.log(dag_id, run_id, each["task_id"], each["map_index"])[-15:]:
                # Airflow logs what a task returns, whole frames if need be.
                lines.append(f"    {entry['event'].partition(chr(10))[0][:200]}")
                for error in entry.get("error_detail") or ():
                    where = [f"{frame['filename']}:{frame['lineno']}" for frame in (error.get("frames") or ())[-1:]]
                    lines.append(" ".join([f"        {error.get('exc_type')}: {error.get('exc_value')}", *where]))
        return "\n".join(lines)

    def _note(self, error: BaseException) -> bool:
        """Say in an error where the logs are; a user who interrupts does not want them."""
        if isinstance(error, KeyboardInterrupt | SystemExit):
            return False
        error.add_note(f"the logs of this Airflow are in {self.folder}")
        return True
