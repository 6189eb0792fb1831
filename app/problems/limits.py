"""The answer 413 as problem details: what limits bodies stands outside the error handlers, and answers with a text."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Scope, Send

from app.problems import MEDIA_TYPE, too_large


def explaining(scope: Scope, send: Send, max_bytes: int | None) -> Send:
    """Return a `send` that puts problem details in the place of a text that says 413."""
    answer: Response | None = None

    async def send_problem(message: Message) -> None:
        nonlocal answer
        if message["type"] == "http.response.start" and message["status"] == 413:
            types = [value for name, value in message["headers"] if name.lower() == b"content-type"]
            if types != [MEDIA_TYPE.encode()]:
                answer = too_large(Request(scope), max_bytes)
                message = {**message, "headers": answer.raw_headers}
        elif answer is not None:
            message = {"type": "http.response.body", "body": answer.body}
        await send(message)

    return send_problem
