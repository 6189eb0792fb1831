"""Tell a tenant with a limit what it has left, in every answer.

The fields are RateLimit-Limit, RateLimit-Remaining and RateLimit-Reset, as in the IETF's draft
draft-ietf-httpapi-ratelimit-headers-06, which is what clients read; later drafts put the same into one field, and none
of them is a standard yet.
"""

from __future__ import annotations

import math
from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from predictions.rates.commands import Allowance

ALLOWANCE = "musicgen.allowance"
"""The key in an ASGI scope under which a request's allowance is."""


def note_allowance(scope: MutableMapping[str, Any], allowance: Allowance) -> None:
    """Have the answer to this request say what its tenant has left."""
    scope[ALLOWANCE] = allowance


class RateLimitHeaders:
    """The ASGI middleware that adds the fields."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, with the fields where its tenant has a limit."""

        async def send_with_fields(message: Message) -> None:
            if message["type"] == "http.response.start" and (allowance := scope.get(ALLOWANCE)) is not None:
                MutableHeaders(scope=message).update(_fields(allowance))
            await send(message)

        await self._app(scope, receive, send_with_fields if scope["type"] == "http" else send)


def _fields(allowance: Allowance) -> dict[str, str]:
    return {
        "RateLimit-Limit": str(allowance.limit),
        "RateLimit-Remaining": str(allowance.remaining),
        "RateLimit-Reset": str(math.ceil(allowance.reset_seconds)),
    }
