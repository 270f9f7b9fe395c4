"""
A proxy for tests: HTTP (requests and tunnels) and SOCKS 5 on one port, for whoever has the login.

Whatever host it is asked for, it leads to this one: names are the proxy's affair.
"""

from __future__ import annotations

import asyncio
import base64
import threading
from contextlib import suppress
from typing import Self

LOGIN, PASSWORD = "me", "pa55word"
_BASIC = "Basic " + base64.b64encode(f"{LOGIN}:{PASSWORD}".encode()).decode()


class Proxy:
    """A running proxy; leaving the context ends it."""

    def __init__(self) -> None:
        #: What it was asked for, with the login: ``GET http://…``, ``CONNECT host:port`` and ``SOCKS host:port``.
        self.asked: list[str] = []
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def url(self, scheme: str, password: str | None = PASSWORD) -> str:
        """Its address; without a password nobody's."""
        login = "" if password is None else f"{LOGIN}:{password}@"
        return f"{scheme}://{login}127.0.0.1:{self.port}"

    async def _end(self) -> None:
        self._server.close()
        # Connections that clients keep open.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for other in others:
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, ValueError):
            first = await reader.readexactly(1)
            if first == b"\x05":
                await self._socks(reader, writer)
            else:
                await self._http(first + await reader.readuntil(b"\r\n\r\n"), reader, writer)
        writer.close()

    async def _http(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line, *headers = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        method, target, _ = line.split(" ")
        if f"proxy-authorization: {_BASIC}".lower() not in [header.lower() for header in headers]:
            writer.write(b"HTTP/1.1 407 Who are you?\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
            return
        self.asked.append(f"{method} {target}")
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            await _join(reader, writer, int(target.rpartition(":")[2]), b"")
            return
        authority, _, path = target.removeprefix("http://").partition("/")
        # One request a connection, so that each is looked at.
        kept = [each for each in headers if not each.lower().startswith(("proxy-authorization:", "connection:"))]
        forwarded = "\r\n".join([f"{method} /{path} HTTP/1.1", *kept, "Connection: close", "", ""])
        await _join(reader, writer, int(authority.rpartition(":")[2]), forwarded.encode("latin-1"))

    async def _socks(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        methods = await reader.readexactly((await reader.readexactly(1))[0])
        if 2 not in methods:
            writer.write(b"\x05\xff")
            return
        writer.write(b"\x05\x02")
        await reader.readexactly(1)
        login = [await reader.readexactly((await reader.readexactly(1))[0]) for _ in range(2)]
        if login != [LOGIN.encode(), PASSWORD.encode()]:
            writer.write(b"\x01\x01")
            return
        writer.write(b"\x01\x00")
        *_, kind = await reader.readexactly(4)
        if kind == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            host = ".".join(map(str, await reader.readexactly(4)))
        port = int.from_bytes(await reader.readexactly(2))
        self.asked.append(f"SOCKS {host}:{port}")
        writer.write(b"\x05\x00\x00\x01" + bytes(6))
        await _join(reader, writer, port, b"")


async def _join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int, first: bytes) -> None:
    """Pass on bytes between a client and a port of this host until both are done."""
    their_reader, their_writer = await asyncio.open_connection("127.0.0.1", port)
    their_writer.write(first)

    async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
            sink.write_eof()

    await asyncio.gather(copy(reader, their_writer), copy(their_reader, writer))
    their_writer.close()
