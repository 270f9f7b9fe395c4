"""Airflow connections as people have them, and what is not supported said clearly."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from airfreight.checkpoint import credentials, place
from airfreight.errors import InvalidError


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    found: dict[str, Any] = {}
    monkeypatch.setattr(credentials, "_get_connection", lambda conn_id: found[conn_id])
    return found


def connection(conn_type: str, extra: Any = None, **fields: Any) -> SimpleNamespace:
    text = extra if isinstance(extra, str) or extra is None else json.dumps(extra)
    return SimpleNamespace(conn_type=conn_type, extra=text, **{"login": None, "password": None, "host": None, **fields})


def test_aws_as_the_amazon_provider_spells_it(connections: dict[str, Any]) -> None:
    extra = {"region_name": "eu-west-1", "endpoint_url": "http://minio:9000", "aws_session_token": "t"}
    connections["c"] = connection("aws", extra, login="id", password="hunter2")
    found = credentials.of_connection("c")
    assert found.options == {
        "aws_access_key_id": "id",
        "aws_secret_access_key": "hunter2",
        "aws_session_token": "t",
        "aws_region": "eu-west-1",
        "aws_endpoint": "http://minio:9000",
    }
    assert (found.environment, found.url, found.verify) == (False, None, True)
    assert "hunter2" not in repr(found)


def test_aws_without_keys_leaves_them_to_the_environment(connections: dict[str, Any]) -> None:
    service = {"s3": {"bucket_name": "models", "endpoint_url": "http://here:1"}}
    connections["c"] = connection(
        "aws", {"service_config": service, "endpoint_url": "http://not-here", "verify": "false"}
    )
    found = credentials.of_connection("c")
    assert found.options == {"aws_endpoint": "http://here:1"}
    assert (found.environment, found.url, found.verify) == (True, "s3://models", False)


@pytest.mark.parametrize(
    ("extra", "options"),
    [
        ({"keyfile_dict": {"type": "service_account"}}, {"google_service_account_key": '{"type": "service_account"}'}),
        ({"keyfile_dict": '{"a": 1}', "key_path": "/k"}, {"google_service_account_key": '{"a": 1}'}),
        ({"extra__google_cloud_platform__key_path": "/k.json"}, {"google_service_account": "/k.json"}),
        ({}, {}),
    ],
)
def test_google_as_its_provider_spells_it(connections: dict[str, Any], extra: Any, options: Any) -> None:
    connections["c"] = connection("google_cloud_platform", extra)
    found = credentials.of_connection("c")
    assert (found.options, found.environment, found.scheme) == (options, not options, "gs")


@pytest.mark.parametrize(
    ("fields", "extra", "options"),
    [
        ({"login": "acme", "password": "k"}, {}, {"account_name": "acme", "account_key": "k"}),
        ({"login": "acme"}, {"sas_token": "https://x/?sv=1&sig=2"}, {"account_name": "acme", "sas_key": "sv=1&sig=2"}),
        (
            {},
            {"connection_string": "AccountName=acme;AccountKey=a2V5==;BlobEndpoint=http://127.0.0.1:10000/acme"},
            {"account_name": "acme", "account_key": "a2V5==", "endpoint": "http://127.0.0.1:10000/acme"},
        ),
        (
            {"login": "client", "password": "s", "host": "https://acme.blob.core.windows.net"},
            {"tenant_id": "t"},
            {"account_name": "acme", "client_id": "client", "client_secret": "s", "tenant_id": "t"},
        ),
    ],
)
def test_azure_as_its_provider_spells_it(connections: dict[str, Any], fields: Any, extra: Any, options: Any) -> None:
    connections["c"] = connection("wasb", extra | {"container_name": "models", "prefix": "/a/"}, **fields)
    found = credentials.of_connection("c")
    assert found.options == {f"azure_storage_{name}": value for name, value in options.items()}
    assert (found.environment, found.url) == (False, "az://models/a")


@pytest.mark.parametrize(
    ("conn", "message"),
    [
        (
            connection("aws", {"role_arn": "arn:x"}),
            "has the extra `role_arn`: checkpoints do not support assuming a role",
        ),
        (connection("aws", {"profile_name": "p"}), "do not support profiles"),
        (connection("google_cloud_platform", {"impersonation_chain": "x"}), "do not support impersonation"),
        (connection("postgres"), "is of the type postgres, which names no storage"),
        (connection("aws", "[1]"), "the extra of connection `c` is not a JSON object"),
    ],
)
def test_what_is_not_supported_is_said(connections: dict[str, Any], conn: Any, message: str) -> None:
    connections["c"] = conn
    with pytest.raises(InvalidError, match=message):
        credentials.of_connection("c")


def test_a_connection_must_name_a_bucket_of_its_own_kind(connections: dict[str, Any]) -> None:
    connections["c"] = connection("aws")
    with pytest.raises(InvalidError, match="connection `c` names no bucket for checkpoints"):
        place.access("c", None)
    with pytest.raises(InvalidError, match="of the type aws, which is not for `gs://`"):
        place.access("c", "gs://models")


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("s3://b/x", (None, "s3://b/x")),
        ("my_aws", ("my_aws", None)),
        ("my_aws@s3://b/x", ("my_aws", "s3://b/x")),
        ("abfss://c@a.dfs.core.windows.net/x", (None, "abfss://c@a.dfs.core.windows.net/x")),
        ("azure@abfss://c@a.dfs.core.windows.net/x", ("azure", "abfss://c@a.dfs.core.windows.net/x")),
    ],
)
def test_connection_and_url_are_told_apart(where: str, found: Any) -> None:
    assert place.split(where) == found


def test_no_name_leads_elsewhere() -> None:
    from airfreight.origin import Coordinates

    where = Coordinates("../x", "scheduled__2026-01-01T00:00:00+00:00", "group.task/1", 3, "..")
    assert place.folder("dep", where) == "dep/..%2Fx/scheduled__2026-01-01T00:00:00+00:00/group.task%2F1/3/%2E%2E"
    assert place.quoted("") == "%"
    long = place.quoted("ü" * 250)
    assert len(long) <= 120
    assert long != place.quoted("ü" * 249)
