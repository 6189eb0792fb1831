"""Files as Replicate's clients upload, read, list and delete them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, UploadFile
from starlette.datastructures import UploadFile as Part

from app import files
from app.application import InjectedServices
from app.auth import Owner
from app.guard.json_limits import RefusedJSON, parse_json
from app.guard.route import GuardedRoute
from app.replicate.pages import Page
from app.replicate.parameters import BaseUrl
from app.routes.files import UPLOADED, FileBody, represent, store_upload
from app.routes.parameters import FileId
from app.routes.responses import MISSING, REFUSALS
from predictions.errors import FieldError, InvalidInput

router = APIRouter(tags=["files"], responses=REFUSALS, route_class=GuardedRoute)

MAX_LISTED = 100
MAX_METADATA = 4096
"""Characters of JSON."""


@router.post("/files", status_code=201, responses=UPLOADED)
async def upload_file(
    content: UploadFile,
    base_url: BaseUrl,
    owner: Owner,
    services: InjectedServices,
    metadata: Annotated[UploadFile | str | None, Form()] = None,
) -> FileBody:
    """Send an audio file as the part `content`; `metadata`, a JSON object, is a field or a part of its own."""
    text = await metadata.read(MAX_METADATA + 1) if isinstance(metadata, Part) else metadata
    return represent(await store_upload(services, owner, content, _parse(text or "{}")), base_url)


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


def _parse(metadata: bytes | str) -> dict[str, Any]:
    remedy = f"send a JSON object of at most {MAX_METADATA} characters, or leave it out"
    if len(metadata) > MAX_METADATA:
        raise InvalidInput(FieldError("metadata", "is too long", remedy))
    try:
        found = parse_json(metadata)
    except RefusedJSON as error:
        raise InvalidInput(FieldError("metadata", error.message, remedy)) from error
    if not isinstance(found, dict):
        raise InvalidInput(FieldError("metadata", "is no JSON object", remedy))
    return found
