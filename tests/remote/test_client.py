"""What Python sees of the Ray client: values, errors, and no secrets."""

from __future__ import annotations

import pickle
import traceback
from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest

from airfreight import errors
from airfreight._remote import RayClient
from ray_home.fault_server import FaultServer

if TYPE_CHECKING:
    from pathlib import Path


def test_a_job_is_submitted_once_and_told_as_ray_tells_it(server: FaultServer, client: RayClient) -> None:
    submission = MappingProxyType({"entrypoint": "true", "submission_id": "a", "metadata": {"task": "t"}})
    server.control(
        "POST", "", {"path": "/api/jobs/", "method": "POST", "refuse": True, "carried_out": True, "times": 1}
    )
    assert client.submit(submission) is False, "the first answer was lost"
    job = client.job("a")
    assert job is not None
    assert (job["submission_id"], job["metadata"]["task"], job["entrypoint"]) == ("a", "t", "true")
    assert [job["submission_id"] for job in client.jobs()] == ["a"]
    assert client.job("b") is None
    with pytest.raises(errors.ConflictError):
        client.submit({"entrypoint": "false", "submission_id": "a"})
    with pytest.raises(errors.InvalidError, match="submission_id"):
        client.submit({"entrypoint": "true"})
    with pytest.raises(errors.InvalidError, match="the submission"):
        client.submit({"entrypoint": object()})


def test_logs_are_text_without_control_lines(server: FaultServer, client: RayClient) -> None:
    log = "one\n\x1eairfreight n {}\n  two\nthree"
    server.add_job("a", states=[[0, "RUNNING"], [1, "SUCCEEDED"]], log=log)
    assert client.logs("a").endswith("\none\n  two\nthree")
    assert client.last_lines("a", 3) == ["\x1eairfreight n {}", "  two", "three"]
    job = client.job("a")
    assert job is not None
    assert client.log_file(job["driver_node_id"], "job-driver-a.log").endswith(log.encode())
    with pytest.raises(errors.ObjectNotFoundError):
        client.log_file(job["driver_node_id"], "nothing.txt")


def test_stop_and_delete_say_what_came_of_it(server: FaultServer, client: RayClient) -> None:
    server.add_job("a", states=[[0, "RUNNING"]])
    assert client.stop("a") is True
    server.add_job("b", states=[[0, "RUNNING"], [1, "SUCCEEDED"]])
    while client.stop("b"):
        pass
    assert client.delete("b") is True
    assert client.delete("b") is False
    with pytest.raises(errors.ObjectNotFoundError):
        client.stop("b")


def test_packages_are_uploaded_where_they_are_missing(server: FaultServer, client: RayClient, tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("x = 1\n")
    resolved = client.resolve_runtime_env({"working_dir": ".", "env_vars": {"A": "b"}}, base=str(tmp_path))
    assert resolved["working_dir"].startswith("gcs://_ray_pkg_")
    assert resolved["env_vars"] == {"A": "b"}
    assert len(server.control("GET", "/packages")) == 1
    assert client.resolve_runtime_env({"working_dir": str(tmp_path)}) == {"working_dir": resolved["working_dir"]}


def test_errors_have_a_class_a_hint_and_a_cause() -> None:
    client = RayClient("http://127.0.0.1:9", timeout=2, patience=0)
    with pytest.raises(errors.UnavailableError) as raised:
        client.jobs()
    assert isinstance(raised.value, ConnectionError)
    assert raised.value.hint
    assert isinstance(raised.value.__cause__, OSError)
    with pytest.raises(errors.InvalidError, match="address"):
        RayClient("not an address")
    with pytest.raises(errors.InvalidError, match="timeout"):
        RayClient("http://ray:8265", timeout=-1)
    with pytest.raises(errors.InvalidError, match="cursor"):
        client.watch("a", cursor="somewhere")


def test_no_secret_is_shown() -> None:
    with FaultServer.start("--token", "right") as server:
        client = RayClient(
            server.address.replace("//", "//login:hidden@"),
            token="hidden",
            headers={"X-Key": "hidden"},
            cookies={"session": "hidden"},
            patience=0,
        )
        with pytest.raises(errors.DeniedError) as raised:
            client.jobs()
        shown = "".join(traceback.format_exception(raised.value)) + repr(client) + client.address + client.job_url("a")
        assert "hidden" not in shown
        with pytest.raises(TypeError):
            pickle.dumps(client)
