"""
Goal: connections of old and new spelling lead to the platform, and the hook gives its SDK. Method: a double of the
platform; the SDK's part runs in the SDK's own environment, because Airflow's hasn't it.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from airfreight.apolo import connection as connections
from airfreight.errors import InvalidError
from airfreight.hooks.apolo import ApoloHook
from airfreight.hooks.neuro import NeuroHook
from airfreight.provider_info import get_provider_info
from apolo_home import VENV

if TYPE_CHECKING:
    from apolo_home import Platform


def read(**fields: Any) -> connections.ApoloConnection:
    extra = fields.pop("extra", None)
    return connections.read(SimpleNamespace(extra=json.dumps(extra) if extra else None, **fields), "c")


def test_the_test_button_says_where_jobs_run(platform: Platform) -> None:
    assert ApoloHook().test_connection() == (
        True,
        f"Apolo answers at {platform.api_url}; jobs run in main/org/proj",
    )
    assert NeuroHook().connection_id == "neuro_default"


def test_the_test_button_says_what_is_wrong(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = json.dumps({"conn_type": "apolo", "password": "nonsense", "extra": {"api_url": platform.api_url}})
    monkeypatch.setenv("AIRFLOW_CONN_APOLO_DEFAULT", uri)
    ok, words = ApoloHook().test_connection()
    assert not ok
    assert "the token is not good" in words
    assert "nonsense" not in words


def test_a_connection_of_the_old_plugin_goes_on_working(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"token": platform.token, "cluster": "second", "api_url": platform.api_url}
    monkeypatch.setenv("AIRFLOW_CONN_OLD", json.dumps({"conn_type": "http", "extra": extra}))
    assert NeuroHook("old").get_conn().place()["cluster"] == "second"


def test_a_passed_config_is_enough(platform: Platform) -> None:
    config = {
        "token": platform.token,
        "cluster": "main",
        "url": platform.api_url,
        "org_name": "org",
        "project_name": "side",
    }
    passed = base64.b64encode(json.dumps(config).encode()).decode()
    connection = read(password=f"{passed[:40]}\n{passed[40:]}")
    assert connection.client().place() == {"cluster": "main", "org": "org", "project": "side"}
    assert platform.token in list(connection.secrets())
    # Another cluster has other organisations and projects.
    assert connection.client(cluster="second").place() == {"cluster": "second", "org": "org", "project": "p2"}


def test_another_organisation_is_not_mixed_with_the_connections_project(platform: Platform) -> None:
    connection = read(
        password=platform.token, extra={"api_url": platform.api_url, "cluster": "main", "org": "org", "project": "side"}
    )
    assert connection.client(org="other-org").place()["project"] == "far"
    assert connection.client(project="proj").place()["org"] == "org"


@pytest.mark.parametrize(
    "extra", [{"timeout": "soon"}, {"cluster": 3}, {"api_url": "ftp://x"}, {"proxy": "nonsense://"}]
)
def test_fields_without_meaning_are_refused_by_name(extra: dict[str, Any]) -> None:
    with pytest.raises(InvalidError, match=next(iter(extra))):
        read(password="secret-word", extra=extra).client()


def test_no_secret_is_shown() -> None:
    shown = repr(read(password="secret-word", extra={"proxy": "http://me:secret-too@proxy"}))
    assert "secret" not in shown


def test_without_a_token_it_is_said_where_one_comes_from() -> None:
    with pytest.raises(InvalidError, match="has no token"):
        read().client()


def test_both_connection_types_have_their_form() -> None:
    declared = {each["connection-type"]: each for each in get_provider_info()["connection-types"]}
    assert declared["apolo"]["hook-class-name"] == "airfreight.hooks.apolo.ApoloHook"
    assert declared["neuro"]["hook-class-name"] == "airfreight.hooks.neuro.NeuroHook"
    assert declared["neuro"]["conn-fields"].keys() == declared["apolo"]["conn-fields"].keys()


def test_the_sdk_is_asked_for_where_it_is_needed(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apolo_sdk", None)
    hook = ApoloHook()
    with pytest.raises(RuntimeError, match="login"):
        _ = hook.client
    with pytest.raises(InvalidError, match=r"SDK, which is not installed\nhint: pip install 'airfreight\[apolo\]'"):
        hook.login()


def test_the_sdk_works_through_the_hook(platform: Platform) -> None:
    """In the SDK's environment, with as much of Airfreight as needs no Airflow."""
    import airfreight

    program = f"""
import asyncio, contextvars, sys, types
sys.path.insert(0, {str(Path(airfreight.__file__).parents[1])!r})
package = types.ModuleType("airfreight"); package.__path__ = [{str(Path(airfreight.__file__).parent)!r}]
sys.modules["airfreight"] = package
from airfreight.apolo.connection import ApoloConnection
from airfreight.apolo.sdk import Session
from pathlib import Path
connection = ApoloConnection("c", token={platform.token!r}, api_url={platform.api_url!r}, project="side")
session = Session(connection)
client = session.client
assert client.config.project_name == "side"
uri = client.parse.str_to_uri("storage:data.csv")

async def content():
    yield b"a,b"

session.run(client.storage.create(uri, content()))
assert session.run(client.storage.stat(uri)).size == 3
try:
    session.run(client.storage.stat(client.parse.str_to_uri("storage:none")))
except Exception as error:
    assert type(error).__name__ == "ResourceNotFound", error
else:
    raise AssertionError
assert b"".join(session.run_iter(client.storage.open(uri))) == b"a,b"
word = contextvars.ContextVar("word", default="unset")

async def keep():
    word.set("kept")

session.run(keep())

async def kept():
    return word.get()

assert session.run(kept()) == "kept"

async def inside():
    return session.run(client.storage.stat(uri)).size

assert asyncio.run(inside()) == 3
path = session.path
session.close()
session.close()
assert not Path(path).exists()
print("good")
"""
    done = subprocess.run(
        [VENV / "bin" / "python", "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout == "good\n", done.stderr
