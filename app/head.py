"""HEAD where GET is: the same status and headers, and no body (RFC 9110, 9.3.2)."""

from __future__ import annotations

import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

STREAMS = re.compile(r"(?:/v1)?/(?:predictions/[^/]+/(?:stream|audio)|streams/[^/]+)/?")
"""They take no HEAD: they last as long as the prediction, and what their headers would say is always the same."""
OWN = re.compile(r"/|/docs|/(?:page|objects)/.*|/openapi\.json")
"""Their routes answer HEAD themselves, without reading the file."""


class HeadByGet:
    """Has GET's route answer a request for HEAD, and drops the body."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["method"] != "HEAD" or is_excluded(scope["path"]):
            await self.app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        await self.app({**scope, "method": "GET"}, receive, send_head)


def is_excluded(path: str) -> bool:
    """Whether HEAD is left to the path's own route."""
    return bool(STREAMS.fullmatch(path) or OWN.fullmatch(path))
