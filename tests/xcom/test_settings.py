"""The declaration of ``[airfreight]``: each setting is checked, and a bad value is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airfreight import settings
from airfreight.errors import InvalidError
from airfreight.provider_info import get_provider_info
from airfreight.settings import SETTINGS, Settings, load_settings, parse_size, problems

if TYPE_CHECKING:
    from collections.abc import Callable

    from airfreight.process import Process

BY_NAME = {setting.name: setting for setting in SETTINGS}

BAD = {
    "store_path": ["relative/path", "/a\0b"],
    "capacity_bytes": ["12 potatoes", "-1", "GiB", "1 GiB extra"],
    "spill_path": ["~/spill"],
    "spill_capacity_bytes": ["half"],
    "pool_bytes": ["1,000"],
    "ttl_hours": ["0", "-1", "soon", "nan"],
    "inline_bytes_max": ["2 MiB"],
    "allow_pickle": ["maybe"],
    "preview": ["2"],
    "mapping": ["shared"],
    "secret_key": ["short", "long enough to be one,short", "[1]", '["not closed"'],
    "shared_store": [" "],
    "agent_url": ["host:8733", "ftp://host", "http://me:word@host", "http://{host", "http://{a b}", "http://host?x"],
    "agent_token": ["too-short", "two words in a token", "not-ascii-\u00e4\u00f6\u00fc-at-all"],
    "agent_token_file": ["token"],
    "agent_ca_file": ["~/ca.pem"],
    "agent_certificate_file": ["worker.pem"],
    "agent_key_file": ["worker.key"],
    "agents": ["worker-1:8733", "http://{host}:8733", "http://one:1, two:2"],
    "checkpoint": ["http://host/x", "s3://", "two words", "my aws@s3://bucket", "s3://me:word@bucket"],
    "checkpoint_all": ["some"],
    "deployment": ["x" * 101, "two\nlines"],
    "api_url": ["localhost:8080", "ftp://host", "http://user:password@host"],
    "api_token": [],
    "retention_hours": ["0"],
    "ray_mode": ["hot"],
    "ray_retention_hours": ["-1"],
    "ray_ttl_hours": ["soon"],
}


def test_every_setting_has_bad_values_here() -> None:
    assert set(BAD) == set(BY_NAME)


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in BAD.items() for text in texts])
def test_a_bad_value_is_named_with_what_is_accepted(name: str, text: str) -> None:
    setting = BY_NAME[name]
    with pytest.raises(InvalidError) as caught:
        setting.read(text)
    assert f"[airfreight] {name}" in caught.value.message
    assert setting.accepts in caught.value.message
    assert setting.example in (caught.value.hint or "")
    assert (repr(text) in caught.value.message) is not setting.sensitive


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_default_and_example_pass_their_own_check(setting: settings.Setting) -> None:
    setting.read(setting.example)
    if setting.default is not None:
        setting.read(setting.default)
    assert setting.default is not None or setting.default_text


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("4096", 4096), ("1 KB", 1000), ("512 MiB", 2**29), ("1.5gib", 3 * 2**29), ("2TB", 2 * 10**12)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("a long enough key", [b"a long enough key"]),
        ("a long enough key, another long key!", [b"a long enough key", b"another long key!"]),
        ('["with, a comma inside", "another long key!"]', [b"with, a comma inside", b"another long key!"]),
    ],
)
def test_keys(text: str, keys: list[bytes]) -> None:
    assert BY_NAME["secret_key"].read(text) == tuple(keys)


def test_airflow_knows_the_section() -> None:
    from airflow.configuration import conf

    options = get_provider_info()["config"]["airfreight"]["options"]
    assert set(options) == set(BY_NAME)
    assert conf.get("airfreight", "inline_bytes_max") == BY_NAME["inline_bytes_max"].default
    assert {name for name, option in options.items() if option.get("sensitive")} == {
        "agent_token",
        "api_token",
        "secret_key",
    }


def test_the_provider_information_is_what_airflow_accepts() -> None:
    import json
    from importlib.resources import files

    import jsonschema

    schema = json.loads(files("airflow").joinpath("provider_info.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(get_provider_info(), schema)


def test_settings_come_from_airflow(configure: Callable[..., Process]) -> None:
    loaded = configure(capacity_bytes="1 GiB", mapping="readonly", allow_pickle="False").settings
    assert (loaded.capacity_bytes, loaded.mapping, loaded.allow_pickle) == (2**30, "readonly", False)
    assert loaded.ttl_hours == 168


def test_a_key_may_come_from_a_command(configure: Callable[..., Process]) -> None:
    configure(secret_key_cmd="echo the key of a command")
    assert load_settings().secret_key == (b"the key of a command",)


def test_nothing_prints_a_secret(configure: Callable[..., Process]) -> None:
    loaded = configure(secret_key="a very secret key", api_token="a very secret token").settings
    assert loaded.secret_key == (b"a very secret key",)
    assert "secret" not in repr(loaded).replace("very", "").replace("shared", "")
    assert isinstance(loaded, Settings)


def test_problems_lists_all_of_them(configure: Callable[..., Process]) -> None:
    configure(mapping="upside down", ttl_hours="-3")
    assert [error.message.split()[1] for error in problems()] == ["ttl_hours", "mapping"]
    with pytest.raises(InvalidError):
        load_settings()
