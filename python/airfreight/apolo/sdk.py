"""The platform's own SDK, for those who want more of the platform than its jobs."""

from __future__ import annotations

import asyncio
import threading
from contextvars import copy_context
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from airfreight.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator

    from airfreight.apolo.connection import ApoloConnection

_DEFAULT_URL = "https://api.apolo.us/api/v1"


class Session:
    """
    A client of the SDK, and the event loop that it lives in.

    The loop has a thread of its own, so that it doesn't matter what the calling thread does; whatever runs in it shares
    its context variables.

    :param connection: who logs in where.
    :raises InvalidError: the SDK is not installed, or there is no token.
    """

    def __init__(self, connection: ApoloConnection) -> None:
        try:
            import apolo_sdk
        except ImportError:
            raise InvalidError(
                "hook.client needs Apolo's SDK, which is not installed", "pip install 'airfreight[apolo]'"
            ) from None
        if not connection.token:
            raise InvalidError(
                f"connection `{connection.conn_id}` has no token",
                "put what `apolo service-account create` prints into its password",
            )
        self._folder = TemporaryDirectory(prefix="airfreight-apolo-")
        #: Where the SDK keeps its configuration while the hook is open.
        self.path = self._folder.name
        self._context = copy_context()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="apolo-sdk", daemon=True)
        self._thread.start()
        self.client: Any = None
        try:
            self.client = self.run(self._login(apolo_sdk, connection))
        except BaseException:
            self.close()
            raise

    async def _login(self, apolo_sdk: Any, connection: ApoloConnection) -> Any:
        from pathlib import Path

        from yarl import URL

        passed = connection.passed()
        if connection.cluster and connection.cluster != passed.get("cluster"):
            # The passed config's are those of its own cluster.
            passed = {key: value for key, value in passed.items() if key not in ("org_name", "project_name")}
        url = connection.api_url or passed.get("url") or _DEFAULT_URL
        factory = apolo_sdk.Factory(path=Path(self.path) / "config")
        await factory.login_with_token(passed.get("token") or connection.token, url=URL(url))
        client = await factory.get()
        for switch, name, default in (
            (client.config.switch_cluster, connection.cluster, passed.get("cluster")),
            (client.config.switch_org, connection.org, passed.get("org_name")),
            (client.config.switch_project, connection.project, passed.get("project_name")),
        ):
            if name or default:
                await switch(name or default)
        return client

    def run(self, awaitable: Awaitable[Any]) -> Any:
        """Wait for something of the SDK's, and answer its result; exceptions come through."""
        done = threading.Event()
        task: asyncio.Task[Any] | None = None

        async def whole() -> Any:
            return await awaitable

        def begin() -> None:
            nonlocal task
            task = self._loop.create_task(whole(), context=self._context)
            task.add_done_callback(lambda _: done.set())

        self._loop.call_soon_threadsafe(begin)
        try:
            done.wait()
        except BaseException:
            # A signal's handler has raised: nobody waits any more.
            self._loop.call_soon_threadsafe(lambda: task.cancel() if task is not None else None)
            raise
        assert task is not None
        return task.result()

    def run_iter(self, items: Any) -> Iterator[Any]:
        """The items of something asynchronous, one by one; what must be entered is."""
        if not hasattr(items, "__aenter__"):
            yield from self._each(items)
            return
        entered = self.run(items.__aenter__())
        try:
            yield from self._each(entered)
        finally:
            self.run(items.__aexit__(None, None, None))

    def _each(self, items: Any) -> Iterator[Any]:
        iterator = aiter(items)
        end = object()
        while (item := self.run(_next(iterator, end))) is not end:
            yield item

    def close(self) -> None:
        """Close the client and its loop, and forget its configuration."""
        if not self._thread.is_alive():
            return
        try:
            if self.client is not None:
                self.run(self.client.close())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._folder.cleanup()


async def _next(iterator: Any, end: object) -> Any:
    return await anext(iterator, end)
