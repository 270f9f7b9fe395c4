"""A function as a task that runs on a Ray cluster."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk.bases.decorator import DecoratedOperator, task_decorator_factory

from airfreight.errors import AirfreightError, InvalidError
from airfreight.operators.ray import SubmitRayJob
from airfreight.operators.ray_cluster import guard
from airfreight.process import here
from airfreight.ray import versions, warm
from airfreight.ray.warm import ISOLATIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from airflow.sdk import Context
    from airflow.sdk.bases.decorator import TaskDecorator

    from airfreight._remote import RayClient
    from airfreight.ray.attempt import Attempt
    from airfreight.ray.outcome import Outcome
    from airfreight.ray.parcel import Parcel
    from airfreight.ray.plane import Cluster
    from airfreight.ray.warm import Calls

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
        "cluster_timeout_seconds",
        "mode",
        "isolation",
        "eager",
        "checkpoint",
        "checkpoint_source",
        "reuse_checkpoint",
    )
} | {
    "resources": "ray_resources",
    "entrypoint_num_cpus": "num_cpus",
    "entrypoint_num_gpus": "num_gpus",
    "entrypoint_memory": "memory",
    "entrypoint_resources": "ray_resources",
    "on_kill": "kill_action",
}

_CHECKPOINT = ("checkpoint", "checkpoint_source", "reuse_checkpoint")

#: CPUs of a function whose task and connection say nothing, as astronomer's decorator has it; its operator has 0.
_NUM_CPUS = 1

#: What comes back with the news that a call is over; a larger result stays in the cluster.
_INLINE_BYTES_MAX = 12 * 1024

_INPUT_LOST = "INPUT_LOST"


class _RayDecoratedOperator(DecoratedOperator, SubmitRayJob):
    """
    Runs a function on Ray, by a runner or as a job, and returns its value or a handle of it.

    :param python_callable: the function.
    :param op_args: its positional arguments.
    :param op_kwargs: its keyword arguments.
    :param config: more of these parameters and of :class:`~airfreight.operators.ray.SubmitRayJob`'s, or a function
        that gives them. What is said outside of it counts for more.
    :param mode: ``auto``, ``warm`` or ``cold``; by default as the connection says, then the settings.
    :param isolation: ``pool`` runs the function in a process that ran others before, ``process`` in a fresh one.
    :param eager: run it in the actor of its DAG run that keeps what refers into Ray.
    :param checkpoint: keep a copy of the value in a bucket: ``True``, or its URL or connection id.
    :param checkpoint_source: the bucket of ``checkpoint=True``.
    :param reuse_checkpoint: take a value that an earlier attempt has kept in place of running again.
    """

    custom_operator_name = "@task.ray"
    #: Handles will do for arguments, see :func:`airfreight.caller.takes_handles`.
    takes_ray_values = True
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
        mode: str | None = None,
        isolation: str | None = None,
        eager: bool | None = None,
        checkpoint: bool | str | None = None,
        checkpoint_source: str | None = None,
        reuse_checkpoint: bool | None = None,
        **kwargs: Any,
    ) -> None:
        if config is not None and not callable(config) and not isinstance(config, dict):
            raise InvalidError(
                f"config of {python_callable.__name__} is neither a dict nor a function: {type(config).__qualname__}"
            )
        own = {
            "mode": mode,
            "isolation": isolation,
            "eager": eager,
            "checkpoint": checkpoint,
            "checkpoint_source": checkpoint_source,
            "reuse_checkpoint": reuse_checkpoint,
        }
        # Said here rather than in the config, or by default.
        self._said = {
            _CONFIG[name] for name, value in {**kwargs, **own}.items() if name in _CONFIG and value is not None
        }
        super().__init__(
            python_callable=python_callable, op_args=op_args, op_kwargs=op_kwargs, entrypoint=entrypoint, **kwargs
        )
        if entrypoint:
            self._said.add("entrypoint")
        # Airflow calls a function that it finds in a template field, in its own way.
        self.config = {} if callable(config) else dict(config or {})
        self.config_function = config if callable(config) else None
        self.mode = mode
        self.isolation = isolation
        self.eager = eager
        self.checkpoint = checkpoint
        self.checkpoint_source = checkpoint_source
        self.reuse_checkpoint = reuse_checkpoint
        self._cluster: Cluster | None = None
        for name, value in self.config.items():
            if name in _CHECKPOINT and name not in self._said:
                setattr(self, name, value)
        self._plan_checkpoint()

    @property
    def is_async(self) -> bool:
        """Whether Airflow should await the task: the cluster awaits the function."""
        return False

    def execute(self, context: Context) -> Any:
        """Submit the function or take over the job there is, wait for it, and return its value."""
        with versions.no_retry_in_vain():
            self._configure(context)
        self.inlets.extend(_assets([*self.op_args, *self.op_kwargs.values()]))
        # Past the base class, whose own way differs from one Airflow to the next.
        return self._noted(SubmitRayJob.execute(self, context))

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> Any:
        """Return the value after the trigger has seen the end of the job."""
        with versions.no_retry_in_vain(), guard(self):
            # Which goes, too, if the configuration fails now.
            self._take_cluster(event or {})
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
        self.installs = self.installs or bool(config.get("kuberay_version"))
        if self.num_cpus is None and "num_cpus" not in self.hook.connection.defaults:
            self.num_cpus = _NUM_CPUS
        if self.isolation is not None and self.isolation not in ISOLATIONS:
            raise InvalidError(f"isolation={self.isolation!r} is none of {', '.join(ISOLATIONS)}")
        self._plan_checkpoint()

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

    # Where it runs

    def _choose(self, attempt: Attempt) -> Calls | None:
        from airfreight.ray import plane

        connection = self.hook.connection
        environment = self._environment(connection.defaults.get("runtime_env") or {})
        wished = warm.mode(self.mode, connection.mode, self.conn_id, here().settings.ray_mode)
        if self._is_alone and wished.name == "auto":
            wished = wished._replace(name="cold", said_by="nobody else would use a runner of the task's own cluster")
        hindrance = warm.obstacle(environment, self.entrypoint)
        if not self.entrypoint:
            _check_environment(self._name, environment)
        if wished.name == "cold" and self.eager:
            self.log.warning("`eager` has no effect on a Ray job of its own, whose actors end with it")

        def start() -> Mapping[str, Any]:
            return self._there.runner.ready(warm.READY_SECONDS)

        if not warm.choose(wished, hindrance, self._name, start, self.log.info):
            return None
        return self._calls_of(plane.owner_name(attempt))

    def _places(self, attempt: Attempt) -> Iterator[RayClient | Calls]:
        from airfreight.ray import plane

        yield self.client
        # An attempt before may have run in the other mode.
        if self.calls is not None:
            yield self.calls
        elif not self.entrypoint and self._there.runner.running():
            yield self._calls_of(plane.owner_name(attempt))

    def _has_runner(self) -> bool:
        """Whether there is somebody in the cluster to leave a job's result with."""
        if self._is_alone:
            return False
        runner = self._there.runner
        if runner.running():
            return True
        if self.mode is None and self.hook.connection.mode is None:
            # Nobody has asked for anything but jobs.
            return False
        try:
            runner.ready(warm.READY_SECONDS)
        except AirfreightError as error:
            self.log.info("the result will come back with the job, because no runner can start: %s", error.message)
            return False
        return True

    @property
    def _is_alone(self) -> bool:
        """Whether the cluster goes with the task, so that no value can stay there."""
        return self.cluster is not None and self.cluster.is_ours

    @property
    def _there(self) -> Cluster:
        """The cluster, and what it holds."""
        from airfreight.ray import plane

        if self._cluster is None:
            self._cluster = plane.cluster(self.hook.connection, self.dashboard_url, self.client)
        return self._cluster

    # What runs

    def _submission(self, context: Context, client: RayClient) -> dict[str, Any]:
        if self.entrypoint:
            return super()._submission(context, client)
        from airfreight.ray import plane
        from airfreight.ray.attempt import Attempt
        from airfreight.ray.parcel import driver_package

        attempt = Attempt.of(context)
        info = plane.owner_info(attempt)
        owner = {"name": plane.owner_name(attempt), **info}
        stays = None
        if self.calls is None and plane.keeps_values() and self._has_runner():
            stays = {
                "runner": self._there.runner.id,
                "owner": owner["name"],
                "info": info,
                "key": self._id(attempt),
                "parts": self._parts(context),
                "inline_bytes_max": _INLINE_BYTES_MAX,
            }
        parcel, places = self._pack(context, owner["name"], info, stays)
        submission = super()._submission(context, client)
        environment = submission.pop("runtime_env", None) or {}
        modules = environment.get("py_modules", ())
        if self.calls is None:
            packages = [client.upload(driver_package()), *map(client.upload, parcel.packages())]
            return submission | {
                "entrypoint": f"exec {_python(environment.get('py_executable'))} {parcel.entrypoint}",
                "runtime_env": environment | {"py_modules": [*packages, *modules]},
            }
        options = warm.options_of(submission)
        if environment:
            driver = client.upload(driver_package())
            options["runtime_env"] = environment | {"py_modules": [driver, *modules]}
        settings = here().settings
        return {
            "name": f"{attempt.dag_id}.{attempt.task_id}",
            "owner": owner,
            "options": options,
            "isolation": self.isolation or "pool",
            "eager": bool(self.eager),
            "parcel": warm.parcel_of(parcel, client),
            "inputs": places,
            "parts": self._parts(context),
            "inline_bytes_max": _INLINE_BYTES_MAX,
            "ttl_seconds": settings.ray_ttl_hours * 3600,
        }

    def _pack(
        self, context: Context, owner: str, info: Mapping[str, str], stays: Mapping[str, Any] | None
    ) -> tuple[Parcel, list[dict[str, Any]]]:
        """The call, and what the values are called that the cluster has."""
        from airfreight.ray import arguments, inputs, skew
        from airfreight.ray.function import Function
        from airfreight.ray.handle import within
        from airfreight.ray.parcel import Parcel

        environment = self._environment(self.hook.connection.defaults.get("runtime_env") or {})
        _check_environment(self._name, environment)
        function = Function(self.python_callable, _roots(context), allow_pickle=self._allows_pickle)
        args, kwargs = arguments.of(self.python_callable, self.op_args, self.op_kwargs, context)
        taken: inputs.Inputs | None = None
        if next(within([args, kwargs]), None) is not None:
            if self._allows_pickle:
                taken = inputs.Inputs(here(), self._there, owner, info, is_warm=self.calls is not None)
                args, kwargs = taken.take([args, kwargs])
            else:
                args, kwargs = inputs.real([args, kwargs])
        if taken is not None and taken.places:
            function.values.number = taken.number
            function.values.modules |= taken.types()
        shipped = function.argument(args, kwargs)
        if not {"conda", "py_executable"}.intersection(environment):
            # Else the job's Python is another than the cluster's.
            skew.check_python(function, self.client.cluster()["python_version"])
        places = [] if taken is None else taken.places
        parcel = Parcel(
            function,
            shipped,
            environment={name: value for name, value in os.environ.items() if name.startswith("AIRFLOW_CTX_")},
            libraries=skew.versions(function.libraries()),
            inputs=places,
            plane=stays,
        )
        return parcel, places

    def _parts(self, context: Context) -> str:
        """Whether the parts of the result are to be values of their own, for the tasks that take one each."""
        from airfreight.ray import plane

        if not plane.keeps_values():
            return "none"
        if self.multiple_outputs:
            return "dict"
        index = context["ti"].map_index
        if (index is None or index < 0) and next(iter(self.iter_mapped_dependants()), None) is not None:
            return "auto"
        return "none"

    # What became of it

    def _result(self, context: Context, client: RayClient, job: Mapping[str, Any]) -> Any:
        if self.entrypoint:
            return super()._result(context, client, job)
        outcome = self._outcome(context, client, job)
        value = outcome.value(self.python_callable, allow_pickle=self._allows_pickle)
        self._tidy(context)
        return value

    def _failure(self, context: Context, client: RayClient, job: Mapping[str, Any]) -> Exception:
        error: Exception | None = None
        if not self.entrypoint and job.get("status") == "FAILED":
            try:
                error = self._outcome(context, client, job).error(self.python_callable)
            except AirfreightError as unread:
                self.log.warning("could not read why the function failed: %s", unread)
            if isinstance(error, InvalidError) or job.get("error_type") == _INPUT_LOST:
                from airfreight.ray import inputs

                message = str(job.get("message") if error is None else error)
                error = inputs.lost([*self.op_args, *self.op_kwargs.values()], message) or error
        return super()._failure(context, client, job) if error is None else error

    def _outcome(self, context: Context, client: RayClient, job: Mapping[str, Any]) -> Outcome:
        from airfreight.ray.outcome import Outcome

        return Outcome(client, job, self._name, lambda record: self._left(context, record))

    def _left(self, context: Context, record: Mapping[str, Any]) -> Any:
        """A result that has stayed in the cluster: a handle of it, or the value for who can't read handles."""
        from airfreight.ray import handle, inputs, plane

        task_instance = context["ti"]
        owner = {
            "dag_id": task_instance.dag_id,
            "run_id": task_instance.run_id,
            "task_id": task_instance.task_id,
            "map_index": -1 if task_instance.map_index is None else task_instance.map_index,
            "key": "return_value",
        }
        value = handle.of_record(record, self._there.where, owner, preview=here().settings.preview)
        if plane.keeps_values() and not self._is_alone:
            return value
        brought = inputs.real(value)
        for each in handle.within(value):
            plane.drop(here(), each.row)
        return brought

    def _tidy(self, context: Context) -> None:
        """Note whose values are in the cluster, and free some that nobody needs."""
        from airfreight.ray import plane
        from airfreight.ray.attempt import Attempt

        if self._is_alone:
            return
        if self.calls is None and (self._cluster is None or not self._there.runner.running()):
            return
        attempt = Attempt.of(context)
        plane.note_use(here(), self.conn_id, self.dashboard_url, plane.owner_name(attempt), plane.owner_info(attempt))
        plane.clean(self._there, attempt, context["ti"], here().settings.ray_retention_hours)

    # Checkpoints

    def _plan_checkpoint(self) -> None:
        """Leave word for the XCom backend whether the value is to be kept in a bucket."""
        source = self.checkpoint_source if self.checkpoint in (None, True) else None
        wished = source or self.checkpoint
        if wished is None and self.reuse_checkpoint is None:
            return
        from airfreight import checkpoint

        wish = checkpoint.parse(wished, bool(self.reuse_checkpoint))
        if wish is not None and wished is True and not wish.reuse:
            # DAGs written for the old package say so on clusters that never had a bucket.
            wish = wish._replace(required=False)
        self.airfreight_checkpoint = wish

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
    :param kwargs: ``mode`` (``auto``, ``warm`` or ``cold``), ``isolation`` (``pool`` or ``process``), ``eager``,
        ``checkpoint``, ``checkpoint_source`` and ``reuse_checkpoint``; more of
        :class:`~airfreight.operators.ray.SubmitRayJob`'s parameters, such as ``num_cpus`` (1 unless the connection says
        otherwise), ``num_gpus``, ``memory`` and ``runtime_env``, and of every operator's.
    """
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
