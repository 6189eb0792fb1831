"""What the log and the metrics say of each request: its id, its route, its status and how long it took.

The id is what the client sent as X-Request-ID, or one made here. It is answered, it stands in every line that is logged
while the request is handled, and it is kept with the prediction that the request creates.
"""

from __future__ import annotations

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


class Access:
    """One request, from its headers to the end of its answer."""

    def __init__(self, scope: Scope, send: Send, templates: Mapping[int, str]) -> None:
        """`templates`: the whole paths of routes, by their `id`."""
        self._scope = scope
        self._templates = templates
        self._send = send
        self._request_id = _request_id(scope)
        self._status = 0
        self._began = time.perf_counter()
        # One object in all contexts of the request, so that what is noted in one of them is known here.
        self._fields: dict[str, Any] = {"request_id": self._request_id}

    async def handle(self, handler: Handler, receive: Receive) -> None:
        """Have it handled, and tell of it."""
        token = FIELDS.set(self._fields)
        try:
            await handler(self._scope, receive, self.send)
        finally:
            self._tell()
            FIELDS.reset(token)

    async def send(self, message: Message) -> None:
        """Send a part of the answer."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            message = {**message, "headers": [*message["headers"], (REQUEST_ID, self._request_id.encode())]}
        await self._send(message)

    def _tell(self) -> None:
        method, status = self._scope["method"], str(self._status)
        found = self._scope.get("route")
        route = self._templates.get(id(found)) or getattr(found, "path", UNMATCHED)
        seconds = time.perf_counter() - self._began
        metrics.requests.labels(method, route, status).observe(seconds)
        if self._status >= 400 and method in CHANGING:
            reason = self._scope.get(REFUSAL) or REASONS.get(self._status, f"status_{status}")
            metrics.refused.labels(route, reason).inc()
        level = logging.DEBUG if route.startswith(QUIET) else logging.INFO
        if logger.isEnabledFor(level):
            self._note_prediction()
            # Made here: the logger would look for the line of code that wrote it, which takes as long as all else.
            record = logging.LogRecord(logger.name, level, "", 0, "Request", (), None)
            record.fields = {"route": route, "method": method, "status": self._status, "seconds": round(seconds, 6)}
            logger.handle(record)

    def _note_prediction(self) -> None:
        """Note the prediction that the path names; any text may stand there."""
        named = self._scope.get("path_params", {}).get("prediction_id")
        if "prediction" not in self._fields and isinstance(named, str) and _PREDICTION_ID.fullmatch(named):
            self._fields["prediction"] = named


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == REQUEST_ID and _ID.fullmatch(value):
            text: str = value.decode()
            return text
    return secrets.token_hex(16)
