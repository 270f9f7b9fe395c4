"""A headless Chromium, by its DevTools protocol over a pair of pipes: no driver and no library in between."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import time
from itertools import count
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from pathlib import Path

#: As Debian and others call it.
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


def missing() -> str | None:
    """Why there can be no browser here; ``None`` where there can."""
    if _program() is None:
        return "there is no Chromium here (Debian: `apt-get install chromium`)"
    return None


def _program() -> str | None:
    return next(filter(None, map(shutil.which, _PROGRAMS)), None)


class Browser:
    """
    One tab.

    :param folder: where its profile goes.
    """

    def __init__(self, folder: Path) -> None:
        program = _program()
        assert program is not None, missing()
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()

        def give() -> None:
            # Chromium reads 3 and writes 4; moved out of the way first, since they may stand in each other's.
            source, target = os.dup2(theirs_in, 103), os.dup2(theirs_out, 104)
            os.dup2(source, 3)
            os.dup2(target, 4)

        flags = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")
        self._log = (folder / "chromium.log").open("wb")
        self._process = subprocess.Popen(
            [program, *flags, "--no-proxy-server", "--remote-debugging-pipe", f"--user-data-dir={folder / 'profile'}"],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            preexec_fn=give,
            close_fds=False,
            start_new_session=True,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._rest = b""
        self._ids = count(1)
        self._session: str | None = None
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._ask("Page.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._in)
        os.close(self._out)
        self._log.close()

    def set_up(self, *, dark: bool, scripts: bool = False, width: int = 1200) -> None:
        """What the reader's system is like."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._ask("Emulation.setEmulatedMedia", features=[scheme])
        self._ask("Emulation.setScriptExecutionDisabled", value=not scripts)
        self._ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)

    def open(self, url: str) -> None:
        """Go there, and wait until it is shown."""
        self._ask("Page.navigate", url=url)
        self.settle()

    def settle(self) -> None:
        """Wait until nothing loads any more."""
        for _ in range(600):
            if self.value("document.readyState") == "complete" and self.value("location.href") != "about:blank":
                return
            time.sleep(0.05)
        raise AssertionError("the page does not come to an end")

    def value(self, expression: str) -> Any:
        """What an expression is worth on the page; pages of ours have no scripts of their own."""
        result = self._ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def text(self) -> str:
        """What one reads."""
        return str(self.value("document.body.innerText"))

    def click(self, selector: str) -> None:
        """Press the mouse on an element, as people do, and wait for what comes of it."""
        self.value("window.before = true")
        box = f"document.querySelector({json.dumps(selector)}).getBoundingClientRect()"
        self.value(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{block: 'center'}})")
        x, y = self.value(f"(box => [box.x + box.width / 2, box.y + box.height / 2])({box})")
        for kind in ("mousePressed", "mouseReleased"):
            self._ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        for _ in range(600):
            if not self.value("window.before"):
                break
            time.sleep(0.05)
        self.settle()

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self._ask("Input.insertText", text=text)

    def press(self, key: str, code: int) -> None:
        """Press a key."""
        for kind in ("keyDown", "keyUp"):
            self._ask("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def names_of(self, role: str) -> list[str]:
        """What a screen reader says of all elements of a role."""
        nodes = self._ask("Accessibility.getFullAXTree")["nodes"]
        return [
            node.get("name", {}).get("value", "")
            for node in nodes
            if node.get("role", {}).get("value") == role and not node.get("ignored")
        ]

    def shoot(self, path: Path) -> bytes:
        """A picture of the whole page."""
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = base64.b64decode(self._ask("Page.captureScreenshot", captureBeyondViewport=True)["data"])
        path.write_bytes(picture)
        return picture

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._ids)
        message = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._rest:
                more = os.read(self._in, 1 << 20)
                assert more, "Chromium has ended"
                self._rest += more
            text, _, self._rest = self._rest.partition(b"\0")
            answer = json.loads(text)
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                result: dict[str, Any] = answer["result"]
                return result
