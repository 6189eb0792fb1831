"""The class of every route: a body is read only for a valid token, and only so far as that route has use for it."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

from fastapi import params
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from app.application import services_of
from app.auth import admit_before_body
from app.files import INLINE_AUDIO
from app.guard.forms import BoundedForm, check_form
from app.guard.inline_audio import AudioExtractor, BodyTooLarge
from app.guard.json_limits import RefusedJSON, parse_json
from predictions.errors import FieldError, InvalidInput

MAX_JSON_BYTES = 64 * 1024
"""The largest JSON body, but for the audio that it may hold."""
FILE_FIELDS = ("input_audio", "dataset")
"""The fields of an `input` that may hold a file."""

_JSON = re.compile(r"application/(?:[\w.+-]+\+)?json\s*(?:;|$)", re.IGNORECASE)

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class GuardedRoute(APIRoute):
    """A route that reads a body only where the token is valid, and not more of it than it has use for."""

    def get_route_handler(self) -> Handler:
        """Return what handles a request."""
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle
        if isinstance(self.body_field.field_info, params.Form):
            return _form_handler(handle)
        return _json_handler(handle, _file_field(self.body_field.field_info.annotation))


def _file_field(body: Any) -> str | None:
    """Return the field of a body's `input` that takes a file."""
    given = getattr(body, "model_fields", {}).get("input")
    known = getattr(given.annotation, "model_fields", {}) if given else {}
    return next((name for name in FILE_FIELDS if name in known), None)


def _form_handler(handle: Handler) -> Handler:
    async def guarded(request: Request) -> Response:
        await admit_before_body(request)
        check_form(request)
        return await handle(BoundedForm(request.scope, request.receive))

    return guarded


def _json_handler(handle: Handler, file_field: str | None) -> Handler:
    async def guarded(request: Request) -> Response:
        await admit_before_body(request)
        is_json = _JSON.match(request.headers.get("content-type", "")) is not None
        async with aclosing(request.stream()) as pieces:
            body = await _read_start(pieces)
            if len(body) <= MAX_JSON_BYTES:
                return await handle(_ReadRequest(request, body, is_json=is_json))
            if file_field is None or not is_json:
                raise _too_large()
            with _extractor(request, file_field) as extractor:
                await _extract(body, pieces, extractor)
                return await handle(_ReadRequest(request, bytes(extractor.rest), is_json=True))

    return guarded


class _ReadRequest(Request):
    """A request whose body has been read, and parsed if it is JSON."""

    def __init__(self, request: Request, body: bytes, *, is_json: bool) -> None:
        super().__init__(request.scope, request.receive)
        self._read = body
        self._parsed = _parse(body) if body and is_json else None

    async def body(self) -> bytes:
        return self._read

    async def json(self) -> Any:
        return self._parsed


async def _read_start(pieces: AsyncGenerator[bytes, None]) -> bytes:
    """Return the whole body, or, of a long one, a beginning of more than MAX_JSON_BYTES."""
    body = b""
    try:
        async for piece in pieces:
            body = body + piece if body else piece
            if len(body) > MAX_JSON_BYTES:
                break
    except ClientDisconnect as error:
        raise _disconnected() from error
    return body


async def _extract(start: bytes, pieces: AsyncGenerator[bytes, None], extractor: AudioExtractor) -> None:
    """Read the rest of a body, and take the audio out of all of it."""
    try:
        await extractor.feed(start)
        async for piece in pieces:
            await extractor.feed(piece)
        await extractor.finish()
    except BodyTooLarge as error:
        raise _too_large() from error
    except ClientDisconnect as error:
        raise _disconnected() from error
    INLINE_AUDIO.set(extractor.audio())


@contextmanager
def _extractor(request: Request, field: str) -> Iterator[AudioExtractor]:
    extractor = AudioExtractor(field, services_of(request).settings.max_input_audio_bytes, MAX_JSON_BYTES)
    try:
        yield extractor
    finally:
        extractor.close()


def _parse(body: bytes) -> Any:
    try:
        return parse_json(body)
    except RefusedJSON as error:
        if not error.readable:
            _report_broken(body)
        raise InvalidInput(FieldError("body", error.message, error.remedy)) from error


def _report_broken(body: bytes) -> None:
    """Say where JSON is broken as FastAPI would: the standard library's parser knows the place.

    Raises RequestValidationError or 400; nothing for what that parser takes all the same: NaN, and half a surrogate
    pair.
    """
    try:
        json.loads(body)
    except json.JSONDecodeError as broken:
        found = {"type": "json_invalid", "loc": ("body", broken.pos), "msg": broken.msg, "input": {}}
        raise RequestValidationError([{**found, "ctx": {"error": broken.msg}}], body=broken.doc) from broken
    except (ValueError, RecursionError) as broken:
        raise HTTPException(400, "The body is not JSON.") from broken


def _too_large() -> HTTPException:
    return HTTPException(
        413, f"The body has more than {MAX_JSON_BYTES} bytes beside its audio; upload audio with POST /files."
    )


def _disconnected() -> HTTPException:
    return HTTPException(400, "The body ended too early.")
