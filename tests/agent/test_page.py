"""
Goal: people find what the store holds, light or dark, without scripts, by mouse, keyboard and screen reader.

Method: a real agent over a store with real values, and a real Chromium. Pictures go to ``build/page`` for who wants to
look; what they show is asserted by what the browser says of it.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from agent.browser import Browser, missing
from airfreight import codec
from airfreight._store import Store
from host_home import binary

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

PICTURES = Path(__file__).parents[2] / "build" / "page"

EVIL = "<script>document.title = 'owned'</script>"


class Served:
    """An agent on a free port, over a store that holds what a few tasks have returned."""

    def __init__(self, *arguments: str) -> None:
        self._folder = folder = Path(tempfile.mkdtemp(prefix="airfreight-page-", dir="/dev/shm"))
        store = Store(str(folder / "store"), capacity_bytes=64 << 20, spill_path=str(folder / "spill"))
        self.token = secrets.token_hex(16)
        frame = pd.DataFrame(
            {
                "departed": pd.to_datetime(["2026-01-01 06:15", "2026-01-01 07:40", "2026-01-02 05:05"]),
                "carrier": ["UA", EVIL, "DL"],
                "delay": [2.5, None, -4.0],
            }
        )
        large = pd.concat([frame] * 100_000, ignore_index=True)

        def put(value: object, task_id: str, dag_id: str = "flights", day: int = 1, index: int = -1) -> str:
            owner = {"dag_id": dag_id, "run_id": f"scheduled__2026-01-0{day}T00:00:00+00:00", "task_id": task_id}
            return codec.put(store, value, owner=owner | {"map_index": index, "key": "return_value"}).name

        self.frame = put(large, "measure")
        put(large, "measure", day=2)
        for index in range(3):
            put(list(range(1000)), "by_zone", index=index)
        put(bytes(30 << 20), "train", dag_id="models")
        put(bytes(25 << 20), "train", dag_id="models", day=2)
        put({"note": EVIL}, EVIL, dag_id=EVIL)
        environment = os.environ | {"AIRFLOW_HOME": str(folder), "AIRFREIGHT_AGENT_TOKEN": self.token}
        environment["AIRFREIGHT_SPILL_PATH"] = str(folder / "spill")
        environment["AIRFREIGHT_CAPACITY_BYTES"] = "64 MiB"
        self._log = (folder / "agent.log").open("w+")
        self.process = subprocess.Popen(
            [binary(), "agent", "--listen", "127.0.0.1:0", "--store", str(folder / "store"), *arguments],
            env=environment,
            stderr=self._log,
        )
        self.url = self._address(folder / "agent.log")

    def _address(self, log: Path) -> str:
        while self.process.poll() is None:
            if found := re.search(r"listening .*?127\.0\.0\.1:(\d+)", log.read_text()):
                return f"http://localhost:{found[1]}"
        raise RuntimeError(log.read_text())

    def close(self) -> None:
        self.process.terminate()
        assert self.process.wait() == 0
        self._log.close()
        shutil.rmtree(self._folder)


@pytest.fixture
def served() -> Iterator[Served]:
    if reason := missing():
        pytest.skip(reason)
    served = Served("--airflow-url", "http://airflow.example")
    yield served
    served.close()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with Browser(tmp_path) as browser:
        yield browser


def sign_in(browser: Browser, served: Served, path: str = "/") -> None:
    browser.open(served.url + path)
    browser.value("document.querySelector('#token').focus()")
    browser.type(served.token)
    browser.click(".sign-in button")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_one_finds_a_frame_without_scripts(served: Served, browser: Browser, scheme: str) -> None:
    browser.set_up(dark=scheme == "dark")
    browser.open(served.url)
    browser.shoot(PICTURES / f"sign-in-{scheme}.png")
    assert "flights" not in browser.text()
    sign_in(browser, served)
    browser.shoot(PICTURES / f"store-{scheme}.png")
    text = browser.text()
    for words in ("What the store holds", "flights", "models", EVIL, "Shared memory", "Spill disk", "Sign out"):
        assert words in text
    assert browser.value("document.title") == f"What the store holds · Airfreight on {os.uname().nodename}"
    browser.click("a[href*='dag_id=flights']")
    browser.shoot(PICTURES / f"dag-{scheme}.png")
    assert "scheduled__2026-01-02" in browser.text()
    browser.click("a[href*='2026-01-01']")
    browser.shoot(PICTURES / f"run-{scheme}.png")
    assert "by_zone [2]" in browser.text()
    browser.click(f"a[href='objects/{served.frame}']")
    browser.shoot(PICTURES / f"object-{scheme}.png")
    text = browser.text()
    assert "300,000 \u00d7 3" in text
    assert EVIL in text
    heads = browser.value("[...document.querySelectorAll('table.values thead th > bdi')].map(e => e.textContent)")
    assert heads == ["departed", "carrier", "delay"]
    link = browser.value("[...document.links].map(a => a.href).find(href => href.includes('/tasks/'))")
    assert link.startswith("http://airflow.example/dags/flights/runs/scheduled__2026-01-01T00%3A00%3A00%2B00%3A00/")
    browser.click("header button")
    assert "Sign in" in browser.text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_are_told_apart_and_can_be_read(served: Served, browser: Browser, scheme: str) -> None:
    browser.set_up(dark=scheme == "dark")
    sign_in(browser, served)
    ground, sheet = browser.value("getComputedStyle(document.body).backgroundColor"), "section"
    assert (_luminance(ground) < 0.2) == (scheme == "dark")
    background = browser.value(f"getComputedStyle(document.querySelector('{sheet}')).backgroundColor")
    for selector in ("section a", "section .quiet", "section th", ".legend li", "dt", "td"):
        colour = browser.value(f"getComputedStyle(document.querySelector('{selector}')).color")
        lighter, darker = sorted((_luminance(colour), _luminance(background)), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (selector, colour, background)


def test_the_keyboard_and_a_screen_reader_are_enough(served: Served, browser: Browser) -> None:
    browser.set_up(dark=False)
    sign_in(browser, served)
    browser.press("Tab", 9)
    assert browser.value("document.activeElement.textContent") == "Skip to the content"
    headings = browser.names_of("heading")
    assert headings[0] == "What the store holds"
    assert {"Room", "DAGs"} <= set(headings)
    assert any("are taken" in name for name in browser.names_of("image"))
    assert len(browser.names_of("main")) == 1
    assert "flights" in browser.names_of("rowheader")


def test_a_narrow_screen_cuts_nothing_off(served: Served, browser: Browser) -> None:
    browser.set_up(dark=False, width=390)
    sign_in(browser, served, f"/objects/{served.frame}")
    browser.shoot(PICTURES / "object-narrow.png")
    assert browser.value("document.documentElement.scrollWidth") <= 390


def test_nothing_that_tasks_name_is_run(served: Served, browser: Browser) -> None:
    browser.set_up(dark=False, scripts=True)
    sign_in(browser, served)
    browser.click("a[href*='script']")
    assert EVIL in browser.text()
    assert "owned" not in browser.value("document.title").replace(EVIL, "")
    assert browser.value("document.scripts.length") == 0


def _luminance(colour: str) -> float:
    """Of WCAG 2."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
