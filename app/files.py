"""What clients do with audio files, without HTTP, and what the `input_audio` of a prediction refers to.

Every function that takes an owner raises FileNotFound for a file that belongs to another one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
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
from predictions.models.inputs import Input
from predictions.record.command import UNLIMITED
from predictions.record.prediction import new_id
from predictions.settings import is_loopback
from predictions.tenants import Limits

V1 = "/v1"
"""Where the part of the API for Replicate's clients begins."""

_DATA_URI = re.compile(r"data:(?P<type>[^;,]*)(?P<parameters>(?:;[^;,]*)*),", re.IGNORECASE)
_FILE_PATH = re.compile(rf"(?:{V1})?/files/(?P<id>[A-Za-z0-9_-]+)/?")


@dataclass(frozen=True)
class Upload:
    """An audio file as a client sent it."""

    name: str
    content_type: str
    content: bytes


async def store(services: Services, owner: str, upload: Upload, metadata: Mapping[str, Any] | None = None) -> File:
    """Keep an uploaded file: its bytes in object storage, its record in Redis. Raises StorageLimitReached."""
    file_id = new_id()
    limits = services.tokens.tenant_of(owner).limits
    # The record first: should this process die in between, retention finds the record and clears what there is.
    file = await services.store.run(
        commands.put_file(
            file_id,
            owner=owner,
            name=upload.name,
            content_type=upload.content_type,
            size=len(upload.content),
            sha256=hashlib.sha256(upload.content).hexdigest(),
            metadata=metadata,
            max_stored_bytes=max_stored_bytes(limits),
        )
    )
    if file is None:
        raise StorageLimitReached(limits.stored_mb or 0.0)
    try:
        await to_thread.run_sync(services.storage.put, file_key(file_id), upload.content, upload.content_type)
    except StorageError:
        with suppress(StorageError, StoreUnavailable):
            await delete(services, owner, file_id)
        raise
    return file


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


async def resolve_input_audio(services: Services, owner: str, base_url: str, value: Input) -> tuple[Input, str | None]:
    """Return the input to store, and the id of the uploaded file that its `input_audio` refers to, if it does.

    A data URI becomes an uploaded file, so that the queue and the records stay small. `base_url` belongs to the part of
    the API that the client uses; files of either part are known. Raises InvalidInput, FileNotFound,
    StorageLimitReached.
    """
    uri = value.input_audio
    if uri is None:
        return value, None
    if is_data_uri(uri):
        file = await store(services, owner, _decode_data_uri(uri, services.settings.max_input_audio_bytes))
        return value.model_copy(update={"input_audio": f"{base_url}/files/{file.id}"}), file.id
    path = _path_here(services, base_url, uri)
    if path is not None and (match := _FILE_PATH.fullmatch(path)):
        return value, (await read(services, owner, match["id"])).id
    try:
        require_reachable(services, "input_audio", uri)
    except InvalidInput as error:
        if path is None:
            raise
        remedy = "upload the audio with POST /files, and send the urls.get of the answer"
        raise InvalidInput(FieldError("input_audio", "is at this service's own address", remedy)) from error
    return value, None


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


def _decode_data_uri(uri: str, max_bytes: int) -> Upload:
    """Return the file that a data URI (RFC 2397) holds; raises InvalidInput."""
    match = _DATA_URI.match(uri)
    if match is None:
        raise InvalidInput(
            FieldError("input_audio", "is not a valid data URI", "send data:audio/wav;base64,... (RFC 2397)")
        )
    payload = uri[match.end() :]
    try:
        if match["parameters"].lower().endswith(";base64"):
            content = base64.b64decode(unquote_to_bytes(payload), validate=True)
        else:
            content = unquote_to_bytes(payload)
    except binascii.Error as error:
        raise InvalidInput(
            FieldError("input_audio", "holds broken base64", "encode the file with standard base64")
        ) from error
    if not content:
        raise InvalidInput(FieldError("input_audio", "is empty", "send an audio file"))
    if len(content) > max_bytes:
        raise InvalidInput(FieldError("input_audio", f"holds {len(content)} bytes", f"send at most {max_bytes} bytes"))
    return Upload("input_audio", match["type"] or "application/octet-stream", content)
