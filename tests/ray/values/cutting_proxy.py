"""A TCP proxy that cuts, damages or holds what passes it, at exact bytes."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

_BLOCK_BYTES = 64 * 1024


@dataclass
class Direction:
    """One way through the proxy, over all its connections. Positions count from the beginning of the proxy's life."""

    #: Where the connection that comes to it is cut.
    cuts: list[int] = field(default_factory=list)
    #: Which bytes arrive changed.
    flips: list[int] = field(default_factory=list)
    #: Nothing beyond passes until :attr:`released`.
    hold_at: int | None = None
    passed_bytes: int = 0
    held: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def admit(self, block: bytearray) -> tuple[bytes, bool]:
        """
        What passes of a block.

        :returns: the bytes, and whether the connection is cut behind them.
        """
        with self._lock:
            start, end = self.passed_bytes, self.passed_bytes + len(block)
            cut = next((at for at in sorted(self.cuts) if at < end), None)
            if cut is not None:
                self.cuts.remove(cut)
                end = max(start, cut)
            for at in [at for at in self.flips if start <= at < end]:
                block[at - start] ^= 0x40
                self.flips.remove(at)
            self.passed_bytes = end
            hold = self.hold_at is not None and end >= self.hold_at
        if hold:
            self.held.set()
            self.released.wait(60)
        return bytes(block[: end - start]), cut is not None


class CuttingProxy:
    """
    Listens on a port of its own and passes on what comes, to ``port`` of this host.

    :param port: gives the port that is behind it, anew for each connection.
    """

    def __init__(self, port: Callable[[], int]) -> None:
        self._target = port
        #: To the server, and from it.
        self.up, self.down = Direction(), Direction()
        self.connections = 0
        self._open: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for direction in (self.up, self.down):
            direction.released.set()
        self._listening.close()
        for connection in self._open:
            _end(connection)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self._target()))
            except OSError:
                if self._listening.fileno() < 0:
                    return
                _end(client)
                continue
            self.connections += 1
            self._open += [client, server]
            for source, sink, direction in ((client, server, self.up), (server, client, self.down)):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=_pass, args=(source, sink, direction), daemon=True).start()


def _pass(source: socket.socket, sink: socket.socket, direction: Direction) -> None:
    block = bytearray(_BLOCK_BYTES)
    with contextlib.suppress(OSError):
        while count := source.recv_into(block):
            data, cut = direction.admit(block[:count])
            sink.sendall(data)
            if cut:
                break
    _end(source)
    _end(sink)


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
