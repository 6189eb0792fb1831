"""The connection that a request came by: an answer arrives only if it holds."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import Any, Protocol

CONNECTION = "musicgen.connection"
"""The key in an ASGI scope under which `WatchingProtocol` puts a request's `Connection`."""

TCP_CLOSE, TCP_CLOSE_WAIT = 7, 8
"""States of a connection in Linux's tcp_info: reset, and closed by the other side alone."""


class Answer(Protocol):
    """An answer that is told what becomes of it."""

    def lost(self) -> None:
        """Learn that the connection broke."""

    def written(self) -> None:
        """Learn that the answer has been handed to the operating system."""


class Connection:
    """One request's connection, and the answer that it is expected to carry."""

    def __init__(self, transport: asyncio.BaseTransport | None = None) -> None:
        self.is_lost = False
        self.answer: Answer | None = None
        self._transport = transport

    def lose(self, *, answered: bool) -> None:
        """Note that it is closed; `answered`: in order, after the whole answer was sent."""
        self.is_lost = True
        if self.answer is not None and not answered:
            self.answer.lost()

    def answer_written(self) -> None:
        """Note that the whole answer has been sent."""
        if self.answer is not None:
            self.answer.written()

    def is_closed(self, *, in_order: bool) -> bool:
        """Whether the other side has reset it, or, where that counts, closed it `in_order`. Known on Linux only."""
        connection = self._transport.get_extra_info("socket") if self._transport else None
        if connection is None or not hasattr(socket, "TCP_INFO"):
            return False
        if connection.fileno() < 0:
            return in_order
        state = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        return state == TCP_CLOSE or (in_order and state == TCP_CLOSE_WAIT)


def connection_of(scope: Mapping[str, Any]) -> Connection:
    """Return the connection of an ASGI scope; under a server that does not watch it, one that never breaks."""
    connection = scope.get(CONNECTION)
    return connection if isinstance(connection, Connection) else Connection()
