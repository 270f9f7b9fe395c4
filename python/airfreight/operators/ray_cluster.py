"""Operators that set up and delete Ray clusters on Kubernetes; ``airfreight.operators.ray`` has them, too."""

from __future__ import annotations

import time
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator

from airfreight.ray import versions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow.sdk import Context

    from airfreight.hooks.ray import RayHook
    from airfreight.ray.kubernetes import KubeCluster

#: How long a cluster may take until it serves; images of Ray have gigabytes.
CLUSTER_TIMEOUT_SECONDS = 1200.0

#: A trigger that fires at once can overtake the scheduler's note of the deferral, which then fails the task; so the
#: worker waits so long itself.
_BRIEF_WAIT_SECONDS = 5.0


class _Unasked(str):
    """A default that equals the old provider's and is told from the same text of a DAG."""

    __slots__ = ()


#: The old provider installed this version whether one wished or not.
KUBERAY_VERSION: str = _Unasked("1.0.0")


def asked(kuberay_version: str | None) -> bool:
    """Whether a DAG names the version, so that it may be installed."""
    return bool(kuberay_version) and not isinstance(kuberay_version, _Unasked)


def plain(kuberay_version: str | None) -> str:
    """The default as Airflow's messages take it, which know no type but Python's own."""
    return str(kuberay_version or "")


class SetupRayCluster(BaseOperator):
    """
    Creates a Ray cluster on Kubernetes, unless it is there, and waits until it serves.

    Pushes an XCom for each port that leads to the cluster's head, by the port's name: ``dashboard`` is for the
    ``xcom_task_key`` of tasks that use the cluster. Where no address leads there from outside of Kubernetes, its value
    is ``kubernetes://namespace/name``, to which each task opens a way of its own, with the same connection.

    A cluster that this task has created and that doesn't start, or whose task is killed meanwhile, is deleted again;
    one that serves stays until :class:`DeleteRayCluster`, which is its teardown.

    :param conn_id: the Airflow connection, of the type ``ray``, which says where Kubernetes is.
    :param ray_cluster_yaml: the ``RayCluster``: a path, a URL, YAML, or a dict. With ``metadata.generateName`` in place
        of ``name``, each DAG run has a cluster of its own.
    :param kuberay_version: the KubeRay operator that is installed if Kubernetes has none; one that is there stays. By
        default none is installed, whatever the signature says: that is what the old provider's said.
    :param gpu_device_plugin_yaml: a device plugin, whose objects are created unless they are there: a path, a URL,
        YAML, or a dict.
    :param update_if_exists: change a cluster of this name that is described otherwise; else it is used as it is.
    :param cluster_timeout_seconds: how long it may take until it serves.
    :param deferrable: wait in the triggerer; by default as ``[operators] default_deferrable`` says. Airflow 3.0 always
        waits in the worker.
    """

    template_fields: Sequence[str] = (
        "conn_id",
        "ray_cluster_yaml",
        "kuberay_version",
        "gpu_device_plugin_yaml",
        "update_if_exists",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"ray_cluster_yaml": "yaml"}
    ui_color = "#d5e8f8"

    def __init__(
        self,
        conn_id: str,
        ray_cluster_yaml: str | dict[str, Any],
        kuberay_version: str | None = KUBERAY_VERSION,
        gpu_device_plugin_yaml: str | dict[str, Any] = "",
        update_if_exists: bool = False,
        *,
        cluster_timeout_seconds: float = CLUSTER_TIMEOUT_SECONDS,
        deferrable: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id
        self.ray_cluster_yaml = ray_cluster_yaml
        #: Whether the DAG itself names the version.
        self.installs = asked(kuberay_version)
        self.kuberay_version = kuberay_version if self.installs else plain(kuberay_version)
        self.gpu_device_plugin_yaml = gpu_device_plugin_yaml
        self.update_if_exists = update_if_exists
        self.cluster_timeout_seconds = cluster_timeout_seconds
        self.deferrable = versions.default_deferrable() if deferrable is None else deferrable
        #: The cluster, as soon as it is there.
        self.cluster: KubeCluster | None = None
        self._killed = False

    @cached_property
    def hook(self) -> RayHook:
        """The connection."""
        from airfreight.hooks.ray import RayHook

        return RayHook(self.conn_id)

    def execute(self, context: Context) -> None:
        """Create the cluster or take the one there is, and wait for it."""
        from airfreight.ray import kubernetes

        with versions.no_retry_in_vain(), guard(self):
            description = kubernetes.describe(self.ray_cluster_yaml, folder(context), of_run(context))
            prepare(self, context)
            self.cluster = kubernetes.apply(
                self.hook.connection, description, update=flag(self.update_if_exists), tell=self.log
            )
            await_cluster(self, context, self.cluster, lambda: self._killed)
            self._publish(context)

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> None:
        """Go on after the trigger has seen the cluster serve, or fail."""
        from airfreight.ray import kubernetes, waiting

        end = dict(event or {})
        with versions.no_retry_in_vain(), guard(self):
            self.cluster = kubernetes.KubeCluster(**end["cluster"])
            if end.get("status") != kubernetes.READY:
                waiting.raise_for(end)
            self._publish(context)

    def on_kill(self) -> None:
        """Delete the cluster if this task has created it: the task is killed while its worker waits."""
        self._killed = True
        self.tear_down()

    def tear_down(self) -> None:
        """Delete the cluster if this task has created it."""
        from airfreight.ray import kubernetes

        cluster, self.cluster = self.cluster, None
        if cluster is not None and cluster.is_ours:
            kubernetes.delete(self.hook.connection, cluster, self.log, is_killed=self._killed)

    def _publish(self, context: Context) -> None:
        assert self.cluster is not None
        self.hook.publish_cluster(context, self.cluster)


class DeleteRayCluster(BaseOperator):
    """
    Deletes a Ray cluster on Kubernetes, and waits until it and its pods are gone. It is no error if there is none.

    :param conn_id: the Airflow connection, of the type ``ray``, which says where Kubernetes is.
    :param ray_cluster_yaml: the ``RayCluster``, as :class:`SetupRayCluster` has it.
    :param gpu_device_plugin_yaml: the device plugin, as :class:`SetupRayCluster` has it: what that has created of it is
        deleted, unless there are other clusters. KubeRay stays.
    :param cluster_timeout_seconds: how long it may take until the cluster is gone.
    """

    template_fields: Sequence[str] = ("conn_id", "ray_cluster_yaml", "gpu_device_plugin_yaml")
    template_fields_renderers: ClassVar[dict[str, str]] = {"ray_cluster_yaml": "yaml"}
    ui_color = "#d5e8f8"

    def __init__(
        self,
        conn_id: str,
        ray_cluster_yaml: str | dict[str, Any],
        gpu_device_plugin_yaml: str | dict[str, Any] = "",
        *,
        cluster_timeout_seconds: float = CLUSTER_TIMEOUT_SECONDS,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id
        self.ray_cluster_yaml = ray_cluster_yaml
        self.gpu_device_plugin_yaml = gpu_device_plugin_yaml
        self.cluster_timeout_seconds = cluster_timeout_seconds

    @cached_property
    def hook(self) -> RayHook:
        """The connection."""
        from airfreight.hooks.ray import RayHook

        return RayHook(self.conn_id)

    def execute(self, context: Context) -> None:
        """Delete it, and wait."""
        from airfreight.ray import installation, kubernetes

        with versions.no_retry_in_vain():
            description = kubernetes.describe(self.ray_cluster_yaml, folder(context), of_run(context))
            connection = self.hook.connection
            kubernetes.remove(connection, description, seconds=self.cluster_timeout_seconds, tell=self.log)
            if plugin := self.gpu_device_plugin_yaml:
                namespace = description["metadata"].get("namespace")
                installation.remove_plugin(connection, plugin, namespace, folder(context), tell=self.log)


# What the operators with a cluster share


class _Keeper:
    """Sees to it that an operator's own cluster doesn't outlive a failure."""

    def __init__(self, operator: Any) -> None:
        self._operator = operator

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if kind is None or issubclass(kind, versions.exceptions().TaskDeferred):
            return
        if issubclass(kind, KeyboardInterrupt):
            # Ctrl-C in `dag.test()`, which calls no on_kill.
            self._operator.on_kill()
        self._operator.tear_down()


def prepare(operator: Any, context: Context) -> None:
    """Install what the operator asks for and isn't there."""
    from airfreight.ray import installation

    installation.prepare(
        operator.hook.connection,
        version=operator.kuberay_version if operator.installs else None,
        plugin=operator.gpu_device_plugin_yaml,
        folder=folder(context),
        tell=operator.log,
    )


def guard(operator: Any) -> _Keeper:
    """Tear down the operator's own cluster when the block fails; a task that only defers goes on."""
    return _Keeper(operator)


def await_cluster(operator: Any, context: Context, cluster: KubeCluster, is_killed: Callable[[], bool]) -> None:
    """Return when the cluster serves, or defer until it does."""
    from airfreight.ray import kubernetes

    limits = [time.time() + float(operator.cluster_timeout_seconds)]
    started = context["ti"].start_date
    if operator.execution_timeout is not None and started is not None:
        # Airflow doesn't count the time in which a task is deferred.
        limits.append(started.timestamp() + operator.execution_timeout.total_seconds())
    deadline = min(limits)
    until = time.monotonic() + _BRIEF_WAIT_SECONDS if operator.deferrable and versions.can_defer() else None
    if kubernetes.wait(
        operator.hook.connection, cluster, operator.log, deadline=deadline, until=until, is_killed=is_killed
    ):
        return
    from dataclasses import asdict

    from airfreight.deferral import defer
    from airfreight.ray.supervisor import Waiting
    from airfreight.triggers.ray import RayClusterTrigger

    defer(
        operator,
        context["ti"],
        RayClusterTrigger(operator.conn_id, cluster.plain(), deadline, attempt=asdict(Waiting.of(context["ti"]))),
    )


def folder(context: Context) -> str | None:
    """Where relative paths start: the DAG file's folder."""
    from pathlib import Path

    location = getattr(context.get("dag"), "fileloc", None)
    return str(Path(location).parent) if location else None


def of_run(context: Context) -> str:
    """What tells the clusters of a DAG's runs apart: the same for the tasks that set up and delete one."""
    from airfreight.ray.attempt import Attempt, digest

    attempt = Attempt.of(context)
    return digest(attempt.deployment, attempt.dag_id, attempt.run_id, str(attempt.map_index))


def flag(value: Any) -> bool:
    """A truth value, or the text that a template has made of it."""
    return value.strip().lower() in ("true", "1", "yes") if isinstance(value, str) else bool(value)
