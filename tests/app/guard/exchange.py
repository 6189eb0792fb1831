"""Requests as bytes, so that they can be as wrong as they like, and the heads of their answers."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

PIECE = 256 * 1024


def exchange(port: int, pieces: Iterable[bytes], *, seconds: float = 60.0) -> tuple[int, bytes]:
    """Send the pieces until the server stops reading; returns the answer's status, or 0, and its body."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):
            for piece in pieces:
                connection.sendall(piece)
        return read_answer(connection)


def read_answer(connection: socket.socket) -> tuple[int, bytes]:
    """Read one answer; 0 where the connection is closed without any."""
    data = b""
    with suppress(ConnectionResetError):
        while b"\r\n\r\n" not in data and (more := connection.recv(PIECE)):
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), None
        )
        while length is not None and len(body) < length and (more := connection.recv(PIECE)):
            body += more
        return (int(head.split(b" ")[1]), body) if head else (0, b"")
    return 0, b""


def head(method: str, path: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """The head of a request; its parts are sent as they are."""
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("latin-1", "replace")


def with_length(method: str, path: str, headers: Iterable[tuple[str, str]], body: bytes) -> Iterator[bytes]:
    """A request whose body's length is told beforehand."""
    yield head(method, path, [*headers, ("Content-Length", str(len(body)))])
    for start in range(0, len(body), PIECE):
        yield body[start : start + PIECE]


def in_chunks(method: str, path: str, headers: Iterable[tuple[str, str]], body: bytes, size: int) -> Iterator[bytes]:
    """A request whose body comes in chunks of a size, and does not tell its length."""
    yield head(method, path, [*headers, ("Transfer-Encoding", "chunked")])
    for start in range(0, len(body), PIECE):
        piece = body[start : start + PIECE]
        chunks = (piece[at : at + size] for at in range(0, len(piece), size))
        yield b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    yield b"0\r\n\r\n"


class WatchedApi:
    """The process of `tests.app.guard.watched_api`."""

    def __init__(self, port: int) -> None:
        self.port = port

    def watched(self) -> dict[str, Any]:
        """What it has measured since it was asked last."""
        found: dict[str, Any] = json.loads(exchange(self.port, [b"GET /watched HTTP/1.1\r\nHost: x\r\n\r\n"])[1])
        return found

    def check(self, pieces: Iterable[bytes]) -> tuple[int, bytes]:
        """Send a request; fails where it holds up the loop, or takes much memory. Returns the answer.

        What a request causes, it causes each time; what happened beside it is not found again.
        """
        sent = list(pieces)
        for _ in range(TRIES):
            self.watched()
            answer = exchange(self.port, sent)
            found = self.watched()
            if found["longest"] < MAX_SECONDS and found["added_mb"] < MAX_MB:
                return answer
        raise AssertionError(f"{found}: {sent[0][:500]!r}")


TRIES = 3
MAX_SECONDS = 0.050
MAX_MB = 64
