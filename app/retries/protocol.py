"""uvicorn's HTTP protocol, extended so that an expected answer learns what becomes of it."""

from __future__ import annotations

from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.retries.connection import CONNECTION, Connection, connection_of


class WatchingProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, which tells each request's `Connection` whether its answer got through."""

    def on_headers_complete(self) -> None:
        """Give the request its connection before its handler starts."""
        cast("dict[str, Any]", self.scope)[CONNECTION] = Connection(self.transport)
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Note that the answer has been handed to the operating system."""
        if self.cycle:
            connection_of(self.cycle.scope).answer_written()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection is closed: by a reset, or in order, after the answer or before it."""
        if self.cycle:
            connection_of(self.cycle.scope).lose(answered=exc is None and self.cycle.response_complete)
        super().connection_lost(exc)
