"""uvicorn's HTTP protocol with limits: on headers, on requests sent ahead, on time, and on how much is read at once."""

from __future__ import annotations

import asyncio
import time
from enum import Enum, auto
from typing import Any, cast

from app.guard.connections import MIN_BODY_BYTES, Connections
from app.retries.protocol import WatchingProtocol

READ_BYTES = 64 * 1024
"""What is read from a connection at once: thousands of tiny chunks fit into it, and take milliseconds."""
MAX_HEADER_BYTES = 32 * 1024
MAX_HEADERS = 100
MAX_URL_BYTES = 8 * 1024
HEADERS_TOO_LARGE = (
    "431 Request Header Fields Too Large",
    f"Send at most {MAX_HEADERS} header fields of at most {MAX_HEADER_BYTES} bytes in all.",
)
MAX_AHEAD = 16
"""Requests that a client may send before it has read the answer to the first (pipelining)."""


class Awaited(Enum):
    """What a connection waits for."""

    HEADERS = auto()
    BODY = auto()
    NOTHING = auto()
    """A request is complete, and the turn is ours."""
    REST = auto()
    """The rest of a body that was answered before its end."""


class LimitExceeded(Exception):
    """A request has been refused while it was read; the parser stops."""


class GuardedProtocol(WatchingProtocol):
    """One connection."""

    def __init__(self, registry: Connections, **options: Any) -> None:
        super().__init__(**options)
        self.address = ""
        self._registry, self._patience = registry, registry.patience
        self._awaited = Awaited.HEADERS
        self._since = time.monotonic()
        """When it began to wait, or, for a body, when the bytes were last counted from nothing."""
        self._head_bytes = self._header_bytes = self._header_count = self._body_bytes = 0
        self._unread, self._unread_since = 0, self._since

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Enter the registry, or be refused."""
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        if not self._registry.open(self):
            self._refuse("503 Service Unavailable", "Too many connections; try again later.", "retry-after: 5\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave the registry."""
        self._registry.close(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, unless the headers have no end."""
        if self.transport.is_closing():
            return
        if self._awaited is Awaited.HEADERS:
            # Of a header that is not complete the parser itself says nothing.
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEADER_BYTES + READ_BYTES:
                self._refuse(*HEADERS_TOO_LARGE)
                return
        super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        """Answer a request that cannot be read, unless it has been refused already."""
        if not self.transport.is_closing():
            super().send_400_response(msg)

    def on_message_begin(self) -> None:
        """Begin to count."""
        super().on_message_begin()
        # Not 0: a request has begun. What it begins with was read together with what came before.
        self._head_bytes = 1
        self._header_bytes = self._header_count = 0
        self._await(Awaited.HEADERS)

    def on_url(self, url: bytes) -> None:
        """Read on, up to a limit."""
        super().on_url(url)
        if len(self.url) > MAX_URL_BYTES:
            self._refuse("414 URI Too Long", f"Send a URL of at most {MAX_URL_BYTES} bytes.")
            raise LimitExceeded

    def on_header(self, name: bytes, value: bytes) -> None:
        """Read on, up to a limit."""
        self._header_count += 1
        self._header_bytes += len(name) + len(value)
        if self._header_count > MAX_HEADERS or self._header_bytes > MAX_HEADER_BYTES:
            self._refuse(*HEADERS_TOO_LARGE)
            raise LimitExceeded
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Pass the request on, unless too many wait before it."""
        if len(self.pipeline) >= MAX_AHEAD:
            self.transport.close()
            raise LimitExceeded
        self._registry.serve(self)
        self._body_bytes = 0
        self._await(Awaited.BODY)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Count, and read on."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the turn is ours, or that of the next request."""
        super().on_message_complete()
        if self._is_idle():
            self._wait_for_headers()
        else:
            self._await(Awaited.NOTHING)

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the rest of this one's body."""
        is_last = not self.pipeline
        super().on_response_complete()
        if not is_last or self.transport.is_closing():
            return
        if self._awaited is Awaited.BODY:
            self._await(Awaited.REST)
        else:
            self._wait_for_headers()

    def is_overdue(self, now: float) -> bool:
        """Whether its client has kept it waiting for too long; called about once a second."""
        if self._reads_nothing(now):
            return True
        waited = now - self._since
        match self._awaited:
            case Awaited.HEADERS:
                return waited > self._patience.header and self._is_idle()
            case Awaited.REST:
                return waited > self._patience.linger
            case Awaited.BODY:
                return self._body_is_overdue(now, waited)
        return False

    def close_overdue(self) -> None:
        """Close it, with an answer where none has begun and the client has begun a request."""
        if self.transport.get_write_buffer_size():
            # In order, it would not close before its client has read all of it.
            self.transport.abort()
        elif self._awaited is Awaited.BODY or (self._awaited is Awaited.HEADERS and self._head_bytes):
            self._refuse("408 Request Timeout", "The request did not arrive in time.")
        else:
            self.transport.close()

    def _body_is_overdue(self, now: float, waited: float) -> bool:
        if not self.flow.read_paused and waited <= self._patience.body:
            return False
        if not self.flow.read_paused and self._body_bytes < MIN_BODY_BYTES:
            return True
        # Where reading pauses, the client is not to blame.
        self._since, self._body_bytes = now, 0
        return False

    def _reads_nothing(self, now: float) -> bool:
        unread = self.transport.get_write_buffer_size()
        if not unread or unread != self._unread:
            self._unread, self._unread_since = unread, now
        return now - self._unread_since > self._patience.unread

    def _is_idle(self) -> bool:
        """Whether all requests have been answered."""
        return self.cycle is None or self.cycle.response_complete

    def _await(self, awaited: Awaited) -> None:
        if awaited is not Awaited.HEADERS or self._awaited is not Awaited.HEADERS:
            # A request that begins has no more time than a connection that waits for one.
            self._awaited, self._since = awaited, time.monotonic()

    def _wait_for_headers(self) -> None:
        self._awaited, self._since = Awaited.HEADERS, time.monotonic()
        self._head_bytes = 0
        self._registry.wait(self)

    def _refuse(self, status: str, text: str, headers: str = "") -> None:
        """Answer where no answer has begun, and close."""
        if self._is_idle() or not (self.cycle.response_started or self.pipeline):
            head = f"HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\n{headers}"
            self.transport.write(f"{head}content-length: {len(text)}\r\n\r\n{text}".encode())
        self.transport.close()


class SmallReads(asyncio.BufferedProtocol):
    """Passes on what arrives in pieces of at most READ_BYTES; event loops read several times as much at once.

    All connections of a loop share one buffer: what is read into it is passed on before anything else is read.
    """

    def __init__(self, protocol: GuardedProtocol, buffer: bytearray) -> None:
        self._protocol, self._buffer = protocol, buffer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Pass it on."""
        # Not every event loop's transports are subclasses of it.
        self._protocol.connection_made(cast("asyncio.Transport", transport))

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on."""
        self._protocol.connection_lost(exc)

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002
        """Return where to read to."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Pass on what was read."""
        self._protocol.data_received(bytes(memoryview(self._buffer)[:nbytes]))

    def eof_received(self) -> None:
        """Pass it on."""
        self._protocol.eof_received()

    def pause_writing(self) -> None:
        """Pass it on."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._protocol.resume_writing()


def protocol_factory(registry: Connections) -> type[asyncio.Protocol]:
    """Return what uvicorn calls for each connection, as its option `http`."""
    buffer = bytearray(READ_BYTES)

    def build(**options: Any) -> SmallReads:
        return SmallReads(GuardedProtocol(registry, **options), buffer)

    # uvicorn asks for a class, and only calls it.
    return cast("type[asyncio.Protocol]", build)
