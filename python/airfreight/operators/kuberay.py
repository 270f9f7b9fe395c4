"""Operators for KubeRay's ``RayJob`` and ``RayService``, an alternative to jobs over Ray's own Jobs API."""

from __future__ import annotations

import time
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from airflow.sdk import BaseOperator

from airfreight.errors import InvalidError
from airfreight.operators.ray_cluster import CLUSTER_TIMEOUT_SECONDS, flag, folder, of_run
from airfreight.ray import versions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow.sdk import Context

    from airfreight.hooks.ray import RayHook
    from airfreight.ray.kuberay import Resource

#: As :data:`airfreight.operators.ray_cluster` says.
_BRIEF_WAIT_SECONDS = 5.0

_CLEANUPS = ("always", "success", "never")


class _KubeRayOperator(BaseOperator):
    """What waits for an object of KubeRay's."""

    ui_color = "#d5e8f8"

    def __init__(self, *, conn_id: str, deferrable: bool | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id
        self.deferrable = versions.default_deferrable() if deferrable is None else deferrable
        #: The object, as soon as it is there.
        self.resource: Resource | None = None
        self._killed = False

    @cached_property
    def hook(self) -> RayHook:
        """The connection."""
        from airfreight.hooks.ray import RayHook

        return RayHook(self.conn_id)

    def on_kill(self) -> None:
        """Do what is wished for the object: the task is killed while its worker waits."""
        self._killed = True
        self._abandon()

    def _abandon(self) -> None:
        from airfreight.ray import kuberay

        resource, self.resource = self.resource, None
        if resource is not None and resource.is_ours:
            kuberay.abandon(self.hook.connection, resource, self._kill_action, self.log)

    @property
    def _kill_action(self) -> str:
        return "delete"

    def _wait(self, context: Context, seconds: float | None) -> dict[str, Any]:
        """Return how it ended, or defer until it does."""
        from airfreight.ray import kuberay

        assert self.resource is not None
        limits = [] if seconds is None else [time.time() + float(seconds)]
        started = context["ti"].start_date
        if self.execution_timeout is not None and started is not None:
            # Airflow doesn't count the time in which a task is deferred.
            limits.append(started.timestamp() + self.execution_timeout.total_seconds())
        deadline = min(limits, default=None)
        until = time.monotonic() + _BRIEF_WAIT_SECONDS if self.deferrable and versions.can_defer() else None
        end = kuberay.wait(
            self.hook.connection,
            self.resource,
            self.log,
            deadline=deadline,
            until=until,
            is_killed=lambda: self._killed,
        )
        if end is None:
            self._defer(context, deadline)
        return end

    def _defer(self, context: Context, deadline: float | None) -> NoReturn:
        from dataclasses import asdict

        from airfreight.deferral import defer
        from airfreight.ray.supervisor import Waiting
        from airfreight.triggers.kuberay import KubeRayTrigger

        assert self.resource is not None
        defer(
            self,
            context["ti"],
            KubeRayTrigger(
                self.conn_id,
                self.resource.plain(),
                deadline,
                on_kill=self._kill_action,
                attempt=asdict(Waiting.of(context["ti"])),
            ),
        )


class RunRayJob(_KubeRayOperator):
    """
    Creates a ``RayJob`` on Kubernetes and waits until it is over. KubeRay makes its cluster and submits its job.

    There is one job per task instance, whatever dies meanwhile: an attempt whose worker has vanished leaves its job to
    the next, a retry after a failure makes a new one, and a clear deletes what lives of the old one. The job's log is
    copied when it is over, as long as its cluster is there: leave ``shutdownAfterJobFinishes`` to this operator, which
    deletes job and cluster itself.

    Returns ``namespace/name`` of the job, and pushes Ray's id of it as the XCom ``ray_job_id``.

    :param conn_id: the Airflow connection, of the type ``ray``, which says where Kubernetes is.
    :param ray_job_yaml: the ``RayJob``: a path, a URL, YAML, or a dict. With ``metadata.generateName`` in place of
        ``name``, each attempt has a job of its own name.
    :param job_timeout_seconds: how long job and cluster may take together; ``None``, or 0 and less: no limit.
    :param fetch_logs: whether to copy the log.
    :param on_kill: ``delete`` the job when a user kills the task, ``leave`` it, or ``suspend`` it: then its pods go,
        and the next attempt lets it go on, even after a clear. KubeRay suspends only jobs that end their clusters
        themselves, so ``shutdownAfterJobFinishes`` is set.
    :param cleanup: when job and cluster are deleted: ``always`` at the end, after a ``success`` only, or ``never``.
    :param deferrable: wait in the triggerer; by default as ``[operators] default_deferrable`` says. Airflow 3.0 always
        waits in the worker.
    """

    template_fields: Sequence[str] = ("conn_id", "ray_job_yaml", "job_timeout_seconds")
    template_fields_renderers: ClassVar[dict[str, str]] = {"ray_job_yaml": "yaml"}

    def __init__(
        self,
        conn_id: str,
        ray_job_yaml: str | dict[str, Any],
        *,
        job_timeout_seconds: float | None = None,
        fetch_logs: bool = True,
        on_kill: str = "delete",
        cleanup: str = "always",
        deferrable: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(conn_id=conn_id, deferrable=deferrable, **kwargs)
        if on_kill not in ("delete", "suspend", "leave"):
            raise InvalidError(f"on_kill={on_kill!r} is none of 'delete', 'suspend' and 'leave'")
        if cleanup not in _CLEANUPS:
            raise InvalidError(f"cleanup={cleanup!r} is none of 'always', 'success' and 'never'")
        self.ray_job_yaml = ray_job_yaml
        self.job_timeout_seconds = job_timeout_seconds
        self.fetch_logs = fetch_logs
        self.kill_action = on_kill
        self.cleanup = cleanup

    def execute(self, context: Context) -> str:
        """Create the job or take over the one there is, and wait for its end."""
        from airfreight.ray import kuberay
        from airfreight.ray.attempt import Attempt, digest

        with versions.no_retry_in_vain(), self._cleaning_up():
            attempt = Attempt.of(context)
            instance = digest(attempt.submission_id, attempt.deployment)
            description = kuberay.describe(self.ray_job_yaml, kuberay.JOB, folder(context), instance)
            if self.kill_action == "suspend":
                spec = {"shutdownAfterJobFinishes": True, "ttlSecondsAfterFinished": 300, **description["spec"]}
                description = {**description, "spec": spec}
            self.resource = kuberay.begin(
                self.hook.connection,
                description,
                attempt,
                self.log,
                resumes=self.kill_action == "suspend",
                is_collected=self.kill_action == "delete" and self.cleanup == "always",
            )
            seconds = float(self.job_timeout_seconds or 0)
            return self._conclude(context, self._wait(context, seconds if seconds > 0 else None))

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> str:
        """Go on after the trigger has seen the job's end."""
        from airfreight.ray import kuberay

        end = dict(event or {})
        with versions.no_retry_in_vain(), self._cleaning_up():
            self.resource = kuberay.Resource(**end["resource"])
            return self._conclude(context, end)

    @property
    def _kill_action(self) -> str:
        return self.kill_action

    def _conclude(self, context: Context, end: Mapping[str, Any]) -> str:
        from airfreight.ray import kuberay, waiting
        from airfreight.ray.job import RayJobFailedError

        resource, status = self.resource, str(end.get("status"))
        assert resource is not None
        if status not in ("SUCCEEDED", "FAILED"):
            waiting.raise_for(end)
        if end.get("job_id"):
            context["ti"].xcom_push(key="ray_job_id", value=end["job_id"])
        if self.fetch_logs:
            kuberay.copy_log(self.hook.connection, resource, end, self.log)
        if status == "FAILED":
            raise RayJobFailedError({"submission_id": resource, "status": status, "message": end.get("message")})
        self.log.info("%s has succeeded", resource)
        if self.cleanup != "never":
            kuberay.remove(self.hook.connection, resource, self.log)
        return f"{resource.namespace}/{resource.name}"

    @contextmanager
    def _cleaning_up(self) -> Iterator[None]:
        """See to the job when the task fails; one that only defers goes on."""
        from airfreight.ray import kuberay

        try:
            yield
        except versions.exceptions().TaskDeferred:
            raise
        except (KeyboardInterrupt, versions.exceptions().AirflowTaskTimeout):
            # Ctrl-C in `dag.test()`, and a timeout of Airflow's, call no on_kill.
            self._abandon()
            raise
        except BaseException:
            # Whoever was killed has seen to it.
            if self.resource is not None and self.cleanup == "always":
                kuberay.remove(self.hook.connection, self.resource, self.log)
            raise


class SetupRayService(_KubeRayOperator):
    """
    Creates or changes a ``RayService`` on Kubernetes, and waits until its applications serve. It outlives the task.

    Returns where they answer inside Kubernetes: ``http://name-serve-svc.namespace.svc:8000``. A service that this task
    has created and that doesn't come to serve, or whose task is killed meanwhile, is deleted again.

    :param conn_id: the Airflow connection, of the type ``ray``, which says where Kubernetes is.
    :param ray_service_yaml: the ``RayService``: a path, a URL, YAML, or a dict.
    :param update_if_exists: change a service of this name that is described otherwise, which KubeRay does without a
        pause; else it is used as it is.
    :param service_timeout_seconds: how long it may take until it serves.
    :param deferrable: wait in the triggerer; by default as ``[operators] default_deferrable`` says. Airflow 3.0 always
        waits in the worker.
    """

    template_fields: Sequence[str] = ("conn_id", "ray_service_yaml", "update_if_exists")
    template_fields_renderers: ClassVar[dict[str, str]] = {"ray_service_yaml": "yaml"}

    def __init__(
        self,
        conn_id: str,
        ray_service_yaml: str | dict[str, Any],
        *,
        update_if_exists: bool = True,
        service_timeout_seconds: float = CLUSTER_TIMEOUT_SECONDS,
        deferrable: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(conn_id=conn_id, deferrable=deferrable, **kwargs)
        self.ray_service_yaml = ray_service_yaml
        self.update_if_exists = update_if_exists
        self.service_timeout_seconds = service_timeout_seconds

    def execute(self, context: Context) -> str:
        """Create or change the service, and wait for it."""
        from airfreight.ray import kuberay
        from airfreight.ray.attempt import Attempt

        with versions.no_retry_in_vain(), self._deleting_what_fails():
            description = kuberay.describe(self.ray_service_yaml, kuberay.SERVICE, folder(context), of_run(context))
            self.resource = kuberay.serve(
                self.hook.connection,
                description,
                Attempt.of(context),
                self.log,
                update=flag(self.update_if_exists),
            )
            return self._conclude(self._wait(context, self.service_timeout_seconds))

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> str:  # noqa: ARG002
        """Go on after the trigger has seen the service serve, or fail."""
        from airfreight.ray import kuberay

        end = dict(event or {})
        with versions.no_retry_in_vain(), self._deleting_what_fails():
            self.resource = kuberay.Resource(**end["resource"])
            return self._conclude(end)

    def _conclude(self, end: Mapping[str, Any]) -> str:
        from airfreight.ray import kuberay, kubernetes, waiting

        assert self.resource is not None
        if end.get("status") != kubernetes.READY:
            waiting.raise_for(end)
        return kuberay.endpoint(self.hook.connection, self.resource)

    @contextmanager
    def _deleting_what_fails(self) -> Iterator[None]:
        try:
            yield
        except versions.exceptions().TaskDeferred:
            raise
        except BaseException:
            self._abandon()
            raise


class DeleteRayService(BaseOperator):
    """
    Deletes a ``RayService`` on Kubernetes, and waits until it is gone. It is no error if there is none.

    :param conn_id: the Airflow connection, of the type ``ray``, which says where Kubernetes is.
    :param ray_service_yaml: the ``RayService``, as :class:`SetupRayService` has it.
    :param service_timeout_seconds: how long it may take until it is gone.
    """

    template_fields: Sequence[str] = ("conn_id", "ray_service_yaml")
    template_fields_renderers: ClassVar[dict[str, str]] = {"ray_service_yaml": "yaml"}
    ui_color = "#d5e8f8"

    def __init__(
        self,
        conn_id: str,
        ray_service_yaml: str | dict[str, Any],
        *,
        service_timeout_seconds: float = CLUSTER_TIMEOUT_SECONDS,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id
        self.ray_service_yaml = ray_service_yaml
        self.service_timeout_seconds = service_timeout_seconds

    def execute(self, context: Context) -> None:
        """Delete it, and wait."""
        from airfreight.hooks.ray import RayHook
        from airfreight.ray import kuberay

        with versions.no_retry_in_vain():
            description = kuberay.describe(self.ray_service_yaml, kuberay.SERVICE, folder(context), of_run(context))
            kuberay.delete(
                RayHook(self.conn_id).connection,
                description,
                kuberay.SERVICE,
                seconds=self.service_timeout_seconds,
                tell=self.log,
            )
