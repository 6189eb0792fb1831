"""Settle at submit what `input_audio` refers to: a foreign URL, a data URI, or a file that was uploaded before."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

from starlette.concurrency import run_in_threadpool

from app.services import V1, Services
from predictions import addresses
from predictions.errors import FieldError, FileNotFound, InvalidInput
from predictions.files import commands as file_commands
from predictions.files.record import File, file_key
from predictions.models.inputs import Input
from predictions.record.prediction import new_id

_DATA_URI = re.compile(r"data:(?P<type>[^;,]*)(?P<parameters>(?:;[^;,]*)*),", re.IGNORECASE)
_FILE_PATH = re.compile(r"/files/(?P<id>[A-Za-z0-9_-]+)/?$")


async def resolve(services: Services, owner: str, base_url: str, value: Input) -> tuple[Input, str | None]:
    """The input to store, and the id of the uploaded file that it refers to, if it does.

    A data URI becomes an uploaded file, so that the queue and the records stay small. `base_url`: of the part of the
    API that the client uses; files of either part are known. Raises InvalidInput.
    """
    uri = value.input_audio
    if uri is None:
        return value, None
    if uri[:5].lower() == "data:":
        name, content_type, content = (
            "input_audio",
            *_decode_data_uri(uri, services.settings.max_input_audio_bytes),
        )
        file = await store_file(services, owner, name, content_type, content)
        return value.model_copy(update={"input_audio": f"{base_url}/files/{file.id}"}), file.id
    root = base_url.removesuffix(V1)
    if uri.startswith((f"{root}/files/", f"{root}{V1}/files/")) and (match := _FILE_PATH.search(uri)):
        return value, (await owned_file(services, owner, match["id"])).id
    check_foreign_url("input_audio", uri, services)
    return value, None


def check_foreign_url(field: str, url: str, services: Services) -> None:
    """Refuse what can be seen to be wrong before any name is resolved; raises InvalidInput."""
    try:
        addresses.check_url(url, services.settings.outbound_allow)
    except addresses.ForbiddenAddress as error:
        raise InvalidInput(FieldError(field, str(error), "send a public http(s) URL")) from error


async def owned_file(services: Services, owner: str, file_id: str) -> File:
    """The uploaded file; raises FileNotFound where it is not this owner's."""
    file = await services.store.run(file_commands.get_file(file_id))
    if file.owner != owner:
        raise FileNotFound(file_id)
    return file


async def store_file(
    services: Services,
    owner: str,
    name: str,
    content_type: str,
    content: bytes,
    metadata: Mapping[str, Any] | None = None,
) -> File:
    """Keep an uploaded file: its bytes in object storage, its record in Redis."""
    file_id = new_id()
    digest = hashlib.sha256(content).hexdigest()
    # The record first: should the upload fail, retention finds the record and clears what there is.
    file = await services.store.run(
        file_commands.put_file(
            file_id,
            owner=owner,
            name=name,
            content_type=content_type,
            size=len(content),
            sha256=digest,
            metadata=metadata,
        )
    )
    await run_in_threadpool(services.storage.put, file_key(file_id), content, content_type)
    return file


def _decode_data_uri(uri: str, max_bytes: int) -> tuple[str, bytes]:
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
    return match["type"] or "application/octet-stream", content
