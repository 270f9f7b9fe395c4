"""A function as a task that runs on a Ray cluster."""

from __future__ import annotations

import logging
import os
import warnings
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk.bases.decorator import DecoratedOperator, task_decorator_factory

from airfreight.errors import AirfreightError, InvalidError
from airfreight.operators.ray import SubmitRayJob

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from airflow.sdk import Context
    from airflow.sdk.bases.decorator import TaskDecorator

    from airfreight._remote import RayClient
    from airfreight.ray.outcome import Outcome

log = logging.getLogger(__name__)

Config = "dict[str, Any] | Callable[..., dict[str, Any]]"

#: What ``config`` may say, and the attribute of the operator that it sets.
_CONFIG = {
    name: name
    for name in (
        "conn_id",
        "entrypoint",
        "runtime_env",
        "num_cpus",
        "num_gpus",
        "memory",
        "ray_cluster_yaml",
        "update_if_exists",
        "kuberay_version",
        "gpu_device_plugin_yaml",
        "fetch_logs",
        "wait_for_completion",
        "job_timeout_seconds",
        "poll_interval",
        "xcom_task_key",
        "submission_id",
        "metadata",
        "label_selector",
        "deferrable",
        "working_dir",
    )
} | {
    "resources": "ray_resources",
    "entrypoint_num_cpus": "num_cpus",
    "entrypoint_num_gpus": "num_gpus",
    "entrypoint_memory": "memory",
    "entrypoint_resources": "ray_resources",
    "on_kill": "kill_action",
}

#: CPUs of a function whose task and connection say nothing, as astronomer's decorator has it; its operator has 0.
_NUM_CPUS = 1


class _RayDecoratedOperator(DecoratedOperator, SubmitRayJob):
    """
    Runs a function as a Ray job and returns its value.

    :param python_callable: the function.
    :param op_args: its positional arguments.
    :param op_kwargs: its keyword arguments.
    :param config: more of :class:`~airfreight.operators.ray.SubmitRayJob`'s parameters, or a function that gives them.
        What is said outside of it counts for more.
    """

    custom_operator_name = "@task.ray"
    template_fields: Sequence[str] = (*SubmitRayJob.template_fields, "op_args", "op_kwargs", "config")
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **SubmitRayJob.template_fields_renderers,
        **DecoratedOperator.template_fields_renderers,
    }
    shallow_copy_attrs: Sequence[str] = ("python_callable", "config_function")

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        config: Any = None,
        entrypoint: str = "",
        **kwargs: Any,
    ) -> None:
        if config is not None and not callable(config) and not isinstance(config, dict):
            raise InvalidError(
                f"config of {python_callable.__name__} is neither a dict nor a function: {type(config).__qualname__}"
            )
        # Said here rather than in the config, or by default.
        self._said = {_CONFIG[name] for name, value in kwargs.items() if name in _CONFIG and value is not None}
        super().__init__(
            python_callable=python_callable, op_args=op_args, op_kwargs=op_kwargs, entrypoint=entrypoint, **kwargs
        )
        if entrypoint:
            self._said.add("entrypoint")
        # Airflow calls a function that it finds in a template field, in its own way.
        self.config = {} if callable(config) else dict(config or {})
        self.config_function = config if callable(config) else None

    @property
    def is_async(self) -> bool:
        """Whether Airflow should await the task: the cluster awaits the function."""
        return False

    def execute(self, context: Context) -> Any:
        """Submit the function or take over the job there is, wait for it, and return its value."""
        self._configure(context)
        self.inlets.extend(_assets([*self.op_args, *self.op_kwargs.values()]))
        # Past the base class, whose own way differs from one Airflow to the next.
        return self._noted(SubmitRayJob.execute(self, context))

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> Any:
        """Return the value after the trigger has seen the end of the job."""
        self._configure(context)
        return self._noted(super().execute_complete(context, event))

    def _noted(self, result: Any) -> Any:
        """Takes assets that a function returns for the task's outlets, as every decorator does."""
        self.outlets.extend(_assets(result if isinstance(result, list) else [result]))
        return result

    def _configure(self, context: Context) -> None:
        """Takes over what ``config`` says."""
        config = self.config
        if self.config_function is not None:
            config = self._called(self.config_function, context)
            if not isinstance(config, dict):
                raise InvalidError(
                    f"config of {self.task_id} returned {type(config).__qualname__}, not a dict",
                    "return a dict with parameters of SubmitRayJob, such as runtime_env or num_cpus",
                )
        for name, value in config.items():
            attribute = _CONFIG.get(name)
            if attribute is None:
                self.log.warning("config has no %r, which is left out; it may have %s", name, ", ".join(_CONFIG))
            elif attribute not in self._said:
                setattr(self, attribute, value)
        if self.num_cpus is None and "num_cpus" not in self.hook.connection.defaults:
            self.num_cpus = _NUM_CPUS

    def _called(self, config: Callable[..., Any], context: Context) -> Any:
        """Calls a config function with what it names: the context, and anything of the operator."""
        from inspect import signature

        given: dict[str, Any] = {}
        for name in signature(config).parameters:
            if name == "context":
                given[name] = context
            elif hasattr(self, name):
                given[name] = getattr(self, name)
        return config(**given)

    def _submission(self, context: Context, client: RayClient) -> dict[str, Any]:
        if self.entrypoint:
            return super()._submission(context, client)
        from airfreight.ray import arguments, skew
        from airfreight.ray.function import Function
        from airfreight.ray.parcel import Parcel, driver_package

        environment = self._environment(self.hook.connection.defaults.get("runtime_env") or {})
        _check_environment(self._name, environment)
        function = Function(self.python_callable, _roots(context), allow_pickle=self._allows_pickle)
        args, kwargs = arguments.of(self.python_callable, self.op_args, self.op_kwargs, context)
        shipped = function.argument(args, kwargs)
        if not {"conda", "py_executable"}.intersection(environment):
            # Else the job's Python is another than the cluster's.
            skew.check_python(function, client.cluster()["python_version"])
        parcel = Parcel(
            function,
            shipped,
            environment={name: value for name, value in os.environ.items() if name.startswith("AIRFLOW_CTX_")},
            libraries=skew.versions(function.libraries()),
        )
        packages = [client.upload(driver_package()), *map(client.upload, parcel.packages())]
        submission = super()._submission(context, client)
        environment = submission.get("runtime_env") or {}
        return submission | {
            "entrypoint": f"exec {_python(environment.get('py_executable'))} {parcel.entrypoint}",
            "runtime_env": environment | {"py_modules": [*packages, *environment.get("py_modules", ())]},
        }

    def _result(self, context: Context, client: RayClient, job: Mapping[str, Any]) -> Any:
        if self.entrypoint:
            return super()._result(context, client, job)
        return self._outcome(client, job).value(self.python_callable, allow_pickle=self._allows_pickle)

    def _failure(self, context: Context, client: RayClient, job: Mapping[str, Any]) -> Exception:
        error: Exception | None = None
        if not self.entrypoint and job.get("status") == "FAILED":
            try:
                error = self._outcome(client, job).error(self.python_callable)
            except AirfreightError as unread:
                self.log.warning("could not read why the function failed: %s", unread)
        return super()._failure(context, client, job) if error is None else error

    def _outcome(self, client: RayClient, job: Mapping[str, Any]) -> Outcome:
        from airfreight.ray.outcome import Outcome

        return Outcome(client, job, self._name)

    @property
    def _allows_pickle(self) -> bool:
        """Whether values may go to and come from this cluster that only pickle can say."""
        from airfreight.settings import load_settings

        return self.hook.connection.allow_pickle and load_settings().allow_pickle

    @property
    def _name(self) -> str:
        return str(getattr(self.python_callable, "__name__", self.task_id))


def ray_task(
    python_callable: Callable[..., Any] | None = None,
    multiple_outputs: bool | None = None,
    config: Any = None,
    *,
    conn_id: str | None = None,
    resources: dict[str, Any] | None = None,
    ray_conn_id: str | None = None,
    ray_worker_pool: str | None = None,
    eager: bool = False,
    checkpoint: bool = False,
    **kwargs: Any,
) -> TaskDecorator:
    """
    Makes a task of a function that runs on a Ray cluster: ``@task.ray``, ``@ray.task``, ``@ray_task``.

    The function goes there with its arguments and with what it uses of its file; its value comes back. The worker
    needs no Ray, and the cluster neither Airflow nor Airfreight.

    :param python_callable: the function.
    :param multiple_outputs: push each item of the returned dict as an XCom of its own; by default if the function is
        annotated to return a dict.
    :param config: parameters of :class:`~airfreight.operators.ray.SubmitRayJob` as a dict, which is rendered, or a
        function that returns them when the task runs. It gets the ``context`` and anything of the operator that it
        names. With an ``entrypoint`` in it, that runs in place of the function.
    :param conn_id: the Airflow connection, of the type ``ray``.
    :param resources: custom resources of the cluster that the function needs.
    :param ray_conn_id: another name of ``conn_id``.
    :param ray_worker_pool: another name of Airflow's ``pool``.
    :param eager: no effect.
    :param checkpoint: no effect yet.
    :param kwargs: more of :class:`~airfreight.operators.ray.SubmitRayJob`'s parameters, such as ``num_cpus`` (1 unless
        the connection says otherwise), ``num_gpus``, ``memory`` and ``runtime_env``, and of every operator's.
    """
    for name, given, why in (
        ("eager", eager, "every function runs in a process of its own"),
        ("checkpoint", checkpoint, "values are kept by the XCom backend"),
    ):
        if given:
            warnings.warn(f"`{name}` of ray_task has no effect: {why}", UserWarning, stacklevel=2)
    for name, value in (
        ("conn_id", conn_id or ray_conn_id),
        ("pool", ray_worker_pool),
        ("config", config),
        # Airflow takes an operator's `resources` for something of its own, if the task is mapped.
        ("entrypoint_resources", resources),
    ):
        if value is not None:
            kwargs.setdefault(name, value)
    return task_decorator_factory(
        python_callable=python_callable,
        multiple_outputs=multiple_outputs,
        decorated_operator_class=_RayDecoratedOperator,
        **kwargs,
    )


class ray:  # noqa: N801 - as one writes it: `@ray.task`
    """``@ray.task``, as astronomer's provider has it."""

    task = staticmethod(ray_task)


def _python(executable: str | None) -> str:
    """The shell's words for the job's Python, for which a runtime environment may have a launcher such as `uv run`."""
    if not executable:
        return '"$(command -v python || command -v python3)"'
    is_python = executable.split()[-1].rpartition("/")[2].startswith("python")
    return executable if is_python else f"{executable} python"


def _assets(values: Collection[Any]) -> list[Any]:
    from airflow.sdk import Asset

    return [value for value in values if isinstance(value, Asset)]


def _check_environment(name: str, environment: Mapping[str, Any]) -> None:
    for key in ("image_uri", "container"):
        if environment.get(key):
            raise InvalidError(
                f"cannot run {name} on Ray: its runtime environment has {key}, in which Ray ships no packages, and so "
                "no function",
                "run a script of the image with SubmitRayJob, or start the cluster from that image",
            )
    py_modules = environment.get("py_modules", ())
    if not isinstance(py_modules, list | tuple):
        raise InvalidError(
            f"py_modules of the runtime environment of {name} is not a list: {type(py_modules).__qualname__}"
        )


def _roots(context: Context) -> list[Path]:
    """The folders whose modules only Airflow knows: the DAG's bundle, the DAGs folder, the DAG file's own."""
    from pathlib import Path

    from airfreight.ray import versions

    task_instance: Any = context["ti"]
    bundle = getattr(task_instance, "bundle_instance", None)
    location = getattr(context.get("dag"), "fileloc", None)
    found = [
        getattr(bundle, "path", None),
        versions.configuration().get("core", "dags_folder", fallback=None),
        Path(location).parent if location else None,
    ]
    return list(dict.fromkeys(Path(each).absolute() for each in found if each))
