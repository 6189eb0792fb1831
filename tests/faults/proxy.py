"""A TCP proxy that breaks connections in the ways that networks, and servers that die, break them."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TypeVar

CHUNK = 65536
RESET_AT_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER with no time to linger: close() then sends RST."""
INTERIM = b"HTTP/1.1 100"
"""The begin of an answer that only says that the rest of the request may come."""

T = TypeVar("T")
Target = tuple[str, int] | Path | str


@dataclass
class Drop:
    """A request to wait for, by bytes that it contains, and whether it has come."""

    matching: bytes
    happened: threading.Event = field(default_factory=threading.Event)


class TcpProxy:
    """Listens on a port of 127.0.0.1 and passes bytes to and from the target: (host, port), or a Unix socket's path.

    One thread runs an event loop, and every method waits until its effect is there.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.port = 0
        self.refused = False
        self.delay_seconds = 0.0
        self.dropped_replies: list[Drop] = []
        self.dropped_requests: list[Drop] = []
        self._connections: set[_Connection] = set()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="tcp-proxy")
        self._ready = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()

    def connections(self) -> int:
        """How many connections are open."""
        return self._call(lambda: len(self._connections))

    def reset(self) -> None:
        """Reset every open connection; new ones are accepted."""
        self._call(self._reset)

    def hold(self) -> None:
        """Let no bytes through until `release`, in either direction; connections stay open, and new ones are held."""
        self._call(self._flowing.clear)

    def release(self) -> None:
        """End `hold`; what was sent meanwhile arrives."""
        self._call(self._flowing.set)

    def delay(self, seconds: float) -> None:
        """Deliver each chunk that much later from now on; 0 ends it."""
        self.delay_seconds = seconds

    def refuse(self, refused: bool = True) -> None:
        """Reset the open connections, and every new one at once, until it is called with False."""

        def change() -> None:
            self.refused = refused
            if refused:
                self._reset()

        self._call(change)

    def drop_next_reply(self, matching: bytes = b"") -> threading.Event:
        """Pass the next request that contains these bytes on, throw its reply away, and reset its connection.

        The event is set when that has happened.
        """
        return self._add(self.dropped_replies, Drop(matching))

    def drop_next_request(self, matching: bytes = b"") -> threading.Event:
        """Swallow the next request that contains these bytes, and reset its connection.

        The event is set when that has happened. What was sent of the request in an earlier chunk has been passed on.
        """
        return self._add(self.dropped_requests, Drop(matching))

    def _add(self, drops: list[Drop], drop: Drop) -> threading.Event:
        self._call(lambda: drops.append(drop))
        return drop.happened

    def _call(self, function: Callable[[], T]) -> T:
        async def call() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(10)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        self._flowing = asyncio.Event()
        self._flowing.set()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._closing.wait()
        server.close()
        tasks = [connection.task for connection in self._connections]
        self._reset()
        await asyncio.gather(*tasks, return_exceptions=True)
        # Transports close their sockets in the loop's next turn.
        await asyncio.sleep(0.01)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refused:
            _abort(writer)
            return
        connection = _Connection(self, reader, writer)
        self._connections.add(connection)
        connection.task = self._loop.create_task(connection.run())
        connection.task.add_done_callback(lambda _: self._connections.discard(connection))

    def _reset(self) -> None:
        for connection in self._connections:
            connection.reset()

    async def wait_until_flowing(self) -> None:
        """Return at once unless the bytes are held."""
        await self._flowing.wait()


class _Connection:
    """A client's connection and ours to the target."""

    task: asyncio.Task[None]

    def __init__(self, proxy: TcpProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.proxy = proxy
        self.reader = reader
        self.writers = [writer]
        self.awaited: Drop | None = None
        """The request whose reply is to be thrown away."""

    def reset(self) -> None:
        """Reset both sides."""
        for writer in self.writers:
            _abort(writer)
        self.task.cancel()

    async def run(self) -> None:
        """Pass bytes on until both sides have ended."""
        try:
            await self.proxy.wait_until_flowing()
            reader, writer = await self._connect()
            self.writers.append(writer)
            await asyncio.gather(
                self._pass(self.reader, writer, self._take_request),
                self._pass(reader, self.writers[0], self._take_reply),
            )
            for writer in self.writers:
                writer.close()
        except (OSError, asyncio.CancelledError):
            for writer in self.writers:
                _abort(writer)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        target = self.proxy.target
        if isinstance(target, tuple):
            return await asyncio.open_connection(*target)
        return await asyncio.open_unix_connection(str(target))

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, take: Callable[[bytes, bytes], None]
    ) -> None:
        """Pass one direction on until it ends; `take` gets what came before and the chunk, and raises where to stop."""
        before = b""
        while chunk := await reader.read(CHUNK):
            await asyncio.sleep(self.proxy.delay_seconds)
            await self.proxy.wait_until_flowing()
            take(before, chunk)
            before = (before + chunk)[-CHUNK:]
            writer.write(chunk)
            await writer.drain()
        await self.proxy.wait_until_flowing()
        with suppress(OSError):
            writer.write_eof()

    def _take_request(self, before: bytes, chunk: bytes) -> None:
        if drop := _taken(self.proxy.dropped_requests, before, chunk):
            drop.happened.set()
            raise ConnectionResetError
        self.awaited = self.awaited or _taken(self.proxy.dropped_replies, before, chunk)

    def _take_reply(self, _before: bytes, chunk: bytes) -> None:
        if self.awaited and not chunk.startswith(INTERIM):
            self.awaited.happened.set()
            raise ConnectionResetError


def _taken(drops: list[Drop], before: bytes, chunk: bytes) -> Drop | None:
    """Take the first drop whose bytes end in this chunk, be it that they began in an earlier one."""
    for drop in drops:
        length = len(drop.matching)
        if drop.matching in (before[-(length - 1) :] if length > 1 else b"") + chunk:
            drops.remove(drop)
            return drop
    return None


def _abort(writer: asyncio.StreamWriter) -> None:
    """Close at once; the other side gets RST where the socket is a TCP socket."""
    endpoint = writer.get_extra_info("socket")
    with suppress(OSError, AttributeError):
        endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
    writer.transport.abort()
