"""
Goal: hook and command reach the platform where its certificate is of one's own authority, and through proxies.

Method: a double that speaks TLS, and a proxy for HTTP and SOCKS that notes what it is asked for. A job's log goes each
way, too, since it takes a web socket.
"""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airfreight.hooks.apolo import ApoloHook
from apolo_home import Platform
from apolo_home.certificates import NAME, Certificates
from apolo_home.proxy import PASSWORD, Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Task

    #: Runs `echo hello` on the platform, and gives its log.
    Way = Callable[..., str]

#: Another build than the installed one, if the variable names it.
BINARY = os.environ.get("AIRFREIGHT_BINARY") or Path(sysconfig.get_path("scripts")) / "airfreight"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def secured(certificates: Certificates) -> Iterator[Platform]:
    """A platform that speaks TLS, with a certificate that the system doesn't trust."""
    with Platform.start(certificates) as platform:
        yield platform


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with Proxy() as proxy:
        yield proxy


@pytest.fixture(params=["hook", "command"])
def way(
    request: pytest.FixtureRequest, task: Task, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Way:
    """The hook as an operator uses it, or the command; both fail with an :class:`AssertionError`."""

    def by_hook(platform: Platform, **extra: Any) -> str:
        monkeypatch.setenv("AIRFLOW_CONN_APOLO_DEFAULT", platform.connection(patience=1, **extra))
        ok, words = ApoloHook().test_connection()
        assert ok, words
        assert task.run(job_command="echo hello", job_detach=False)["status"] == "succeeded"
        return capsys.readouterr().out

    def by_command(platform: Platform, **extra: Any) -> str:
        env = {"PATH": os.defpath, "APOLO_TOKEN": platform.token}
        if proxy := extra.get("proxy"):
            env["ALL_PROXY"] = proxy
        options = ["--patience", "1", "--api-url", extra.get("api_url", platform.api_url)]
        if "verify" in extra:
            options += ["--verify", str(extra["verify"])]
        run = ["run", "--image", "ubuntu", "--preset", "cpu-small", "--", "echo hello"]
        done = subprocess.run(
            [BINARY, "apolo", *options, *run], env=env, capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return by_hook if request.param == "hook" else by_command


def test_ones_own_authority_is_trusted(way: Way, secured: Platform, certificates: Certificates) -> None:
    assert "hello" in way(secured, verify=str(certificates.authority))
    assert secured.requests("GET", "/log_ws")


def test_certificates_need_not_be_checked(way: Way, secured: Platform) -> None:
    assert "hello" in way(secured, verify=False)


def test_an_unknown_authority_is_refused_with_what_to_do(way: Way, secured: Platform) -> None:
    with pytest.raises(AssertionError, match=r"cannot speak TLS with https://(?s:.*)verify"):
        way(secured)


@pytest.mark.parametrize("content", [None, "nothing"])
def test_a_bundle_that_is_none_is_named(content: str | None, way: Way, secured: Platform, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    if content is not None:
        bundle.write_text(content)
    with pytest.raises(AssertionError, match=r"cannot use the CA bundle in `.*bundle\.pem`"):
        way(secured, verify=str(bundle))


def test_a_proxy_reads_requests_without_tls(way: Way, platform: Platform, proxy: Proxy) -> None:
    assert "hello" in way(platform, proxy=proxy.url("http"))
    asked = [line.partition("?")[0] for line in proxy.asked]
    assert f"POST {platform.api_url}/jobs" in asked
    # A web socket is nothing that such a proxy must know.
    assert any(line.startswith(f"GET {platform.url}/mon/") and line.endswith("/log") for line in asked)


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
def test_tls_goes_through_a_proxy_that_knows_the_names(
    scheme: str, way: Way, secured: Platform, certificates: Certificates, proxy: Proxy
) -> None:
    api_url = secured.api_url.replace("127.0.0.1", NAME)
    said = way(secured, api_url=api_url, verify=str(certificates.authority), proxy=proxy.url(scheme))
    assert "hello" in said
    port = secured.url.rpartition(":")[2]
    verb = "CONNECT" if scheme == "http" else "SOCKS"
    # The API by its name, and the log where the platform says that it is.
    assert set(proxy.asked) == {f"{verb} {NAME}:{port}", f"{verb} 127.0.0.1:{port}"}
    headers = [request["headers"] for request in secured.requests()]
    assert not any("proxy-authorization" in map(str.lower, each) for each in headers)


@pytest.mark.parametrize("password", [None, "wrong-word"])
@pytest.mark.parametrize("scheme", ["http", "socks5h"])
def test_a_proxy_that_refuses_is_no_secret_but_its_password_is(
    scheme: str, password: str | None, way: Way, secured: Platform, certificates: Certificates, proxy: Proxy
) -> None:
    with pytest.raises(AssertionError) as refused:
        way(secured, verify=str(certificates.authority), proxy=proxy.url(scheme, password))
    words = str(refused.value)
    assert "the proxy wants a login" in words or scheme != "http", words
    assert "no answer from" in words or scheme == "http", words
    assert not {PASSWORD, "wrong-word", secured.token} & set(json.dumps(words).split()), words
    assert "wrong-word" not in words
    assert secured.token not in words
    assert not proxy.asked
