"""Operators that run jobs on Ray clusters."""

from __future__ import annotations

import time
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, cast

from airflow.sdk import BaseOperator

from airfreight.errors import ConflictError, InvalidError, ObjectLostError, ObjectNotFoundError
from airfreight.operators.ray_cluster import (
    CLUSTER_TIMEOUT_SECONDS,
    KUBERAY_VERSION,
    DeleteRayCluster,
    SetupRayCluster,
    asked,
    await_cluster,
    folder,
    guard,
    plain,
    prepare,
)
from airfreight.operators.templated import mapping, number
from airfreight.ray import versions
from airfreight.ray.job import LIVE_STATUSES, RayJobFailedError, moment
from airfreight.ray.links import URL_KEY, RayJobLink

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow.sdk import Context

    from airfreight._remote import RayClient
    from airfreight.hooks.ray import RayHook
    from airfreight.ray.attempt import Attempt
    from airfreight.ray.kubernetes import KubeCluster
    from airfreight.ray.warm import Calls

__all__ = ["DeleteRayCluster", "SetupRayCluster", "SubmitRayJob"]

#: A trigger that fires at once can overtake the scheduler's note of the deferral, which then fails the task; so the
#: worker waits so long for short jobs itself.
_BRIEF_WAIT_SECONDS = 5.0

#: How long a job of a cleared attempt may take to stop before its successor gives up.
_STOP_SECONDS = 60.0


class SubmitRayJob(BaseOperator):
    """
    Runs a job on a Ray cluster and waits for it, without Ray on the worker.

    There is exactly one job per attempt: an attempt whose worker has vanished leaves a job that the next attempt takes
    over; a retry after a failure submits a new one; clearing the task stops the old one first.

    The task returns the job's id and pushes the XComs ``ray_job_id``, ``ray_job_url``, ``ray_job_status``,
    ``ray_job_start`` and ``ray_job_end`` (ISO 8601, UTC).

    :param conn_id: the Airflow connection, of the type ``ray``.
    :param entrypoint: the shell command that Ray runs.
    :param runtime_env: Ray's runtime environment. Local directories and zips in ``working_dir`` and ``py_modules`` are
        uploaded; relative ones start from the DAG file's folder.
    :param num_cpus: CPUs for the entry point; by default what the connection says, else 0.
    :param num_gpus: GPUs for the entry point, likewise.
    :param memory: bytes for the entry point, likewise.
    :param resources: custom resources for the entry point, likewise.
    :param ray_cluster_yaml: a cluster for this task alone, as :class:`SetupRayCluster` has it: it is deleted when the
        task is over, however that ends, and taken over by the next attempt if the worker has vanished. With
        ``metadata.generateName`` in place of ``name``, tasks can run side by side. A cluster of this name that was
        there before is used and stays.
    :param kuberay_version: as for :class:`SetupRayCluster`.
    :param update_if_exists: likewise.
    :param gpu_device_plugin_yaml: likewise.
    :param fetch_logs: copy the job's log into the task's log while it grows.
    :param wait_for_completion: ``False`` submits the job and leaves it running.
    :param job_timeout_seconds: the job is stopped and the task fails after so many seconds; 0 for never.
    :param poll_interval: taken for the sake of DAGs written for astronomer's provider; how often Ray is asked follows
        from how many jobs are watched.
    :param xcom_task_key: ``task.key``, or the ``key`` of an XCom of this task, with the URL of another dashboard than
        the connection's.
    :param submission_id: the job's id in Ray instead of one made from the names of DAG and task. From the second
        attempt on, its number is added.
    :param metadata: texts that Ray keeps with the job, on top of DAG, run, task and attempt.
    :param label_selector: labels of the Ray nodes on which the entry point may run (Ray 2.54 and later).
    :param entrypoint_num_cpus: Ray's own name of ``num_cpus``; likewise the other three.
    :param on_kill: ``stop`` the job when a user kills the task or its time is over, or ``leave`` it.
    :param deferrable: wait in the triggerer; by default as ``[operators] default_deferrable`` says. Airflow 3.0 always
        waits in the worker.
    :param working_dir: short for ``runtime_env={"working_dir": …}``.
    :param cluster_timeout_seconds: how long a cluster may take until it serves.
    """

    template_fields: Sequence[str] = (
        "conn_id",
        "entrypoint",
        "runtime_env",
        "num_cpus",
        "num_gpus",
        "memory",
        "ray_resources",
        "xcom_task_key",
        "ray_cluster_yaml",
        "job_timeout_seconds",
        "submission_id",
        "metadata",
        "label_selector",
        "working_dir",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "entrypoint": "bash",
        "ray_cluster_yaml": "yaml",
        "runtime_env": "json",
        "ray_resources": "json",
        "metadata": "json",
        "label_selector": "json",
    }
    operator_extra_links = (RayJobLink(),)
    ui_color = "#d5e8f8"

    def __init__(
        self,
        *,
        entrypoint: str,
        conn_id: str = "ray_default",
        runtime_env: dict[str, Any] | str | None = None,
        num_cpus: float | str | None = None,
        num_gpus: float | str | None = None,
        memory: float | str | None = None,
        resources: dict[str, Any] | str | None = None,
        ray_cluster_yaml: str | dict[str, Any] | None = None,
        kuberay_version: str | None = KUBERAY_VERSION,
        update_if_exists: bool = True,
        gpu_device_plugin_yaml: str | dict[str, Any] = "",
        fetch_logs: bool = True,
        wait_for_completion: bool = True,
        job_timeout_seconds: float | str = 600,
        poll_interval: float = 60,
        xcom_task_key: str | None = None,
        submission_id: str | None = None,
        metadata: dict[str, str] | str | None = None,
        label_selector: dict[str, str] | str | None = None,
        entrypoint_num_cpus: float | str | None = None,
        entrypoint_num_gpus: float | str | None = None,
        entrypoint_memory: float | str | None = None,
        entrypoint_resources: dict[str, Any] | str | None = None,
        on_kill: str = "stop",
        deferrable: bool | None = None,
        working_dir: str | None = None,
        cluster_timeout_seconds: float = CLUSTER_TIMEOUT_SECONDS,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if on_kill not in ("stop", "leave"):
            raise InvalidError(f"on_kill={on_kill!r} is neither 'stop' nor 'leave'")
        self.conn_id = conn_id
        self.entrypoint = entrypoint
        self.runtime_env = runtime_env
        self.num_cpus = num_cpus if entrypoint_num_cpus is None else entrypoint_num_cpus
        self.num_gpus = num_gpus if entrypoint_num_gpus is None else entrypoint_num_gpus
        self.memory = memory if entrypoint_memory is None else entrypoint_memory
        # `resources` of an operator is something of Airflow's own.
        self.ray_resources = resources if entrypoint_resources is None else entrypoint_resources
        self.ray_cluster_yaml = ray_cluster_yaml
        #: Whether the DAG itself names the version.
        self.installs = asked(kuberay_version)
        self.kuberay_version = kuberay_version if self.installs else plain(kuberay_version)
        self.update_if_exists = update_if_exists
        self.gpu_device_plugin_yaml = gpu_device_plugin_yaml
        self.fetch_logs = fetch_logs
        self.wait_for_completion = wait_for_completion
        self.job_timeout_seconds = job_timeout_seconds
        self.poll_interval = poll_interval
        self.xcom_task_key = xcom_task_key
        self.submission_id = submission_id
        self.metadata = metadata
        self.label_selector = label_selector
        self.kill_action = on_kill
        self.deferrable = versions.default_deferrable() if deferrable is None else deferrable
        self.working_dir = working_dir
        self.cluster_timeout_seconds = cluster_timeout_seconds
        #: The cluster on Kubernetes that the task has found or made.
        self.cluster: KubeCluster | None = None
        #: The dashboard that ``xcom_task_key`` names, or the cluster's.
        self.dashboard_url: str | None = None
        #: The job of this attempt, as soon as Ray may know it.
        self.job_id = ""
        #: Its page in the Ray dashboard.
        self.job_url = ""
        #: The runner's calls of this DAG run, if the work is one of them.
        self.calls: Calls | None = None
        self._killed = False
        self._timed_out = False

    @cached_property
    def hook(self) -> RayHook:
        """The connection."""
        from airfreight.hooks.ray import RayHook

        return RayHook(self.conn_id)

    @cached_property
    def client(self) -> RayClient:
        """The cluster."""
        return self.hook.ray_client(self.dashboard_url)

    def execute(self, context: Context) -> Any:
        """Submit the job or take over the one there is, and wait for it."""
        with versions.no_retry_in_vain(), guard(self):
            if self.ray_cluster_yaml:
                self._set_up(context)
            result = self._execute(context)
        self._leave()
        return result

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> Any:
        """Go on after the trigger has seen the end of the job, or the beginning of its cluster."""
        from airfreight.ray import kubernetes

        end = dict(event or {})
        with versions.no_retry_in_vain(), guard(self):
            self._take_cluster(end)
            result = self._execute(context) if end.get("status") == kubernetes.READY else self._complete(context, end)
        self._leave()
        return result

    def _take_cluster(self, end: Mapping[str, Any]) -> None:
        from airfreight.ray import kubernetes

        if fields := end.get("cluster"):
            self.cluster = kubernetes.KubeCluster(**fields)

    def _execute(self, context: Context) -> Any:
        self.dashboard_url = self._dashboard_url(context)
        return self._run(context)

    def _complete(self, context: Context, end: Mapping[str, Any]) -> Any:
        from airfreight.ray import waiting

        self.dashboard_url = self._dashboard_url(context)
        self.job_id = str(end.get("job_id") or "")
        if owner := end.get("owner"):
            self.calls = self._calls_of(str(owner))
        if self.job_id:
            self.job_url = self._page()
            waiting.copy_rest(self.place, end, self.log, is_killed=lambda: self._killed)
        return self._conclude(context, end)

    @property
    def place(self) -> RayClient | Calls:
        """Where the work runs: as a job of the cluster, or as a call of its runner."""
        return self.client if self.calls is None else self.calls

    def on_kill(self) -> None:
        """Stop the job, or leave it: the task is killed while its worker waits. Its own cluster goes with it."""
        self._killed = True
        if self.cluster is not None and self.cluster.is_ours and not self._is_left:
            self.tear_down()
            return
        if not self.job_id:
            return
        if self.kill_action == "leave":
            self.log.warning("Ray job %s goes on, as on_kill='leave' wishes", self.job_id)
            return
        self.log.warning("stopping Ray job %s: the task was killed", self.job_id)
        self.place.stop(self.job_id)

    def tear_down(self) -> None:
        """Delete the task's own cluster, unless its job is to go on there."""
        from airfreight.ray import kubernetes

        cluster = self.cluster
        if cluster is None or not cluster.is_ours:
            return
        if self._is_left:
            self.log.warning("RayCluster %s goes on, as on_kill='leave' wishes for the job in it", cluster)
            return
        self.cluster = None
        kubernetes.delete(self.hook.connection, cluster, self.log, is_killed=self._killed)

    def _leave(self) -> None:
        """The task has succeeded."""
        if self.wait_for_completion:
            self.tear_down()

    @property
    def _is_left(self) -> bool:
        """Whether a job goes on that nobody waits for any more."""
        return (self._killed or self._timed_out) and bool(self.job_id) and self.kill_action == "leave"

    def _set_up(self, context: Context) -> None:
        """Have the task's own cluster serve, or defer until it does."""
        from airfreight.ray import kubernetes, waiting
        from airfreight.ray.attempt import Attempt

        attempt = Attempt.of(context)
        description = kubernetes.describe(self.ray_cluster_yaml or {}, folder(context), attempt.task)
        prepare(self, context)
        if not self.wait_for_completion:
            self.log.warning("nobody waits for the job, so its cluster stays: DeleteRayCluster deletes it")
        self.cluster = kubernetes.apply(
            self.hook.connection,
            description,
            update=bool(self.update_if_exists),
            attempt=attempt if self.wait_for_completion else None,
            tell=self.log,
        )
        if self._killed:
            raise waiting.Interrupted
        await_cluster(self, context, self.cluster, lambda: self._killed)

    def _page(self) -> str:
        """The page of the work in the Ray dashboard; empty where the dashboard can be reached from here only."""
        return "" if self.client.is_forwarded else self.place.job_url(self.job_id)

    # What `@task.ray` does differently.

    def _choose(self, attempt: Attempt) -> Calls | None:  # noqa: ARG002
        """Where to run what is submitted from now on: as a call of a runner, or as a job."""
        return None

    def _places(self, attempt: Attempt) -> Iterator[RayClient | Calls]:  # noqa: ARG002
        """Where earlier attempts may have left something that runs."""
        yield self.client

    def _submission(self, context: Context, client: RayClient) -> dict[str, Any]:
        """The job to submit, without its id and metadata; asked for only when one is really submitted."""
        defaults = self.hook.connection.defaults
        resources = mapping("resources", self.ray_resources)
        submission: dict[str, Any] = {
            "entrypoint": self.entrypoint,
            "entrypoint_num_cpus": number("num_cpus", self.num_cpus, defaults),
            "entrypoint_num_gpus": number("num_gpus", self.num_gpus, defaults),
            "entrypoint_memory": number("memory", self.memory, defaults),
            "entrypoint_resources": defaults.get("resources") if resources is None else resources,
            "entrypoint_label_selector": mapping("label_selector", self.label_selector),
        }
        if submission["entrypoint_memory"]:
            submission["entrypoint_memory"] = int(submission["entrypoint_memory"])
        if environment := self._environment(defaults.get("runtime_env") or {}):
            submission["runtime_env"] = client.resolve_runtime_env(environment, folder(context))
        return {key: value for key, value in submission.items() if value}

    def _result(self, context: Context, client: RayClient, job: Mapping[str, Any]) -> Any:  # noqa: ARG002
        """What the task returns after its job has succeeded."""
        return self.job_id

    def _failure(self, context: Context, client: RayClient, job: Mapping[str, Any]) -> Exception:  # noqa: ARG002
        """What the task raises after its job has failed or was stopped."""
        return RayJobFailedError(job)

    # The rest is one life cycle for both ways of waiting.

    def _run(self, context: Context) -> Any:
        from airfreight.ray.attempt import Attempt

        client = self.client
        cluster = client.cluster()
        attempt = Attempt.of(context)
        self.calls = chosen = self._choose(attempt)
        job = self._begin(context, attempt)
        self.job_url = self._page()
        self._push(context, ray_job_id=self.job_id, **{URL_KEY: self.job_url or None})
        if not self.wait_for_completion:
            job = job or self.place.job(self.job_id) or {}
            self._push(context, ray_job_status=job.get("status"), ray_job_start=moment(job.get("start_time")))
            return self.job_id
        end = self._wait(context, job, cluster.get("session_name"))
        try:
            return self._conclude(context, end)
        except (ObjectLostError, ObjectNotFoundError) as error:
            if self.job_id == self._id(attempt):
                raise
            self.log.warning("the result of Ray job %s is gone, running it again: %s", self.job_id, error)
        self.calls = chosen
        self._submit(context, attempt)
        self.job_url = self._page()
        self._push(context, ray_job_id=self.job_id, **{URL_KEY: self.job_url or None})
        return self._conclude(context, self._wait(context, None, cluster.get("session_name")))

    def _begin(self, context: Context, attempt: Attempt) -> Mapping[str, Any] | None:
        """
        Take over the job that this attempt finds, or submit one.

        :returns: what Ray says of the job that was taken over.
        """
        if attempt.try_number > 1 and (job := self._take(attempt)) is not None:
            return job
        try:
            self._submit(context, attempt)
        except ConflictError as conflict:
            # Airflow may run the same try again when it loses an executor.
            job = self.place.job(self._id(attempt))
            if job is None or attempt.plan([job]).take is None:
                if job is not None and attempt.submitted(job):
                    raise RayJobFailedError(job) from conflict
                raise InvalidError(
                    f"Ray knows a job {self._id(attempt)} already, and it is not this attempt's",
                    "make submission_id differ from run to run, for example with {{ run_id }}",
                ) from conflict
            return self._adopt(self.place, job)
        return None

    def _take(self, attempt: Attempt) -> Mapping[str, Any] | None:
        found = [(place, job) for place in self._places(attempt) for job in place.jobs()]
        plan = attempt.plan(job for _, job in found)
        for place, job in found:
            if job.get("submission_id") in plan.stop:
                self._stop_old(place, str(job["submission_id"]))
        if plan.take is None:
            return None
        taken = (plan.take.submission_id, plan.take.status)
        return self._adopt(
            *next(each for each in found if (each[1].get("submission_id"), each[1].get("status")) == taken)
        )

    def _adopt(self, place: RayClient | Calls, job: Mapping[str, Any]) -> Mapping[str, Any]:
        self.calls = None if place is self.client else cast("Calls", place)
        self.job_id = str(job["submission_id"])
        if job.get("status") in LIVE_STATUSES:
            self.log.info("taking over Ray job %s of an earlier attempt, which is %s", self.job_id, job.get("status"))
        else:
            self.log.info("taking the result of Ray job %s of an earlier attempt", self.job_id)
        return job

    def _stop_old(self, place: RayClient | Calls, submission_id: str) -> None:
        """Stop the job of a cleared attempt, and wait until it is over: two must not run at once."""
        from airfreight.ray import waiting

        self.log.warning("stopping Ray job %s: its task was cleared", submission_id)
        place.stop(submission_id)
        give_up = time.monotonic() + _STOP_SECONDS
        pause = 0.1
        while (job := place.job(submission_id)) is not None and job.get("status") == "RUNNING":
            if self._killed:
                raise waiting.Interrupted
            if time.monotonic() > give_up:
                raise ConflictError(
                    f"Ray job {submission_id} of a cleared attempt does not stop",
                    "look at it in the Ray dashboard; the task can be retried when it is over",
                )
            time.sleep(pause)
            pause = min(2 * pause, 2.0)

    def _id(self, attempt: Attempt) -> str:
        return attempt.named(self.submission_id) if self.submission_id else attempt.submission_id

    def _submit(self, context: Context, attempt: Attempt) -> None:
        place = self.place
        submission = self._submission(context, self.client)
        submission["submission_id"] = job_id = self._id(attempt)
        submission["metadata"] = {
            **self.hook.connection.metadata,
            **{str(key): str(value) for key, value in (mapping("metadata", self.metadata) or {}).items()},
            **attempt.metadata(),
        }
        # Before Ray has it, so that a kill meanwhile finds it.
        self.job_id = job_id
        try:
            place.submit(submission)
        except ConflictError:
            self.job_id = ""
            raise
        if self._killed:
            self.on_kill()
        self.log.info("submitted Ray job %s", job_id)

    def _wait(self, context: Context, job: Mapping[str, Any] | None, session: str | None) -> dict[str, Any]:
        from airfreight.ray import waiting

        defers = self.deferrable and versions.can_defer()
        deadline = self._deadline(context, job)
        with self.place.watch(self.job_id, logs=self.fetch_logs, session=session, deadline=deadline) as watch:
            until = time.monotonic() + _BRIEF_WAIT_SECONDS if defers else None
            end = waiting.wait(
                self.place,
                watch,
                self.log,
                until=until,
                is_killed=lambda: self._killed,
                stops=self.kill_action != "leave",
            )
        if end is None:
            # A closed watch says exactly where it has stopped.
            self._defer(context, cursor=watch.cursor, session=session, deadline=deadline)
        return end

    def _defer(self, context: Context, *, cursor: str, session: str | None, deadline: float | None) -> NoReturn:
        from dataclasses import asdict

        from airfreight.deferral import defer
        from airfreight.ray.supervisor import CURSOR_KEY, Waiting, place
        from airfreight.triggers.ray import RayJobTrigger

        waiting = Waiting.of(context["ti"])
        if self.fetch_logs:
            # The trigger looks for it; Airflow calls it an error if there is nothing.
            context["ti"].xcom_push(key=CURSOR_KEY, value=place(waiting, self.job_id, cursor, complete=True))
        defer(
            self,
            context["ti"],
            RayJobTrigger(
                job_id=self.job_id,
                conn_id=self.conn_id,
                xcom_dashboard_url=self.dashboard_url,
                poll_interval=self.poll_interval,
                fetch_logs=self.fetch_logs,
                cursor=cursor,
                deadline=deadline,
                on_kill=self.kill_action,
                session=session,
                attempt=asdict(waiting),
                owner=None if self.calls is None else self.calls.owner,
                cluster=None if self.cluster is None else self.cluster.plain(),
            ),
        )

    def _conclude(self, context: Context, end: Mapping[str, Any]) -> Any:
        """Say how the job ended, and return or raise what follows from it."""
        from airfreight.ray import waiting

        status = str(end.get("status"))
        if status not in ("SUCCEEDED", "FAILED", "STOPPED"):
            self._push(context, ray_job_status=status)
            self._timed_out = status == waiting.TIMEOUT
            waiting.raise_for(end)
        client = self.client
        job = self.place.job(self.job_id) or {"submission_id": self.job_id, "status": status, **(end.get("job") or {})}
        self._push(
            context,
            ray_job_status=status,
            ray_job_start=moment(job.get("start_time")),
            ray_job_end=moment(job.get("end_time")),
        )
        if status != "SUCCEEDED":
            raise self._failure(context, client, job)
        return self._result(context, client, job)

    def _calls_of(self, owner: str) -> Calls:
        from airfreight.ray import plane
        from airfreight.ray.warm import Calls

        return Calls(self.client, plane.runner(self.hook.connection, self.client), owner)

    def _push(self, context: Context, **values: Any) -> None:
        if not self.do_xcom_push:
            return
        for key, value in values.items():
            if value is not None:
                context["ti"].xcom_push(key=key, value=value)

    def _dashboard_url(self, context: Context) -> str | None:
        if self.cluster is not None:
            return self.cluster.reference
        if not self.xcom_task_key:
            return None
        task_id, _, key = self.xcom_task_key.rpartition(".")
        task_instance = context["ti"]
        url = task_instance.xcom_pull(task_ids=task_id or task_instance.task_id, key=key)
        if not url:
            raise InvalidError(
                f"there is no XCom {self.xcom_task_key}, which xcom_task_key names, with the URL of a Ray dashboard",
                "write `task.key`, or leave xcom_task_key away to use the connection's address",
            )
        return str(url)

    def _environment(self, defaults: Mapping[str, Any]) -> dict[str, Any]:
        own = mapping("runtime_env", self.runtime_env) or {}
        environment = {**defaults, **own}
        if defaults.get("env_vars") and own.get("env_vars"):
            environment["env_vars"] = {**defaults["env_vars"], **own["env_vars"]}
        if self.working_dir:
            environment["working_dir"] = self.working_dir
        return environment

    def _deadline(self, context: Context, job: Mapping[str, Any] | None) -> float | None:
        """When the job's time is over: counted from its submission, whoever has waited for it since."""
        seconds = number("job_timeout_seconds", self.job_timeout_seconds, {}) or 0.0
        limits = []
        began = time.time()
        if seconds > 0:
            # A job that is left alone when its time is over would else fail every attempt that takes it over.
            is_old = job is not None and job.get("start_time") and self.kill_action != "leave"
            limits.append((job["start_time"] / 1000 if job is not None and is_old else began) + seconds)
        if self.execution_timeout is not None and (started := context["ti"].start_date) is not None:
            # Airflow doesn't count the time in which a task is deferred.
            limits.append(started.timestamp() + self.execution_timeout.total_seconds())
        return min(limits, default=None)
