"""What the log and the metrics say of each request: its id, its route, its status and how long it took.

The id is what the client sent as X-Request-ID, or one made here. It is answered, it stands in every line that is logged
while the request is handled, and it is kept with the prediction that the request creates.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from predictions.observability import metrics
from predictions.observability.logs import FIELDS
from predictions.record.prediction import ID_PATTERN

logger = logging.getLogger(__name__)

REQUEST_ID = b"x-request-id"
_ID = re.compile(rb"[!-~]{1,128}")
_PREDICTION_ID = re.compile(ID_PATTERN)
REFUSAL = "musicgen.refusal"
"""The key in an ASGI scope under which the reason is for which a request was refused."""
UNMATCHED = "unmatched"
"""The route of a request whose path there is not."""
BATCH_SECONDS = 0.2
"""How long after its end a request is told of, at most."""
QUIET = ("/health", "/metrics")
"""Whoever looks after the service asks there every few seconds: those lines are for DEBUG."""
CHANGING = frozenset({"POST", "PUT"})
REASONS = {
    400: "unreadable",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "wrong_method",
    413: "too_large",
    415: "unreadable",
    429: "too_many_requests",
    500: "internal_error",
}
"""Of a request that was refused before anybody could say why."""

Handler = Callable[[Scope, Receive, Send], Awaitable[None]]


def note_refusal(scope: MutableMapping[str, Any], reason: str) -> None:
    """Say why the request is refused."""
    scope[REFUSAL] = reason


class AccessLog:
    """The requests of a process. It tells of them in batches, a moment after they ended, so that no answer waits."""

    def __init__(self) -> None:
        self.templates: Mapping[int, str] = {}
        """The whole paths of routes, by their `id`."""
        self._ended: list[Access] = []

    async def handle(self, handler: Handler, scope: Scope, receive: Receive, send: Send) -> None:
        """Have a request handled, and tell of it."""
        access = Access(scope, send)
        token = FIELDS.set(access.fields)
        try:
            await handler(scope, receive, access.send)
        finally:
            FIELDS.reset(token)
            access.end()
            if not self._ended:
                asyncio.get_running_loop().call_later(BATCH_SECONDS, self.tell)
            self._ended.append(access)

    def tell(self) -> None:
        """Tell of the requests that have ended since the last time."""
        ended, self._ended = self._ended, []
        for access in ended:
            route = access.scope.get("route")
            own: str = getattr(route, "path", UNMATCHED)
            access.tell(self.templates.get(id(route), own))


class Access:
    """One request, from its headers to the end of its answer."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.scope = scope
        self.fields: dict[str, Any] = {"request_id": _request_id(scope)}
        """What the log's lines belong to: one object in all contexts of the request, so that whatever is noted in one
        of them is known here."""
        self._send = send
        self._status = 0
        self._began = time.perf_counter()
        self._seconds = self._ended_at = 0.0

    async def send(self, message: Message) -> None:
        """Send a part of the answer."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            request_id = self.fields["request_id"].encode()
            message = {**message, "headers": [*message["headers"], (REQUEST_ID, request_id)]}
        await self._send(message)

    def end(self) -> None:
        """Note when it ended."""
        self._seconds, self._ended_at = time.perf_counter() - self._began, time.time()

    def tell(self, route: str) -> None:
        """Count it, and write its line; `route`: the template."""
        method, status = self.scope["method"], str(self._status)
        metrics.requests.labels(method, route, status).observe(self._seconds)
        if self._status >= 400 and method in CHANGING:
            reason = self.scope.get(REFUSAL) or REASONS.get(self._status, f"status_{status}")
            metrics.refused.labels(route, reason).inc()
        level = logging.DEBUG if route.startswith(QUIET) else logging.INFO
        if logger.isEnabledFor(level):
            self._note_prediction()
            logger.handle(self._record(level, route, method))

    def _record(self, level: int, route: str, method: str) -> logging.LogRecord:
        # Made here: the logger would look for the line of code that wrote it, which takes as long as all else.
        record = logging.LogRecord(logger.name, level, "", 0, "Request", (), None)
        record.created, record.msecs = self._ended_at, self._ended_at % 1 * 1000
        own = {"route": route, "method": method, "status": self._status, "seconds": round(self._seconds, 6)}
        record.fields = {**self.fields, **own}
        return record

    def _note_prediction(self) -> None:
        """Note the prediction that the path names; any text may stand there."""
        named = self.scope.get("path_params", {}).get("prediction_id")
        if "prediction" not in self.fields and isinstance(named, str) and _PREDICTION_ID.fullmatch(named):
            self.fields["prediction"] = named


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == REQUEST_ID and _ID.fullmatch(value):
            text: str = value.decode()
            return text
    return secrets.token_hex(16)
