"""The operator that runs jobs on Apolo (formerly neu.ro)."""

from __future__ import annotations

import time
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from airflow.sdk import BaseOperator

from airfreight.apolo.job import EX_PLATFORMERROR, JobFailed, exit_code, result
from airfreight.apolo.links import JOB_KEY, BrowseLink
from airfreight.apolo.types import (
    DiskVolume,
    JobDescription,
    JobStatus,
    RemoteImage,
    Resources,
    SecretFile,
    Volume,
)
from airfreight.errors import InvalidError, UnavailableError
from airfreight.ray import versions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import timedelta

    from airflow.sdk import Context

    from airfreight._remote import ApoloClient
    from airfreight.hooks.apolo import ApoloHook
    from airfreight.ray.attempt import Attempt

__all__ = [
    "EX_PLATFORMERROR",
    "ApoloRunOperator",
    "BrowseLink",
    "DiskVolume",
    "JobDescription",
    "JobFailed",
    "JobStatus",
    "RemoteImage",
    "Resources",
    "SecretFile",
    "Volume",
]

#: A trigger that fires at once can overtake the scheduler's note of the deferral, which then fails the task; so the
#: worker waits so long for short jobs itself.
_BRIEF_WAIT_SECONDS = 5.0

#: Airflow kills a worker five seconds after it has asked it to end.
_KILL_SECONDS = 3.0


class ApoloRunOperator(BaseOperator):
    """
    Runs a job on Apolo: and waits until it has started, or with ``job_detach=False`` until it is over.

    There is exactly one job per attempt: an attempt whose worker has vanished leaves a job that the next attempt takes
    over; a retry after a failure creates a new one; clearing the task cancels the old one first.

    The task returns ``{"id", "exit_code", "status", "http_url"}``, and pushes the same as the XCom ``assigned_job`` as
    soon as the job is created.

    :param job_command: what the container runs; split as a shell splits it, but run without one.
    :param job_image: ``ubuntu:24.04``, ``image:mine:1`` or a ``RemoteImage``.
    :param job_volumes: ``storage:PATH:/MOUNT[:ro]``, ``disk:NAME:/MOUNT[:ro]``, ``secret:NAME:/MOUNT``, or ``Volume``,
        ``DiskVolume``, ``SecretFile``.
    :param job_name: a name that no other live job of the project has.
    :param job_resources_preset: the cluster's preset that says what the job gets; in place of ``job_resources``.
    :param job_resources: what the job gets; in place of a preset.
    :param job_is_preemptible: whether the platform may take the node away for a while; with ``job_resources`` only:
        else the preset decides.
    :param job_extshm: whether ``/dev/shm`` is as large as the memory allows; with a preset only.
    :param job_tags: tags beside the two that Airfreight gives each job.
    :param job_description: a description for people.
    :param job_lifespan: seconds after which the platform ends the job; rounded up to minutes.
    :param job_environ: environment variables; ``secret:NAME`` is the secret's value.
    :param job_entrypoint: in place of the image's.
    :param job_http_port: the port that the job serves HTTP on.
    :param job_http_auth: whether who opens that port's URL must be logged in.
    :param job_tty: whether the container has a terminal.
    :param job_detach: whether the task ends when the job has started; ``False``: when it is over, with its log.
    :param apolo_conn_id: the Airflow connection.
    :param kill_on_error: whether the job is cancelled when a user kills the task or its time is over, when the task is
        cleared, and when it fails while the job lives.
    :param raise_on_errno: whether a job that doesn't succeed fails the task; else the task returns its exit code, 125
        where the platform has none.
    :param job_kw: taken for the sake of old DAGs; without effect, as ever.
    :param job_secret_environ: environment variables with the values of secrets: ``{"NAME": "secret:name"}``.
    :param job_restart_policy: ``never``, ``on-failure`` or ``always``: what the platform does when the container ends.
    :param job_schedule_timeout: seconds for which the job may wait for a node.
    :param job_priority: ``low``, ``normal`` or ``high``.
    :param job_pass_config: whether the job gets the platform's credentials of its owner.
    :param job_working_dir: the container's working directory.
    :param job_wait_for_quota: whether the job waits where a quota of jobs is used up, in place of failing.
    :param job_cluster: another cluster than the connection's.
    :param job_org: another organisation than the connection's.
    :param job_project: another project than the connection's.
    :param deferrable: wait in the triggerer. By default a detached job's start is waited for there when Airflow says
        that a triggerer is healthy, and everything else as ``[operators] default_deferrable`` says. Airflow 3.0 always
        waits in the worker.
    :param poll_interval: seconds between two questions of the triggerer's.
    :param reattach: whether an attempt takes over the job that an earlier one has left; else it cancels that one.
    """

    template_fields: Sequence[str] = (
        "job_command",
        "job_image",
        "job_volumes",
        "job_name",
        "job_resources_preset",
        "job_tags",
        "job_description",
        "job_environ",
        "job_entrypoint",
        "job_http_port",
        "apolo_conn_id",
        "job_secret_environ",
        "job_working_dir",
        "job_cluster",
        "job_org",
        "job_project",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"job_command": "bash", "job_environ": "json"}
    operator_extra_links = (BrowseLink(),)
    ui_color = "#fafafa"
    ui_fgcolor = "#3c013f"

    def __init__(
        self,
        *,
        job_command: str,
        job_image: str | RemoteImage,
        job_volumes: Sequence[str | Volume | DiskVolume | SecretFile] = (),
        job_name: str | None = None,
        job_resources_preset: str | None = None,
        job_resources: Resources | None = None,
        job_is_preemptible: bool | None = None,
        job_extshm: bool | None = None,
        job_tags: Sequence[str] | None = None,
        job_description: str | None = None,
        job_lifespan: float | timedelta | None = None,
        job_environ: Mapping[str, str] | None = None,
        job_entrypoint: str | None = None,
        job_http_port: int | str | None = None,
        job_http_auth: bool | None = None,
        job_tty: bool | None = None,
        job_detach: bool = True,
        apolo_conn_id: str = "apolo_default",
        kill_on_error: bool = True,
        raise_on_errno: bool = True,
        job_kw: Mapping[str, Any] | None = None,
        job_secret_environ: Mapping[str, str] | None = None,
        job_restart_policy: str | None = None,
        job_schedule_timeout: float | timedelta | None = None,
        job_priority: str | None = None,
        job_pass_config: bool = False,
        job_working_dir: str | None = None,
        job_wait_for_quota: bool = False,
        job_cluster: str | None = None,
        job_org: str | None = None,
        job_project: str | None = None,
        deferrable: bool | None = None,
        poll_interval: float = 5.0,
        reattach: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(job_volumes, str) and "{{" not in job_volumes:
            raise InvalidError("job_volumes is one text", "write a list, even of one volume")
        if job_resources is not None and job_resources_preset is not None:
            raise InvalidError("both job_resources and job_resources_preset are given", "leave one of them away")
        if job_resources is None and job_resources_preset is None:
            raise InvalidError(
                "neither job_resources_preset nor job_resources says what the job gets",
                "`apolo config show` lists the cluster's presets",
            )
        self.job_command = job_command
        self.job_image = job_image
        self.job_volumes = job_volumes
        self.job_name = job_name
        self.job_resources_preset = job_resources_preset
        self.job_resources = job_resources
        self.job_is_preemptible = job_is_preemptible
        self.job_extshm = job_extshm
        self.job_tags = job_tags
        self.job_description = job_description
        self.job_lifespan = job_lifespan
        self.job_environ = job_environ
        self.job_entrypoint = job_entrypoint
        self.job_http_port = job_http_port
        self.job_http_auth = job_http_auth
        self.job_tty = job_tty
        self.job_detach = job_detach
        self.apolo_conn_id = apolo_conn_id
        self.kill_on_error = kill_on_error
        self.raise_on_errno = raise_on_errno
        self.job_kw = job_kw
        self.job_secret_environ = job_secret_environ
        self.job_restart_policy = job_restart_policy
        self.job_schedule_timeout = job_schedule_timeout
        self.job_priority = job_priority
        self.job_pass_config = job_pass_config
        self.job_working_dir = job_working_dir
        self.job_wait_for_quota = job_wait_for_quota
        self.job_cluster = job_cluster
        self.job_org = job_org
        self.job_project = job_project
        self.deferrable = versions.default_deferrable() if deferrable is None else deferrable
        self._defers_with_triggerer = deferrable is None and job_detach
        self.poll_interval = poll_interval
        self.reattach = reattach
        #: The job of this attempt, as it was seen last.
        self.job: dict[str, Any] | None = None
        self._killed = False
        #: Cancelled, or said to go on: once is enough.
        self._is_left = False

    @property
    def conn_id(self) -> str:
        """The Airflow connection."""
        return self.apolo_conn_id

    @cached_property
    def hook(self) -> ApoloHook:
        """The connection's hook."""
        from airfreight.hooks.apolo import ApoloHook

        return ApoloHook(self.conn_id)

    @cached_property
    def client(self) -> ApoloClient:
        """The platform, as this task sees it."""
        return self.hook.connection.client(
            cluster=self.job_cluster or None, org=self.job_org or None, project=self.job_project or None
        )

    def execute(self, context: Context) -> Any:
        """Create the job or take over the one there is, and wait for it."""
        with versions.no_retry_in_vain(), self._leaving_none_behind():
            return self._run(context)

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> Any:  # noqa: ARG002
        """Go on after the trigger has seen what it has waited for."""
        from airfreight.apolo import waiting

        with versions.no_retry_in_vain(), self._leaving_none_behind():
            end = dict(event or {})
            self.job = dict(end.get("job") or {"id": str(end.get("job_id")), "status": "unknown"})
            waiting.copy_rest(self.client, end, self.log, is_killed=lambda: self._killed)
            return self._conclude(end)

    def on_kill(self) -> None:
        """Cancel the job, or leave it: the task is killed while its worker waits."""
        self._killed = True
        self._cancel("the task was killed")

    def spec(self) -> dict[str, Any]:
        """The job in the client's words."""
        from airfreight.apolo import spec

        described: dict[str, Any] = {
            **spec.image(self.job_image),
            "command": self.job_command,
            "entrypoint": self.job_entrypoint,
            "working_dir": self.job_working_dir,
            "http_port": spec.port(self.job_http_port),
            "http_auth": True if self.job_http_auth is None else self.job_http_auth,
            "env": spec.mapping("job_environ", self.job_environ),
            "secret_env": spec.mapping("job_secret_environ", self.job_secret_environ),
            "volumes": spec.volumes(self.job_volumes),
            "tty": True if self.job_tty is None else self.job_tty,
            "name": self.job_name or None,
            "tags": list(self.job_tags or ()),
            "description": self.job_description or None,
            "life_span": spec.seconds("job_lifespan", self.job_lifespan),
            "schedule_timeout": spec.seconds("job_schedule_timeout", self.job_schedule_timeout),
            "restart_policy": spec.word(self.job_restart_policy),
            "priority": spec.word(self.job_priority),
            "pass_config": self.job_pass_config,
            "wait_for_quota": self.job_wait_for_quota,
        }
        if self.job_resources is None:
            described["preset"] = self.job_resources_preset or ""
            described["shm"] = True if self.job_extshm is None else self.job_extshm
        else:
            described["resources"] = spec.resources(self.job_resources)
            described["scheduler_enabled"] = bool(self.job_is_preemptible)
        return described

    # One life cycle for both ways of waiting.

    @contextmanager
    def _leaving_none_behind(self) -> Iterator[None]:
        """Cancel the job when the task fails while it lives."""
        try:
            yield
        except (JobFailed, UnavailableError):
            # It is over; or it goes on, and the next attempt takes it over.
            raise
        except (Exception, KeyboardInterrupt, versions.exceptions().AirflowTaskTimeout):
            # Ctrl-C in `dag.test()`, which calls no on_kill, and what must not leave a job behind.
            self._cancel("the task has failed")
            raise

    def _run(self, context: Context) -> Any:
        from airfreight.ray.attempt import Attempt

        self.job = job = self._begin(Attempt.of(context))
        if self._killed:
            self.on_kill()
        if self.do_xcom_push:
            link = BrowseLink()
            context["ti"].xcom_push(key=JOB_KEY, value=result(job, None))
            # Airflow asks for the link only when the task is over; so it is there while the job runs.
            context["ti"].xcom_push(key=link.xcom_key, value=link.get_link(self, ti_key=None))
        return self._conclude(self._wait(context))

    def _begin(self, attempt: Attempt) -> dict[str, Any]:
        """Take over the job that this attempt finds, or create one."""
        from airfreight.apolo.attempt import choose, new_tag, task_tag

        client = self.client
        found = client.jobs(tags=[task_tag(attempt)])
        plan = choose(attempt, found)
        take = plan.take if self.reattach else None
        stop = plan.stop if take is not None or plan.take is None else (*plan.stop, plan.take.submission_id)
        for job in found:
            if job["id"] in stop and not JobStatus.of(job["status"]).is_finished:
                if self.kill_on_error or not self.reattach:
                    self.log.warning("cancelling Apolo job %s of an attempt before", job["id"])
                    client.kill(job["id"])
                else:
                    self.log.warning("Apolo job %s of an attempt before goes on beside the new one", job["id"])
        if take is not None:
            job = next(job for job in found if job["id"] == take.submission_id)
            self.log.info("taking over Apolo job %s of an earlier attempt, which is %s", job["id"], job["status"])
            return job
        tag = new_tag(attempt)
        described = self.spec()
        described["tags"] = [*described["tags"], task_tag(attempt)]
        job = client.create(described, tag=tag)
        self.log.info("created Apolo job %s", job["id"])
        return job

    def _wait(self, context: Context) -> dict[str, Any]:
        """Follow the job; after a while in the triggerer, if that is wished and can be."""
        from airfreight.apolo import triggerer

        if versions.can_defer() and (self.deferrable or self._defers_with_triggerer):
            deadline = self._deadline(context)
            end, cursor = self._follow(until=time.monotonic() + _BRIEF_WAIT_SECONDS, deadline=deadline)
            if end is None and (self.deferrable or triggerer.is_alive()):
                self._defer(context, cursor=cursor, deadline=deadline)
            if end is not None:
                return end
        end, _ = self._follow()
        assert end is not None
        return end

    def _follow(
        self, *, until: float | None = None, deadline: float | None = None
    ) -> tuple[dict[str, Any] | None, str]:
        """How it ended, if it did before ``until``; and how far its log has been copied."""
        from airfreight.apolo import waiting

        assert self.job is not None
        with self.client.watch(self.job["id"], until=self._aim, logs=not self.job_detach, deadline=deadline) as watch:
            end = waiting.wait(
                self.client,
                watch,
                self.log,
                until=until,
                is_killed=lambda: self._killed,
                cancels=self.kill_on_error,
            )
        # A closed watch says exactly where it has stopped.
        return end, watch.cursor

    @property
    def _aim(self) -> str:
        """What is waited for."""
        return "start" if self.job_detach else "end"

    def _defer(self, context: Context, *, cursor: str, deadline: float | None) -> NoReturn:
        from dataclasses import asdict

        from airfreight.deferral import defer
        from airfreight.ray.supervisor import Waiting, place
        from airfreight.triggers.apolo import CURSOR_KEY, ApoloJobTrigger

        assert self.job is not None
        waiting = Waiting.of(context["ti"])
        if not self.job_detach:
            # The trigger looks for it; Airflow calls it an error if there is nothing.
            context["ti"].xcom_push(key=CURSOR_KEY, value=place(waiting, self.job["id"], cursor, complete=True))
        defer(
            self,
            context["ti"],
            ApoloJobTrigger(
                job_id=self.job["id"],
                conn_id=self.conn_id,
                until=self._aim,
                poll_interval=self.poll_interval,
                fetch_logs=not self.job_detach,
                cursor=cursor,
                deadline=deadline,
                on_kill="stop" if self.kill_on_error else "leave",
                attempt=asdict(waiting),
            ),
        )

    def _conclude(self, end: Mapping[str, Any]) -> dict[str, Any]:
        """Return or raise what follows from how it ended."""
        from airfreight.apolo import waiting

        if end.get("job") is None:
            waiting.raise_for(end)
        job = dict(end.get("job") or {})
        self.job = job
        status = JobStatus.of(job.get("status"))
        code = exit_code(job)
        if status in (JobStatus.FAILED, JobStatus.CANCELLED):
            if self.raise_on_errno:
                raise JobFailed(job)
            code = code or EX_PLATFORMERROR
        return result(job, code)

    def _cancel(self, why: str) -> None:
        job = self.job
        if job is None or JobStatus.of(job.get("status")).is_finished or self._is_left:
            return
        if not self.kill_on_error:
            self._is_left = True
            self.log.warning("Apolo job %s goes on, as kill_on_error=False wishes, although %s", job["id"], why)
            return
        self.log.warning("cancelling Apolo job %s: %s", job["id"], why)
        try:
            self.client.kill(job["id"], patience=_KILL_SECONDS)
            self._is_left = True
        except Exception:
            self.log.exception("Apolo job %s could not be cancelled, and may go on", job["id"])

    def _deadline(self, context: Context) -> float | None:
        """When the task's time is over: Airflow doesn't count the time in which it is deferred."""
        started = context["ti"].start_date
        if self.execution_timeout is None or started is None:
            return None
        return float(started.timestamp() + self.execution_timeout.total_seconds())
