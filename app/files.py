"""What clients do with files, without HTTP, and what the file of an input refers to.

Every function that takes an owner raises FileNotFound for a file that belongs to another one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import re
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import IO, Any
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit

from anyio import to_thread

from app.services import Services
from predictions import addresses
from predictions.errors import (
    FieldError,
    FileNotFound,
    InvalidInput,
    StorageError,
    StorageLimitReached,
    StoreUnavailable,
)
from predictions.files import commands
from predictions.files.record import File, file_key, file_prefix
from predictions.record.command import UNLIMITED
from predictions.record.prediction import new_id
from predictions.settings import is_loopback
from predictions.tenants import Limits

V1 = "/v1"
"""Where the part of the API for Replicate's clients begins."""

_DATA_URI = re.compile(r"data:(?P<type>[^;,]{0,255})(?P<parameters>(?:;[^;,]{0,255}){0,8}),", re.IGNORECASE)
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,127}/[A-Za-z0-9!#$&^_.+-]{1,127}")
UNKNOWN_TYPE = "application/octet-stream"
MAX_NAME_LENGTH = 255
MEASURED_BYTES = 1024 * 1024
"""What is read of a file at a time."""
_FILE_PATH = re.compile(rf"(?:{V1})?/files/(?P<id>[A-Za-z0-9_-]+)/?")


@dataclass(frozen=True)
class Upload:
    """A file as a client sent it."""

    name: str
    content_type: str
    file: IO[bytes]


@dataclass(frozen=True)
class InlineAudio:
    """Audio that came inside a request's body, and was taken out of it while it arrived."""

    uri: str
    """What stands in its place in the body: a data URI without data, which names its SHA-256."""
    content_type: str
    file: IO[bytes]


INLINE_AUDIO: ContextVar[InlineAudio | None] = ContextVar("INLINE_AUDIO", default=None)
"""The audio of the request that is being handled."""


def media_type(text: str | None) -> str:
    """Return a media type that may be stored and sent, which is what the client says if that is one."""
    kind = (text or "").partition(";")[0].strip()
    return kind if _MEDIA_TYPE.fullmatch(kind) else UNKNOWN_TYPE


def file_name(text: str | None) -> str:
    """Return a name that may be stored and sent: short, and without halves of surrogate pairs."""
    return (text or "")[:MAX_NAME_LENGTH].encode(errors="replace").decode()


async def store(services: Services, owner: str, upload: Upload, metadata: Mapping[str, Any] | None = None) -> File:
    """Keep an uploaded file: its bytes in object storage, its record in Redis. Raises StorageLimitReached."""
    file_id = new_id()
    limits = services.tokens.tenant_of(owner).limits
    size, digest = await to_thread.run_sync(_measure, upload.file)
    # The record first: should this process die in between, retention finds the record and clears what there is.
    file = await services.store.run(
        commands.put_file(
            file_id,
            owner=owner,
            name=upload.name,
            content_type=upload.content_type,
            size=size,
            sha256=digest,
            metadata=metadata,
            max_stored_bytes=max_stored_bytes(limits),
        )
    )
    if file is None:
        raise StorageLimitReached(limits.stored_mb or 0.0)
    try:
        await to_thread.run_sync(services.storage.put, file_key(file_id), upload.file, upload.content_type)
    except StorageError:
        # The record in any case: what may be left of the bytes belongs to nobody, and housekeeping deletes it.
        with suppress(StorageError):
            await to_thread.run_sync(services.storage.delete_prefix, file_prefix(file_id))
        with suppress(StoreUnavailable):
            await services.store.run(commands.delete_file(file_id))
        raise
    return file


def _measure(file: IO[bytes]) -> tuple[int, str]:
    """Return a file's size and the SHA-256 of its bytes, in hex; of a large one this takes a while."""
    digest = hashlib.sha256()
    file.seek(0)
    while piece := file.read(MEASURED_BYTES):
        digest.update(piece)
    return file.tell(), digest.hexdigest()


def max_stored_bytes(limits: Limits) -> int:
    """Return how many bytes may be kept for a tenant, UNLIMITED where it has no limit."""
    return UNLIMITED if limits.stored_mb is None else int(limits.stored_mb * 1024 * 1024)


async def read(services: Services, owner: str, file_id: str) -> File:
    """Return an uploaded file's record."""
    file = await services.store.run(commands.get_file(file_id))
    if file.owner != owner:
        raise FileNotFound(file_id)
    return file


async def list_newest(services: Services, owner: str, limit: int) -> list[File]:
    """Return the records of the owner's files, newest first."""
    return await services.store.run(commands.list_files(owner, limit))


async def delete(services: Services, owner: str, file_id: str) -> None:
    """Delete a file's bytes and its record."""
    await read(services, owner, file_id)
    await to_thread.run_sync(services.storage.delete_prefix, file_prefix(file_id))
    await services.store.run(commands.delete_file(file_id))


async def resolve(
    services: Services, owner: str, base_url: str, field: str, uri: str, max_bytes: int
) -> tuple[str, str | None]:
    """Return the URL to store for a field's file, and the id of the uploaded file that it refers to, if it does.

    A data URI becomes an uploaded file, so that the queue and the records stay small. An uploaded file may have at most
    `max_bytes`; the worker sees to the others. `base_url` belongs to the part of the API that the client uses; files of
    either part are known. Raises InvalidInput, FileNotFound, StorageLimitReached.
    """
    if is_data_uri(uri):
        file = await _store_data_uri(services, owner, field, uri)
        return f"{base_url}/files/{file.id}", file.id
    path = _path_here(services, base_url, uri)
    if path is not None and (match := _FILE_PATH.fullmatch(path)):
        file = await read(services, owner, match["id"])
        if file.size > max_bytes:
            raise InvalidInput(FieldError(field, f"has {file.size} bytes", f"send at most {max_bytes} bytes"))
        return uri, file.id
    try:
        require_reachable(services, field, uri)
    except InvalidInput as error:
        if path is None:
            raise
        remedy = "upload the file with POST /files, and send the urls.get of the answer"
        raise InvalidInput(FieldError(field, "is at this service's own address", remedy)) from error
    return uri, None


def is_data_uri(uri: str | None) -> bool:
    """Whether the audio itself stands in the URI (RFC 2397)."""
    return uri is not None and uri[:5].lower() == "data:"


def require_reachable(services: Services, field: str, url: str) -> None:
    """Raise InvalidInput for a URL that can be seen to be forbidden before any name is resolved."""
    try:
        addresses.check_url(url, services.settings.outbound_allow)
    except addresses.ForbiddenAddress as error:
        raise InvalidInput(FieldError(field, str(error), "send a public http(s) URL")) from error


def _path_here(services: Services, base_url: str, url: str) -> str | None:
    """Return the path of a URL of this service, by whichever name of it; None where the URL leads elsewhere."""
    settings = services.settings
    roots = (base_url.removesuffix(V1), settings.public_url, f"http://localhost:{settings.port}")
    try:
        parts = urlsplit(url)
        for root in (urlsplit(text) for text in roots if text):
            if _address(root) == _address(parts) and parts.path.startswith(f"{root.path}/"):
                return parts.path.removeprefix(root.path)
    except ValueError:
        return None
    return None


def _address(parts: SplitResult) -> tuple[str, int | None]:
    """Return host and port; all names of this machine's loopback are one."""
    host = parts.hostname or ""
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return ("localhost" if is_loopback(host) else host), port


async def _store_data_uri(services: Services, owner: str, field: str, uri: str) -> File:
    inline = INLINE_AUDIO.get()
    if inline is None or inline.uri != uri:
        return await store(services, owner, _decode_data_uri(field, uri, services.settings.max_input_audio_bytes))
    async with services.large_files:
        if not inline.file.seek(0, io.SEEK_END):
            raise _empty(field)
        return await store(services, owner, Upload(field, media_type(inline.content_type), inline.file))


def _decode_data_uri(field: str, uri: str, max_bytes: int) -> Upload:
    """Return the file that a data URI (RFC 2397) holds; raises InvalidInput."""
    match = _DATA_URI.match(uri)
    if match is None:
        raise InvalidInput(FieldError(field, "is not a valid data URI", "send data:audio/wav;base64,... (RFC 2397)"))
    payload = uri[match.end() :]
    try:
        if match["parameters"].lower().endswith(";base64"):
            content = base64.b64decode(unquote_to_bytes(payload), validate=True)
        else:
            content = unquote_to_bytes(payload)
    except binascii.Error as error:
        raise InvalidInput(FieldError(field, "holds broken base64", "encode the file with standard base64")) from error
    if not content:
        raise _empty(field)
    if len(content) > max_bytes:
        raise InvalidInput(FieldError(field, f"holds {len(content)} bytes", f"send at most {max_bytes} bytes"))
    return Upload(field, media_type(match["type"]), io.BytesIO(content))


def _empty(field: str) -> InvalidInput:
    return InvalidInput(FieldError(field, "is empty", "send a file that is not"))
