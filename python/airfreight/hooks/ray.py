"""The hook for Ray clusters: what an Airflow connection of the type ``ray`` gives."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

try:
    from airflow.sdk import BaseHook
except ImportError:  # Airflow 3.0
    from airflow.hooks.base import BaseHook  # type: ignore[attr-defined,no-redef,unused-ignore]

from airfreight.errors import AirfreightError, InvalidError
from airfreight.ray import connection as connections
from airfreight.ray import kubernetes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow.sdk import Context

    from airfreight._remote import RayClient
    from airfreight.ray.connection import RayConnection
    from airfreight.ray.kubernetes import KubeCluster


class RayHook(BaseHook):
    """
    Reaches a Ray cluster through the Jobs API of its dashboard; Ray need not be installed here.

    The connection's fields are in the connection reference of Airfreight's documentation. Where it has no address, the
    environment variables ``RAY_ADDRESS`` and ``RAY_URL`` have a say.

    :param conn_id: the Airflow connection, of the type ``ray``.
    """

    conn_name_attr = "conn_id"
    default_conn_name = "ray_default"
    conn_type = "ray"
    hook_name = "Ray"

    def __init__(self, conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id

    @classmethod
    async def acreate(cls, conn_id: str = default_conn_name) -> RayHook:
        """A hook that has read its connection without blocking; for triggers (Airflow 3.1 and later)."""
        from airfreight.ray import supervisor

        found: Any = None
        try:
            found = await cls.aget_connection(conn_id)
        except Exception as error:  # noqa: BLE001 - its class differs between versions
            _environment_instead(conn_id, error)
        hook = cls(conn_id)
        # Fills the cached property.
        hook.connection = connections.read(found, conn_id)
        await supervisor.mask(hook.connection.secrets())
        return hook

    @cached_property
    def connection(self) -> RayConnection:
        """
        What the Airflow connection says.

        :raises InvalidError: a field has no meaning.
        """
        found: Any = None
        try:
            found = self.get_connection(self.conn_id)
        except Exception as error:  # noqa: BLE001 - its class differs between versions
            _environment_instead(self.conn_id, error)
        connection = connections.read(found, self.conn_id)
        connections.mask(connection)
        return connection

    @property
    def address(self) -> str:
        """Where the dashboard is; empty where neither connection nor environment says so."""
        return self.connection.address

    def get_conn(self) -> RayClient:
        """A client of the cluster."""
        return self.ray_client()

    def ray_client(self, dashboard_url: str | None = None) -> RayClient:
        """
        A client of the cluster.

        :param dashboard_url: another dashboard than the connection's, with the same credentials; or
            ``kubernetes://namespace/name``, for which the API server is asked for the way.
        """
        return self.connection.client(dashboard_url)

    def test_connection(self) -> tuple[bool, str]:
        """Ask the cluster who it is; Airflow's test button."""
        try:
            client = self.ray_client()
            cluster = client.cluster()
            # The version is told to anybody: whether the token is good shows with the jobs.
            client.job("airfreight-connection-test")
        except AirfreightError as error:
            return False, " ".join(str(error).split())
        python = f" on Python {cluster['python_version']}" if cluster.get("python_version") else ""
        return True, f"Ray {cluster['ray_version']}{python} answers at {client.address}"

    # The names by which astronomer's provider offers the Jobs API.

    def submit_ray_job(
        self, dashboard_url: str | None, entrypoint: str, runtime_env: dict[str, Any] | None = None, **job_config: Any
    ) -> str:
        """
        Submit a job and don't wait for it. :class:`~airfreight.operators.ray.SubmitRayJob` also keeps it from running
        twice.

        :param dashboard_url: where, unless the connection says.
        :param job_config: more of Ray's ``submit_job``: ``submission_id``, ``metadata``, ``entrypoint_num_cpus``, ….
        :returns: the job's submission id.
        """
        from uuid import uuid4

        client = self.ray_client(dashboard_url)
        submission = {key: value for key, value in job_config.items() if value is not None}
        if job_id := submission.pop("job_id", None):
            submission.setdefault("submission_id", job_id)
        submission.setdefault("submission_id", f"raysubmit_{uuid4().hex[:16]}")
        submission["entrypoint"] = entrypoint
        submission["metadata"] = {**self.connection.metadata, **submission.get("metadata", {})}
        if runtime_env:
            submission["runtime_env"] = client.resolve_runtime_env(runtime_env)
        client.submit(submission)
        return str(submission["submission_id"])

    def stop_ray_job(self, dashboard_url: str | None, job_id: str) -> bool:
        """Ask Ray to stop a job; ``False`` when it was over already."""
        return self.ray_client(dashboard_url).stop(job_id)

    def delete_ray_job(self, dashboard_url: str | None, job_id: str) -> bool:
        """Make Ray forget a job that is over."""
        return self.ray_client(dashboard_url).delete(job_id)

    def get_ray_job_status(self, dashboard_url: str | None, job_id: str) -> str:
        """
        PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED.

        :raises ObjectNotFoundError: Ray doesn't know the job.
        """
        job = self.ray_client(dashboard_url).job(job_id)
        if job is None:
            from airfreight.errors import ObjectNotFoundError

            raise ObjectNotFoundError(f"Ray knows no job {job_id}")
        return str(job["status"])

    def get_ray_job_logs(self, dashboard_url: str | None, job_id: str) -> str:
        """The whole log of a job."""
        return self.ray_client(dashboard_url).logs(job_id)

    async def get_ray_tail_logs(self, dashboard_url: str | None, job_id: str) -> AsyncIterator[str]:
        """The log of a job as it grows, some lines at a time, until the job is over."""
        with self.ray_client(dashboard_url).watch(job_id) as watch:
            while (event := await watch.anext())["event"] not in ("ended", "gone"):
                if event["event"] == "lines":
                    yield "".join(f"{line}\n" for line in event["lines"])

    def load_yaml_content(self, path_or_link: str) -> Any:
        """
        Read YAML.

        :param path_or_link: a file, or an ``http://`` or ``https://`` URL.
        """
        return kubernetes.describe(path_or_link)

    # Clusters on Kubernetes

    def setup_ray_cluster(
        self,
        context: Context,
        ray_cluster_yaml: str | dict[str, Any],
        kuberay_version: str | None = None,
        gpu_device_plugin_yaml: str | dict[str, Any] = "",
        update_if_exists: bool = False,
    ) -> None:
        """
        Create a cluster or take the one there is, wait until it serves, and push where its ports are.
        :class:`~airfreight.operators.ray.SetupRayCluster` also waits in the triggerer and cleans up after a failure.

        :raises UnavailableError: it doesn't start, and why.
        """
        import time

        from airfreight.operators.ray_cluster import CLUSTER_TIMEOUT_SECONDS, folder, of_run
        from airfreight.ray import installation

        description = kubernetes.describe(ray_cluster_yaml, folder(context), of_run(context))
        installation.prepare(
            self.connection,
            version=kuberay_version,
            plugin=gpu_device_plugin_yaml,
            folder=folder(context),
            tell=self.log,
        )
        cluster = kubernetes.apply(self.connection, description, update=update_if_exists, tell=self.log)
        kubernetes.wait(self.connection, cluster, self.log, deadline=time.time() + CLUSTER_TIMEOUT_SECONDS)
        self.publish_cluster(context, cluster)

    def publish_cluster(self, context: Context, cluster: KubeCluster) -> None:
        """Push where the cluster's ports are, by their names, after its dashboard has answered."""
        addresses = kubernetes.addresses(self.connection, cluster)
        known = self.ray_client(addresses[kubernetes.DASHBOARD]).cluster()
        self.log.info("Ray %s answers at %s", known["ray_version"], addresses[kubernetes.DASHBOARD])
        for name, address in addresses.items():
            context["ti"].xcom_push(key=name, value=address)

    def delete_ray_cluster(
        self,
        ray_cluster_yaml: str | dict[str, Any],
        gpu_device_plugin_yaml: str | dict[str, Any] = "",
    ) -> None:
        """
        Delete a cluster, and wait until it is gone; then the device plugin that was created for it, unless there are
        other clusters.

        :raises UnavailableError: it isn't, after twenty minutes.
        """
        from airfreight.operators.ray_cluster import CLUSTER_TIMEOUT_SECONDS

        description = kubernetes.describe(ray_cluster_yaml)
        kubernetes.remove(self.connection, description, seconds=CLUSTER_TIMEOUT_SECONDS, tell=self.log)
        if gpu_device_plugin_yaml:
            from airfreight.ray import installation

            namespace = description["metadata"].get("namespace")
            installation.remove_plugin(self.connection, gpu_device_plugin_yaml, namespace, tell=self.log)

    def install_kuberay_operator(self, version: str, env: dict[str, str] | None = None) -> None:  # noqa: ARG002
        """
        Install the KubeRay operator unless Kubernetes has one.

        :param version: such as ``1.7.0``.
        :param env: taken for the sake of older code; there is no helm.
        :raises DeniedError: we may not, and which rights are missing.
        """
        from airfreight.ray import installation

        installation.install_operator(self.connection, version, tell=self.log)

    def uninstall_kuberay_operator(self) -> NoReturn:
        """
        Refuse: with the operator, everybody's clusters would go.

        :raises InvalidError: always.
        """
        raise InvalidError(
            "the KubeRay operator is not removed: the clusters of everybody else would go with it",
            "let the administrator of the Kubernetes cluster do it",
        )

    def get_daemon_set(self, name: str) -> dict[str, Any] | None:
        """Give a device plugin's ``DaemonSet`` in the connection's namespace, as the API server has it."""
        return kubernetes.api(self.connection).read_objects([_daemon_set(name)])[0]

    def create_daemon_set(self, name: str, body: dict[str, Any]) -> None:
        """Create a ``DaemonSet`` unless there is one of its name."""
        from airfreight.ray import installation

        body = {**body, "metadata": {**(body.get("metadata") or {}), "name": name}}
        installation.install_plugin(self.connection, body, tell=self.log)

    def delete_daemon_set(self, name: str) -> None:
        """Delete a ``DaemonSet`` that Airfreight has created."""
        for what in kubernetes.api(self.connection).delete_objects([_daemon_set(name)]):
            self.log.info("deleted %s", what)

    # Airflow 3.0 and 3.1 take the form from here, later ones from the provider info.

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Which of the standard fields the connection form shows, and under which names."""
        from airfreight.ray.form import HIDDEN, LABELS, PLACEHOLDERS

        return {"hidden_fields": HIDDEN, "relabeling": LABELS, "placeholders": PLACEHOLDERS}

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """The connection form's own fields."""
        from airfreight.ray.form import FIELDS, widgets

        return widgets(FIELDS)


def _environment_instead(conn_id: str, error: Exception) -> None:
    """Let the environment alone say where Ray is, if it does and the connection simply isn't there."""
    import os

    if conn_id == RayHook.default_conn_name and (os.environ.get("RAY_ADDRESS") or os.environ.get("RAY_URL")):
        return
    raise error


def _daemon_set(name: str) -> str:
    import json

    return json.dumps({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": name}})
