"""uvicorn's HTTP protocol, extended so that an expected answer learns what becomes of it."""

from __future__ import annotations

from collections import deque
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.retries.connection import CONNECTION, Connection


class WatchingProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, which tells each request's `Connection` whether its answer got through."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # Several where a client sends its next request before it has read the answer (pipelining).
        self._unanswered: deque[Connection] = deque()
        self._last_answered: Connection | None = None

    def on_headers_complete(self) -> None:
        """Give the request its connection before its handler starts."""
        connection = Connection(self.transport)
        self._unanswered.append(connection)
        cast("dict[str, Any]", self.scope)[CONNECTION] = connection
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Note that the answer has been handed to the operating system."""
        if self._unanswered:
            self._last_answered = self._unanswered.popleft()
            self._last_answered.answer_written()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection is closed: by a reset, or in order, after the answer or before it."""
        if self._last_answered is not None:
            self._last_answered.lose(answered=exc is None)
        for connection in self._unanswered:
            connection.lose(answered=False)
        super().connection_lost(exc)
