"""Multipart forms: one file and a field or two, in small pieces, so that parsing holds up nobody."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from anyio import lowlevel
from python_multipart.multipart import parse_options_header
from starlette.exceptions import HTTPException
from starlette.requests import Request

from app.problems.fields import UPLOAD

PIECE_BYTES = 16 * 1024
LIMITS: Mapping[str, int] = {"max_files": 2, "max_fields": 4, "max_part_size": 64 * 1024}
"""A form has a file and perhaps its metadata, which may be sent as a field or as a file."""
CHARSETS = (b"utf-8", b"us-ascii")


def check_form(request: Request) -> None:
    """Raise 415 unless the body is a multipart form in UTF-8.

    Other character sets include some whose decoding takes time quadratic in the length of a field.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data" or options.get(b"charset", b"utf-8").lower() not in CHARSETS:
        raise HTTPException(415, f"The body is no multipart form in UTF-8; {UPLOAD}.")


class BoundedForm(Request):
    """A request whose form has few parts, and is parsed a little at a time."""

    def form(self, **_limits: Any) -> Any:
        """Return the form, parsed with limits of its own."""
        return super().form(**LIMITS)

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """Yield the body in small pieces, between which others get their turn."""
        async for data in super().stream():
            for start in range(0, len(data), PIECE_BYTES):
                yield data[start : start + PIECE_BYTES]
                await lowlevel.checkpoint()
        yield b""
