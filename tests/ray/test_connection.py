"""Goal: every connection that users have is understood. Method: read Airflow connections; nothing is asked of Ray."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from airflow.sdk import Connection

from airfreight.errors import InvalidError
from airfreight.ray.connection import RayConnection, read

SECRET = "s3cr3t-of-nobody"


def connection(
    extra: dict[str, Any] | str | None = None, environ: dict[str, str] | None = None, **fields: Any
) -> RayConnection:
    text = json.dumps(extra) if isinstance(extra, dict) else extra
    return read(Connection(**{"conn_id": "ray_x", "conn_type": "ray", "extra": text, **fields}), "ray_x", environ or {})


@pytest.mark.parametrize(
    ("fields", "address"),
    [
        ({"extra": {"address": "http://head:8265"}}, "http://head:8265"),
        ({"extra": {"address": "anyscale://cluster"}}, "anyscale://cluster"),
        ({"extra": {"address": "http://head:8265"}, "host": "other"}, "http://head:8265"),
        ({"extra": {"extra__ray__address": "http://head:8265"}}, "http://head:8265"),
        ({"host": "head"}, "http://head:8265"),
        ({"host": "head", "port": 80}, "http://head:80"),
        ({"host": "head", "schema": "https", "port": 443}, "https://head:443"),
        ({"host": "https://proxy.example.com/ray"}, "https://proxy.example.com/ray"),
        ({"host": "proxy.example.com/ray", "schema": "https"}, "https://proxy.example.com:8265/ray"),
        ({"host": "[::1]"}, "http://[::1]:8265"),
        ({"environ": {"RAY_URL": "http://b", "RAY_ADDRESS": "http://a"}}, "http://a"),
        ({"environ": {"RAY_URL": "http://b"}}, "http://b"),
        ({"extra": {"address": ""}, "environ": {"RAY_URL": "http://b"}}, "http://b"),
        ({"host": "head", "environ": {"RAY_ADDRESS": "http://a"}}, "http://head:8265"),
        ({}, ""),
    ],
)
def test_the_address_may_stand_in_many_places(fields: dict[str, Any], address: str) -> None:
    assert connection(**fields).address == address


@pytest.mark.parametrize("fields", [{"host": "head", "port": 10001}, {"host": "http://head:10001"}])
def test_the_port_of_ray_client_is_replaced_with_a_warning(
    fields: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert connection(conn_type="http", **fields).address == "http://head:8265"
    assert "Set the connection's type to `ray` and its port to 8265" in caplog.text


def test_without_an_address_the_error_says_what_to_set() -> None:
    with pytest.raises(InvalidError, match=r"connection `ray_x` doesn't say where Ray is\nhint: .*RAY_ADDRESS"):
        connection().client()


@pytest.mark.parametrize(
    ("fields", "token", "basic"),
    [
        ({"password": SECRET}, SECRET, None),
        ({"extra": {"token": SECRET}}, SECRET, None),
        ({"login": "me", "password": "mine"}, None, ("me", "mine")),
        ({"login": "me", "password": "mine", "extra": {"token": SECRET}}, SECRET, ("me", "mine")),
        ({"environ": {"RAY_AUTH_TOKEN": SECRET}}, SECRET, None),
        ({"password": "first", "environ": {"RAY_AUTH_TOKEN": SECRET}}, "first", None),
        ({}, None, None),
    ],
)
def test_password_alone_is_the_token(fields: dict[str, Any], token: str | None, basic: tuple[str, str] | None) -> None:
    found = connection(**fields)
    assert (found.token, found.basic) == (token, basic)


@pytest.mark.parametrize("name", ["headers", "cookies", "metadata"])
@pytest.mark.parametrize("value", [{"a": "b", "n": 1}, '{"a": "b", "n": 1}'])
def test_objects_may_be_written_as_text(name: str, value: Any) -> None:
    assert getattr(connection({name: value}), name) == {"a": "b", "n": "1"}
    assert getattr(connection({name: ""}), name) == {}


@pytest.mark.parametrize(
    ("value", "verify"),
    [(None, True), ("", True), (True, True), (False, False), ("false", False), ("True", True), ("/ca.pem", "/ca.pem")],
)
def test_certificates_are_checked_unless_the_connection_says_no(value: Any, verify: bool | str) -> None:
    assert connection({"verify": value}).verify == verify


def test_the_connection_has_defaults_for_its_tasks() -> None:
    found = connection(
        {
            "num_cpus": "2",
            "num_gpus": 0.5,
            "memory": 1024,
            "resources": '{"TPU": 1}',
            "runtime_env": {"pip": ["x"]},
            "patience": 60,
            "timeout": "5",
        }
    )
    assert found.defaults == {
        "num_cpus": 2.0,
        "num_gpus": 0.5,
        "memory": 1024.0,
        "resources": {"TPU": 1},
        "runtime_env": {"pip": ["x"]},
    }
    assert (found.patience, found.timeout) == (60.0, 5.0)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("{", "the extra of connection `ray_x` is not JSON"),
        ("[1]", "the extra of connection `ray_x` is not a JSON object"),
        ({"headers": f"x{SECRET}"}, "headers in the extra of connection `ray_x` is not a JSON object"),
        ({"cookies": {"a": [SECRET]}}, "cookies in the extra of connection `ray_x` is not a JSON object of texts"),
        ({"num_cpus": "many"}, "num_cpus in the extra of connection `ray_x` is not a number"),
        ({"timeout": -1}, "timeout in the extra of connection `ray_x` is not a number of seconds above 0"),
        ({"address": {"a": 1}}, "address in the extra of connection `ray_x` is not a text"),
        (
            {"disable_verify_ssl": "perhaps"},
            "disable_verify_ssl in the extra of connection `ray_x` is not true or false",
        ),
        (
            {"kube_config": "{}", "kube_config_path": "/k"},
            "connection `ray_x` has both kube_config and kube_config_path",
        ),
    ],
)
def test_a_field_without_meaning_is_named_and_not_repeated(extra: Any, message: str) -> None:
    with pytest.raises(InvalidError) as raised:
        connection(extra)
    assert raised.value.message == message
    assert SECRET not in str(raised.value)


def test_secrets_are_known_and_not_shown() -> None:
    found = connection(
        {
            "headers": {"Authorization": f"Bearer {SECRET}-1"},
            "cookies": {"session": f"{SECRET}-2"},
            "token": f"{SECRET}-3",
            "kube_config": f"{SECRET}-4",
            "runtime_env": {"env_vars": {"KEY": f"{SECRET}-5"}},
            "proxy": f"http://me:{SECRET}-6@proxy:3128",
        },
        login="me",
        password=f"{SECRET}-7",
    )
    assert SECRET not in repr(found)
    assert {f"{SECRET}-{number}" for number in (1, 2, 3, 4, 6, 7)} <= set(found.secrets())
