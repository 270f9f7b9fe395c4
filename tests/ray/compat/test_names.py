"""
Goal: DAG files for the two old packages find every name and every parameter. Method: import as they do; compare with
the parameter tables of their documentation.
"""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
import warnings
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OPERATORS = ("SetupRayCluster", "DeleteRayCluster", "SubmitRayJob")
#: Old module, name, and what the warning says.
NAMES = [
    *(
        (f"ray_provider.operators{end}", name, f"airfreight.operators.ray import {name}")
        for end in ("", ".ray")
        for name in OPERATORS
    ),
    ("ray_provider.operators.ray_decorators", "ray_task", "airfreight.decorators import ray_task"),
    ("ray_provider.hooks", "RayHook", "airfreight.hooks.ray import RayHook"),
    ("ray_provider.hooks.ray", "RayHook", "airfreight.hooks.ray import RayHook"),
    ("ray_provider.hooks.ray_client", "RayClientHook", "airfreight.hooks.ray import RayHook"),
    ("ray_provider.triggers", "RayJobTrigger", "airfreight.triggers.ray import RayJobTrigger"),
    ("ray_provider.triggers.ray", "RayJobTrigger", "airfreight.triggers.ray import RayJobTrigger"),
    ("ray_provider.decorators", "ray", "airfreight.decorators import ray"),
    ("ray_provider.decorators", "ray_task", "airfreight.decorators import ray_task"),
    ("ray_provider.decorators.ray", "ray", "airfreight.decorators import ray"),
    ("ray_provider.decorators.ray", "task", "airfreight.decorators import ray"),
    ("ray_provider.decorators.ray_decorators", "ray_task", "airfreight.decorators import ray_task"),
    ("ray_provider.constants", "TERMINAL_JOB_STATUSES", "airfreight.ray.job import TERMINAL_STATUSES"),
    ("ray_provider.exceptions", "RayAirflowException", "airfreight.ray.job import RayJobError"),
    ("ray_provider.xcom.ray_backend", "RayBackend", "airfreight.xcom import AirfreightXCom"),
]

#: What the old package connected to, whatever it was told.
OLD_DEFAULT = "ray_cluster_connection"
REQUIRED = inspect.Parameter.empty
#: By old name, the documented parameters with their defaults.
PARAMETERS: dict[tuple[str, str], dict[str, Any]] = {
    ("ray_provider.operators", "SetupRayCluster"): {
        "conn_id": REQUIRED,
        "ray_cluster_yaml": REQUIRED,
        "kuberay_version": "1.0.0",
        "gpu_device_plugin_yaml": "",
        "update_if_exists": False,
    },
    ("ray_provider.operators", "DeleteRayCluster"): {
        "conn_id": REQUIRED,
        "ray_cluster_yaml": REQUIRED,
        "gpu_device_plugin_yaml": "",
    },
    ("ray_provider.operators", "SubmitRayJob"): {
        "conn_id": REQUIRED,
        "entrypoint": REQUIRED,
        "runtime_env": REQUIRED,
        "num_cpus": 0,
        "num_gpus": 0,
        "memory": 0,
        "resources": None,
        "ray_cluster_yaml": None,
        "kuberay_version": "1.0.0",
        "update_if_exists": True,
        "gpu_device_plugin_yaml": "",
        "fetch_logs": True,
        "wait_for_completion": True,
        "job_timeout_seconds": 600,
        "poll_interval": 60,
        "xcom_task_key": None,
    },
    ("ray_provider.triggers", "RayJobTrigger"): {
        "job_id": REQUIRED,
        "conn_id": REQUIRED,
        "xcom_dashboard_url": REQUIRED,
        "ray_cluster_yaml": REQUIRED,
        "gpu_device_plugin_yaml": REQUIRED,
        "poll_interval": 30,
        "fetch_logs": True,
    },
    ("ray_provider.decorators", "ray_task"): {
        "python_callable": None,
        "ray_conn_id": "ray_default",
        "ray_worker_pool": "ray_worker_pool",
        "eager": False,
        "checkpoint": False,
        "multiple_outputs": None,
    },
    ("ray_provider.hooks", "RayHook"): {"conn_id": "ray_default"},
    ("ray_provider.hooks.ray_client", "RayClientHook"): {"ray_conn_id": "ray_default"},
}
#: What a connection may say now for all its tasks has no default in the signature; without it, it is as before.
FROM_CONNECTION = {"num_cpus", "num_gpus", "memory"}

#: The hook's methods with the parameters after ``self``.
METHODS = {
    "ray_client": ["dashboard_url"],
    "submit_ray_job": ["dashboard_url", "entrypoint", "runtime_env", "job_config"],
    "delete_ray_job": ["dashboard_url", "job_id"],
    "get_ray_job_status": ["dashboard_url", "job_id"],
    "get_ray_job_logs": ["dashboard_url", "job_id"],
    "get_ray_tail_logs": ["dashboard_url", "job_id"],
    "load_yaml_content": ["path_or_link"],
    "setup_ray_cluster": [
        "context",
        "ray_cluster_yaml",
        "kuberay_version",
        "gpu_device_plugin_yaml",
        "update_if_exists",
    ],
    "delete_ray_cluster": ["ray_cluster_yaml", "gpu_device_plugin_yaml"],
    "install_kuberay_operator": None,
    "uninstall_kuberay_operator": None,
    "get_daemon_set": None,
    "create_daemon_set": None,
    "delete_daemon_set": None,
}


@pytest.fixture(autouse=True)
def as_new(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test imports ``ray_provider`` as if nobody had, after Airflow, which sets up how warnings are shown."""
    importlib.import_module("airflow.sdk")
    for name in [name for name in sys.modules if name.split(".")[0] == "ray_provider"]:
        monkeypatch.delitem(sys.modules, name)
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "ray_provider"]:
        del sys.modules[name]


def take(module: str, name: str) -> Any:
    """``from module import name``, without a word."""
    with warnings.catch_warnings(action="ignore"):
        return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize(("module", "name", "now"), NAMES, ids=[f"{module}.{name}" for module, name, _ in NAMES])
def test_each_name_warns_once_where_it_is_now(module: str, name: str, now: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exec(f"from {module} import {name}", first := {})
        exec(f"from {module} import {name}", second := {})
    assert first[name] is second[name]
    said = [warning for warning in caught if issubclass(warning.category, DeprecationWarning)]
    assert [str(warning.message) for warning in said] == [f"{module}.{name} has moved: from {now}"]
    # Where the import stands, not where it was served.
    assert said[0].filename == "<string>"
    new_module, _, new_name = now.partition(" import ")
    assert hasattr(importlib.import_module(new_module), new_name)


def test_what_never_was_is_not_there() -> None:
    with pytest.raises(ImportError, match="cannot import name 'RayJob'"):
        exec("from ray_provider.operators import RayJob")


@pytest.mark.parametrize(("module", "name"), PARAMETERS, ids=[name for _, name in PARAMETERS])
def test_every_documented_parameter_is_taken_with_its_default(module: str, name: str) -> None:
    taken = take(module, name)
    parameters: dict[str, inspect.Parameter] = {}
    for each in reversed(taken.__mro__) if isinstance(taken, type) else [taken]:
        parameters |= inspect.signature(each).parameters
    for parameter, default in PARAMETERS[module, name].items():
        assert parameter in parameters
        if default is not REQUIRED:
            expected = None if parameter in FROM_CONNECTION else default
            assert parameters[parameter].default == expected, parameter


def test_old_tasks_still_wait_in_the_triggerer() -> None:
    job = take("ray_provider.operators", "SubmitRayJob")(
        task_id="job", conn_id="ray", entrypoint="true", runtime_env={}
    )

    def double(number: int) -> int:
        return 2 * number

    assert job.deferrable is True
    assert job.task_type == "SubmitRayJob"
    for config, deferrable in (({}, True), ({"deferrable": False}, False)):
        task = take("ray_provider.decorators", "ray").task(config=config)(double)(1).operator
        assert task.config.get("deferrable", task.deferrable) is deferrable


@pytest.mark.parametrize(
    ("said", "variables", "chosen"),
    [
        (
            "mine",
            {"AIRFLOW_CONN_MINE": "ray://", "ray_cluster_conn_id": "other", "AIRFLOW_CONN_OTHER": "ray://"},
            "mine",
        ),
        ("mine", {"ray_cluster_conn_id": "other", "AIRFLOW_CONN_OTHER": "ray://"}, "other"),
        ("mine", {"AIRFLOW_CONN_RAY_CLUSTER_CONNECTION": "http://", "AIRFLOW_CONN_RAY_DEFAULT": "ray://"}, OLD_DEFAULT),
        (
            "ray_default",
            {"AIRFLOW_CONN_RAY_CLUSTER_CONNECTION": "http://", "AIRFLOW_CONN_RAY_DEFAULT": "ray://"},
            "ray_default",
        ),
        (None, {"AIRFLOW_CONN_RAY_CLUSTER_CONNECTION": "http://", "AIRFLOW_CONN_RAY_DEFAULT": "ray://"}, OLD_DEFAULT),
        (None, {"AIRFLOW_CONN_RAY_DEFAULT": "ray://"}, "ray_default"),
        ("mine", {"RAY_ADDRESS": "http://ray-head:8265"}, "ray_default"),
        ("mine", {}, "mine"),
        (None, {}, "ray_default"),
    ],
)
def test_a_task_of_the_alpha_takes_the_first_connection_that_is_defined(
    said: str | None, variables: dict[str, str], chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    ray_task = take("ray_provider.decorators", "ray_task")

    def double(number: int) -> int:
        return 2 * number

    decorated = ray_task()(double) if said is None else ray_task(ray_conn_id=said)(double)
    assert decorated(1).operator.config_function() == {"conn_id": chosen}


def test_every_template_field_is_still_one() -> None:
    fields = take("ray_provider.operators", "SubmitRayJob").template_fields
    documented = {"conn_id", "entrypoint", "runtime_env", "num_cpus", "num_gpus", "memory", "xcom_task_key"}
    assert documented | {"ray_cluster_yaml", "job_timeout_seconds"} <= set(fields)


@pytest.mark.parametrize("method", METHODS)
def test_the_hook_has_every_method(method: str) -> None:
    function = getattr(take("ray_provider.hooks", "RayHook"), method)
    if METHODS[method] is not None:
        assert list(inspect.signature(function).parameters)[1:] == METHODS[method]


def test_the_module_ray_is_as_good_as_the_decorator_whose_place_it_takes() -> None:
    decorator = take("ray_provider.decorators", "ray")
    package = importlib.import_module("ray_provider.decorators")
    module = importlib.import_module("ray_provider.decorators.ray")
    assert package.ray is module
    with warnings.catch_warnings(action="ignore"):
        assert module.ray is decorator
        assert callable(module.task)


def test_statuses_compare_with_what_ray_s_own_enumeration_holds() -> None:
    assert take("ray_provider.constants", "TERMINAL_JOB_STATUSES") == {"SUCCEEDED", "STOPPED", "FAILED"}


def test_a_failed_job_is_what_the_old_exception_caught() -> None:
    from airfreight.ray.job import RayJobFailedError

    assert issubclass(RayJobFailedError, take("ray_provider.exceptions", "RayAirflowException"))


def test_importing_a_module_loads_nothing_that_no_name_needs() -> None:
    program = (
        "import sys, ray_provider.operators, ray_provider.decorators.ray_decorators, ray_provider.triggers.ray\n"
        "import ray_provider.hooks.ray_client, ray_provider.xcom.ray_backend, ray_provider.constants\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules} & {'airflow', 'airfreight', 'ray'}))\n"
        "from ray_provider.operators import SubmitRayJob\n"
        "from ray_provider.decorators import ray, ray_task\n"
        "from ray_provider.triggers import RayJobTrigger\n"
        "print(*sorted({'airfreight._remote', 'ray', 'kubernetes', 'numpy'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == ["", ""]


def test_the_distribution_is_no_provider_of_its_own() -> None:
    from importlib.metadata import distribution

    assert list(distribution("airfreight-ray-provider").entry_points) == []


def test_an_old_distribution_that_was_left_installed_does_not_end_airflow(tmp_path: Path) -> None:
    left = tmp_path / "astro_provider_ray-0.4.0.dist-info"
    left.mkdir()
    (left / "METADATA").write_text("Metadata-Version: 2.1\nName: astro-provider-ray\nVersion: 0.4.0\n")
    (left / "entry_points.txt").write_text(
        "[apache_airflow_provider]\nprovider_info = ray_provider.__init__:get_provider_info\n"
    )
    program = (
        f"import sys; sys.path.append({str(tmp_path)!r})\n"
        "from airflow.providers_manager import ProvidersManager\n"
        "print(ProvidersManager().providers['astro-provider-ray'].data['description'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "Replaced by Airfreight."
    assert "uninstall astro-provider-ray, then reinstall airfreight-ray-provider" in done.stderr
