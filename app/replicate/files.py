"""Files as Replicate's clients upload, read, list and delete them."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Form, UploadFile
from starlette.datastructures import UploadFile as Part

from app import files
from app.application import InjectedServices
from app.auth import Owner
from app.replicate.pages import Page
from app.replicate.parameters import BaseUrl
from app.routes.files import TOO_LARGE, FileBody, read_upload, represent
from app.routes.parameters import FileId
from app.routes.responses import MISSING, NO_ROOM, REFUSALS, UNREADABLE
from predictions.errors import FieldError, InvalidInput

router = APIRouter(tags=["files"], responses=REFUSALS)

MAX_LISTED = 100
MAX_METADATA = 4096
"""Characters of JSON."""


@router.post("/files", status_code=201, responses=TOO_LARGE | UNREADABLE | NO_ROOM)
async def upload_file(
    content: UploadFile,
    base_url: BaseUrl,
    owner: Owner,
    services: InjectedServices,
    metadata: Annotated[UploadFile | str | None, Form()] = None,
) -> FileBody:
    """Send an audio file as the part `content`; `metadata`, a JSON object, is a field or a part of its own."""
    text = (await metadata.read()).decode(errors="replace") if isinstance(metadata, Part) else metadata
    parsed = _parse(text or "{}")
    upload = await read_upload(content, services.settings.max_input_audio_bytes)
    return represent(await files.store(services, owner, upload, parsed), base_url)


@router.get("/files")
async def list_files(base_url: BaseUrl, owner: Owner, services: InjectedServices) -> Page[FileBody]:
    """List this token's newest files."""
    newest = await files.list_newest(services, owner, MAX_LISTED)
    return Page(results=[represent(file, base_url) for file in newest])


@router.get("/files/{file_id}", responses=MISSING)
async def get_file(file_id: FileId, base_url: BaseUrl, owner: Owner, services: InjectedServices) -> FileBody:
    """Read the record of an uploaded file."""
    return represent(await files.read(services, owner, file_id), base_url)


@router.delete("/files/{file_id}", status_code=204, responses=MISSING)
async def delete_file(file_id: FileId, owner: Owner, services: InjectedServices) -> None:
    """Delete an uploaded file now."""
    await files.delete(services, owner, file_id)


def _parse(metadata: str) -> dict[str, Any]:
    try:
        found = json.loads(metadata)
    except ValueError:
        found = None
    if not isinstance(found, dict) or len(metadata) > MAX_METADATA:
        remedy = f"send a JSON object of at most {MAX_METADATA} characters, or leave it out"
        raise InvalidInput(FieldError("metadata", "is no JSON object, or too long", remedy))
    return found
