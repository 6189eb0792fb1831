"""Files as Replicate's clients upload, read, list and delete them."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Form, UploadFile
from starlette.datastructures import UploadFile as Part

from app import files
from app.auth import Owner
from app.bodies import FileBody
from app.replicate.base import BaseUrl, Page
from app.routes.files import TOO_LARGE, FileId, keep, remove, represent
from app.routes.predictions import MISSING, REFUSALS, UNREADABLE
from app.services import InjectedServices
from predictions.errors import FieldError, InvalidInput
from predictions.files import commands as file_commands

router = APIRouter(tags=["files"], responses=REFUSALS)

MOST_LISTED = 100
MOST_METADATA = 4096
"""Characters of JSON."""


@router.post("/files", status_code=201, responses=TOO_LARGE | UNREADABLE)
async def upload_file(
    content: UploadFile,
    base_url: BaseUrl,
    owner: Owner,
    services: InjectedServices,
    metadata: Annotated[UploadFile | str | None, Form()] = None,
) -> FileBody:
    """Send an audio file as the part `content`; `metadata`, a JSON object, is text or a part of its own."""
    text = (await metadata.read()).decode(errors="replace") if isinstance(metadata, Part) else metadata
    return represent(await keep(services, owner, content, _parse(text or "{}")), base_url)


@router.get("/files")
async def list_files(base_url: BaseUrl, owner: Owner, services: InjectedServices) -> Page[FileBody]:
    """This token's newest files."""
    files = await services.store.run(file_commands.list_files(owner, MOST_LISTED))
    return Page(results=[represent(file, base_url) for file in files])


@router.get("/files/{file_id}", responses=MISSING)
async def get_file(file_id: FileId, base_url: BaseUrl, owner: Owner, services: InjectedServices) -> FileBody:
    """An uploaded file's record."""
    return represent(await files.owned_file(services, owner, file_id), base_url)


@router.delete("/files/{file_id}", status_code=204, responses=MISSING)
async def delete_file(file_id: FileId, owner: Owner, services: InjectedServices) -> None:
    """Delete an uploaded file now."""
    await remove(services, owner, file_id)


def _parse(metadata: str) -> dict[str, Any]:
    try:
        found = json.loads(metadata)
    except ValueError:
        found = None
    if not isinstance(found, dict) or len(metadata) > MOST_METADATA:
        remedy = f"send a JSON object of at most {MOST_METADATA} characters, or leave it out"
        raise InvalidInput(FieldError("metadata", "is not what can be kept", remedy))
    return found
