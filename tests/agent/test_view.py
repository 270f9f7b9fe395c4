"""
Goal: Airflow's UI shows the agents' pages to those whom Airflow lets in, and nothing else of agents.

Method: a real Airflow with two agents over stores of their own; one of them ends.
"""

from __future__ import annotations

import json
import subprocess
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

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

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.store = Store(str(folder / "store"), spill_path=str(folder / "spill"))
        self._log = folder / "agent.log"
        token = folder / "token"
        token.write_text(TOKEN)
        command = [
            BINARY, "agent", "--store", self.store.path, "--listen", "127.0.0.1:0", "--token-file", token,
            "--log-format", "json",
        ]  # fmt: skip
        with self._log.open("w") as log:
            self._process = subprocess.Popen([str(word) for word in command], stdout=log, stderr=log)
        self.url = self._address()

    def _address(self) -> str:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for line in self._log.read_text().splitlines():
                if (said := json.loads(line)).get("message") == "listening":
                    return "http://" + str(said["addresses"]).strip("[]")
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


def test_an_agent_that_is_gone_is_told(home: AirflowHome, hosts: list[Host]) -> None:
    hosts[1].end()
    status, text, _ = look(home, "/airfreight/agents/1/")
    assert status == 502
    assert "does not answer" in text
    assert hosts[1].url.removeprefix("http://") in text
    assert look(home, "/airfreight/agents/0/")[0] == 200
