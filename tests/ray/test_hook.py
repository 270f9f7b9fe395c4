"""
Goal: the hook offers what astronomer's does, tests its connection and keeps its secrets.

Method: a fault server instead of Ray.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from airflow.sdk.exceptions import AirflowRuntimeError

from airfreight.errors import InvalidError, ObjectNotFoundError
from airfreight.hooks.ray import RayHook
from airfreight.provider_info import get_provider_info
from airfreight.ray import versions
from airfreight.ray.form import FIELDS
from ray_home.fault_server import FaultServer

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = "s3cr3t-of-nobody"


def test_the_test_button_asks_the_cluster(server: FaultServer) -> None:
    assert RayHook().test_connection() == (True, f"Ray 2.60.0 on Python 3.11.7 answers at {server.address}")


def test_the_test_button_says_what_is_wrong(connect: Callable[..., None]) -> None:
    connect({"address": "http://127.0.0.1:1", "patience": 0.1})
    works, why = RayHook().test_connection()
    assert not works
    assert "http://127.0.0.1:1" in why
    connect({})
    works, why = RayHook().test_connection()
    assert not works
    assert "connection `ray_default` doesn't say where Ray is" in why


def test_the_test_button_needs_the_right_token(connect: Callable[..., None]) -> None:
    with FaultServer.start("--token", SECRET) as guarded:
        connect({"address": guarded.address}, password=SECRET)
        assert RayHook().test_connection()[0]
        connect({"address": guarded.address}, password="wrong-and-secret")
        works, why = RayHook().test_connection()
    assert not works
    assert "wrong-and-secret" not in why


def test_secrets_are_masked(server: FaultServer, monkeypatch: pytest.MonkeyPatch, connect: Callable[..., None]) -> None:
    masked: list[str] = []
    monkeypatch.setattr(versions, "mask_secret", masked.append)
    extra = {"address": server.address, "headers": {"X-Key": f"Bearer {SECRET}"}, "cookies": f'{{"a": "{SECRET}2"}}'}
    connect(extra, password=f"{SECRET}3")
    assert RayHook().address == server.address
    assert {SECRET, f"{SECRET}2", f"{SECRET}3"} <= set(masked)


def test_the_environment_may_stand_for_the_default_connection(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_RAY_DEFAULT")
    monkeypatch.setenv("RAY_ADDRESS", server.address)
    assert RayHook().get_conn().cluster()["ray_version"] == "2.60.0"
    assert asyncio.run(RayHook.acreate()).address == server.address
    with pytest.raises(Exception, match="ray_other"):
        RayHook("ray_other").get_conn()
    monkeypatch.delenv("RAY_ADDRESS")
    with pytest.raises(Exception, match="ray_default") as raised:
        RayHook().get_conn()
    assert not isinstance(raised.value, AirflowRuntimeError | InvalidError) or "ray_default" in str(raised.value)


def test_jobs_by_the_names_of_astronomers_hook(server: FaultServer) -> None:
    hook = RayHook("ray_default")
    job = hook.submit_ray_job(None, "echo hello", {"env_vars": {"A": "b"}}, entrypoint_num_cpus=1, metadata={"x": "y"})
    assert job.startswith("raysubmit_")
    body = server.submitted(job)
    assert body["runtime_env"] == {"env_vars": {"A": "b"}}
    assert (body["entrypoint_num_cpus"], body["metadata"]["x"]) == (1, "y")
    assert hook.submit_ray_job(server.address, "true", submission_id="mine", entrypoint_resources=None) == "mine"

    async def tail() -> str:
        return "".join([lines async for lines in hook.get_ray_tail_logs(None, "logging")])

    server.add_job("logging", states=[[0, "RUNNING"], [200, "SUCCEEDED"]], log="one\n  two\n")
    assert asyncio.run(tail()).endswith("one\n  two\n")
    assert hook.get_ray_job_status(None, "logging") == "SUCCEEDED"
    assert "  two\n" in hook.get_ray_job_logs(None, "logging")
    assert hook.stop_ray_job(None, "logging") is False
    assert hook.delete_ray_job(None, "logging") is True
    with pytest.raises(ObjectNotFoundError, match="Ray knows no job logging"):
        hook.get_ray_job_status(None, "logging")


def test_yaml_is_read_from_files_and_urls(tmp_path: Path, server: FaultServer) -> None:
    (tmp_path / "cluster.yaml").write_text("kind: RayCluster\n")
    assert RayHook().load_yaml_content(str(tmp_path / "cluster.yaml")) == {"kind": "RayCluster"}
    assert RayHook().load_yaml_content(f"{server.address}/api/version")["ray_version"] == "2.60.0"


def test_the_form_has_every_field() -> None:
    (declared,) = (
        each for each in get_provider_info()["connection-types"] if each["connection-type"] == RayHook.conn_type
    )
    assert declared["hook-class-name"] == f"{RayHook.__module__}.{RayHook.__qualname__}"
    assert declared["hook-name"] == RayHook.hook_name
    assert (
        set(declared["conn-fields"])
        == {field.name for field in FIELDS}
        >= {
            "address",
            "headers",
            "cookies",
            "metadata",
            "verify",
            "kube_config_path",
            "kube_config",
            "namespace",
            "cluster_context",
            "disable_verify_ssl",
            "disable_tcp_keepalive",
        }
    )
    assert declared["conn-fields"]["token"]["schema"]["format"] == "password"
    assert declared["conn-fields"]["verify"]["schema"]["default"] is True
