"""
Goal: Airflow's UI shows the agents' pages to those whom Airflow lets in, and nothing else of agents.

Method: a real Airflow with two agents over stores of their own, one of which ends; and one with agents that want TLS.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import ssl
import subprocess
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from agent.browser import Browser, missing
from airflow_home import AirflowHome
from airfreight._store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

BINARY = Path(sysconfig.get_path("scripts")) / "airfreight"
TOKEN = "the-token-of-those-who-read"
PICTURES = Path(__file__).parents[2] / "build" / "page"
RUN = "manual__2026-01-01T00:00:00+00:00"


class Host:
    """A store and its agent."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        folder.mkdir()
        self.store = Store(str(folder / "store"), spill_path=str(folder / "spill"))
        self._log = folder / "agent.log"
        token = folder / "token"
        token.write_text(TOKEN)
        command = [
            BINARY, "agent", "--store", self.store.path, "--listen", "127.0.0.1:0", "--token-file", token,
            "--log-format", "json", *arguments,
        ]  # fmt: skip
        self._scheme = "https" if "--tls-certificate" in arguments else "http"
        with self._log.open("w") as log:
            self._process = subprocess.Popen([str(word) for word in command], stdout=log, stderr=log)
        self.url = self._address()

    def _address(self) -> str:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for line in self._log.read_text().splitlines():
                if (said := json.loads(line)).get("message") == "listening":
                    return f"{self._scheme}://" + str(said["addresses"]).strip("[]")
            time.sleep(0.05)
        raise AssertionError(self._log.read_text())

    def put(self, dag_id: str, run_id: str) -> str:
        with self.store.create() as writer:
            writer.write(b"a value")
            owner = {"dag_id": dag_id, "run_id": run_id, "task_id": "clean", "map_index": -1, "key": "return_value"}
            preview = {"shape": [1, 1], "columns": {"zone": "str"}, "rows": [["Harlem"]]}
            return writer.seal(json.dumps({"type": "pandas.DataFrame", "owner": owner, "preview": preview}))

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(30)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Host]]:
    folder = tmp_path_factory.mktemp("hosts")
    hosts = [Host(folder / "one"), Host(folder / "two")]
    yield hosts
    for host in hosts:
        host.end()


@pytest.fixture(scope="module")
def home(hosts: list[Host], tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowHome]:
    env = {
        "AIRFLOW__AIRFREIGHT__AGENTS": ", ".join(host.url for host in hosts),
        "AIRFLOW__AIRFREIGHT__AGENT_TOKEN": TOKEN,
    }
    with AirflowHome(tmp_path_factory.mktemp("dags"), env=env) as home:
        yield home


class Authority:
    """Who signs certificates, each in a file with its key beside it."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.file = folder / f"{name}.pem"
        made = self._begin(self._name, self._key).add_extension(x509.BasicConstraints(True, None), critical=True)
        self._write(self.file, made)

    def sign(self, name: str) -> tuple[str, str]:
        """The files of a certificate for this host, and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate, private = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        made = self._begin(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]), key)
        self._write(certificate, made.add_extension(here, critical=False))
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        private.write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
        private.chmod(0o600)
        return str(certificate), str(private)

    def _begin(self, name: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )

    def _write(self, path: Path, made: x509.CertificateBuilder) -> None:
        path.write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))


def look(home: AirflowHome, path: str, *, token: str | None = None) -> tuple[int, str, dict[str, Any]]:
    headers = {"Authorization": f"Bearer {token or home.token}"}
    try:
        with urlopen(Request(f"{home.url}{path}", headers=headers)) as answer:
            return answer.status, answer.read().decode(), dict(answer.headers)
    except HTTPError as refused:
        return refused.code, refused.read().decode(), dict(refused.headers)


def test_the_pages_of_all_agents_are_shown(home: AirflowHome, hosts: list[Host]) -> None:
    name = hosts[0].put("taxis", RUN)
    hosts[1].put("planes", RUN)
    status, text, headers = look(home, "/airfreight/")
    assert status == 200
    assert all(host.url.removeprefix("http://") in text for host in hosts)
    assert "frame-ancestors 'self'" in headers["content-security-policy"]

    status, text, headers = look(home, "/airfreight/agents/0/")
    assert status == 200
    assert "taxis" in text
    assert "planes" not in text
    assert "frame-ancestors 'self'" in headers["content-security-policy"]
    assert "planes" in look(home, "/airfreight/agents/1/")[1]
    assert look(home, "/airfreight/agents/0/style.css")[2]["content-type"].startswith("text/css")
    assert "Harlem" in look(home, f"/airfreight/agents/0/objects/{name}")[1]
    # As a run's tab asks, with the plus of its id.
    status, text, _ = look(home, f"/airfreight/dags/taxis/runs/{RUN}/tasks/clean")
    assert status == 200
    assert "run_id=manual__2026-01-01T00%3A00%3A00%2B00%3A00" in text
    status, text, _ = look(home, "/airfreight/agents/0/?dag_id=taxis&run_id=manual__2026-01-01T00%3A00%3A00%2B00%3A00")
    assert status == 200
    assert "pandas.DataFrame" in text


def test_nothing_else_of_an_agent_can_be_reached(home: AirflowHome, hosts: list[Host]) -> None:
    name = hosts[0].put("taxis", RUN)
    # The last would be seen by who has the right to that DAG alone.
    paths = ["metrics", "v1/objects", f"v1/objects/{name}", "objects/../v1/objects", "objects/x", "sign-in"]
    paths += ["style.css/x", f"objects/{name}?dag_id=other"]
    for path in [*(f"agents/0/{path}" for path in paths), "agents/2/", "agents/-1/", "agents/x/"]:
        status, text, _ = look(home, f"/airfreight/{path}")
        assert status in (404, 422), (path, text)
    status, text, _ = look(home, "/airfreight/agents/0/", token="not-a-token")
    assert status in (401, 403)
    assert "taxis" not in text
    assert TOKEN not in look(home, "/airfreight/agents/0/")[1]


def test_airflow_links_to_them(home: AirflowHome) -> None:
    (plugin,) = [one for one in home.request("GET", "/plugins")["plugins"] if one["name"] == "airfreight"]
    links = {view["destination"]: view["href"] for view in plugin["external_views"]}
    assert links["nav"].endswith("/airfreight/")
    assert links["dag_run"].endswith("/airfreight/dags/{DAG_ID}/runs/{RUN_ID}")
    assert links["task_instance"].endswith("/tasks/{TASK_ID}")


@pytest.mark.slow
@pytest.mark.skipif(missing() is not None, reason=missing() or "")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_reader_finds_a_value_within_airflow(
    home: AirflowHome, hosts: list[Host], tmp_path: Path, scheme: str
) -> None:
    hosts[0].put("taxis", RUN)
    with Browser(tmp_path) as browser:
        browser.set_up(dark=scheme == "dark", scripts=True)
        browser.open(f"{home.url}/plugin/airfreight")
        frame = "document.querySelector('iframe')?.contentDocument"

        def shown(text: str) -> None:
            """Waits for a text in the frame."""
            for _ in range(600):
                if text in str(browser.value(f"{frame}?.body?.innerText ?? ''")):
                    return
                time.sleep(0.05)
            raise AssertionError(browser.text() + str(browser.value(f"{frame}?.body?.innerText ?? ''")))

        def follow(words: str) -> None:
            browser.value(f"[...{frame}.links].find(link => link.innerText.includes({json.dumps(words)})).click()")

        shown("What hosts hold")
        follow(hosts[0].url.removeprefix("http://"))
        shown("What the store holds")
        follow("taxis")
        shown(RUN)
        follow(RUN)
        shown("pandas.DataFrame")
        follow("clean")
        shown("Harlem")
        for _ in range(600):
            # The style sheet comes, too; until then, the page isn't painted.
            if browser.value(f"{frame}?.styleSheets?.[0]?.cssRules?.length ?? 0") > 10:
                break
            time.sleep(0.05)
        else:
            raise AssertionError("no style sheet came")
        browser.shoot(PICTURES / f"airflow-{scheme}.png")


def test_agents_are_asked_over_tls_with_a_certificate_of_their_own_authority(tmp_path: Path) -> None:
    """The third agent's certificate is of another authority; the second wants to see a certificate, too."""
    ours, others = Authority(tmp_path, "ours"), Authority(tmp_path, "others")
    server, stranger, client = ours.sign("server"), others.sign("stranger"), ours.sign("client")

    def host(name: str, pair: tuple[str, str], *arguments: str) -> Host:
        return Host(tmp_path / name, "--tls-certificate", pair[0], "--tls-key", pair[1], *arguments)

    hosts = [
        host("one", server),
        host("two", server, "--tls-client-ca", str(ours.file)),
        host("three", stranger),
    ]
    env = {
        "AIRFLOW__AIRFREIGHT__AGENTS": ", ".join(host.url for host in hosts),
        "AIRFLOW__AIRFREIGHT__AGENT_TOKEN": TOKEN,
        "AIRFLOW__AIRFREIGHT__AGENT_CA_FILE": str(ours.file),
        "AIRFLOW__AIRFREIGHT__AGENT_CERTIFICATE_FILE": client[0],
        "AIRFLOW__AIRFREIGHT__AGENT_KEY_FILE": client[1],
    }
    try:
        for one in hosts:
            one.put("taxis", RUN)
        with_authority_only = ssl.create_default_context(cafile=str(ours.file))
        headers = {"Authorization": f"Bearer {TOKEN}"}
        with pytest.raises(OSError, match=r"certificate required|closed|reset|handshake"):
            urlopen(Request(f"{hosts[1].url}/v1/objects", headers=headers), context=with_authority_only).read()
        (tmp_path / "dags").mkdir()
        with AirflowHome(tmp_path / "dags", env=env) as home:
            for number in (0, 1):
                status, text, _ = look(home, f"/airfreight/agents/{number}/")
                assert (status, "taxis" in text) == (200, True), text
            status, text, _ = look(home, "/airfreight/agents/2/")
            assert (status, "taxis" in text) == (502, False), text
            assert "does not answer" in text
            assert "certificate verify failed" in text
            assert TOKEN not in text
    finally:
        for one in hosts:
            one.end()


def test_an_agent_that_is_gone_is_told(home: AirflowHome, hosts: list[Host]) -> None:
    hosts[1].end()
    status, text, _ = look(home, "/airfreight/agents/1/")
    assert status == 502
    assert "does not answer" in text
    assert hosts[1].url.removeprefix("http://") in text
    assert look(home, "/airfreight/agents/0/")[0] == 200
