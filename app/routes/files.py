"""Upload a file, to be named as `input_audio`, or as the `dataset` of a training, afterwards."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fastapi import APIRouter, HTTPException, UploadFile
from pydantic import BaseModel, Field

from app import files
from app.application import BaseUrl, InjectedServices
from app.auth import Owner
from app.guard.route import GuardedRoute
from app.problems import Problem
from app.routes.parameters import FileId
from app.routes.responses import MISSING, REFUSALS, UNREADABLE, Responses
from app.services import Services
from predictions.files.record import File

router = APIRouter(tags=["files"], responses=REFUSALS, route_class=GuardedRoute)

UPLOADED: Responses = {
    **UNREADABLE,
    413: {"model": Problem, "description": "The file is too large."},
    415: {"model": Problem, "description": "The body is not a multipart form."},
}


class FileUrls(BaseModel):
    """Where the file is."""

    get: str = Field(description="Read the file's record; also what to send as `input_audio` or `dataset`.")


class FileBody(BaseModel):
    """An uploaded file."""

    id: str
    name: str
    content_type: str
    size: int = Field(description="In bytes.")
    etag: str
    checksums: dict[str, str]
    metadata: dict[str, Any]
    created_at: datetime
    urls: FileUrls


@router.post("/files", status_code=201, responses=UPLOADED)
async def upload_file(content: UploadFile, owner: Owner, services: InjectedServices, base_url: BaseUrl) -> FileBody:
    """Send a file as the form's part `content`. Then send its `urls.get` as `input_audio` or `dataset`."""
    return represent(await store_upload(services, owner, content), base_url)


@router.get("/files/{file_id}", responses=MISSING)
async def get_file(file_id: FileId, owner: Owner, services: InjectedServices, base_url: BaseUrl) -> FileBody:
    """Read the record of an uploaded file."""
    return represent(await files.read(services, owner, file_id), base_url)


@router.delete("/files/{file_id}", status_code=204, responses=MISSING)
async def delete_file(file_id: FileId, owner: Owner, services: InjectedServices) -> None:
    """Delete an uploaded file now. Otherwise it is deleted when its retention ends."""
    await files.delete(services, owner, file_id)


async def store_upload(
    services: Services, owner: str, content: UploadFile, metadata: dict[str, Any] | None = None
) -> File:
    """Keep what a form's part holds; raises 413, 422."""
    async with services.large_files:
        upload = _upload(content, services.settings.max_upload_bytes)
        return await files.store(services, owner, upload, metadata)


def _upload(content: UploadFile, max_bytes: int) -> files.Upload:
    if (content.size or 0) > max_bytes:
        raise HTTPException(413, f"The file is larger than {max_bytes} bytes; send a shorter or compressed one.")
    if not content.size:
        raise HTTPException(422, "The file is empty; send one that is not as the part `content`.")
    return files.Upload(files.file_name(content.filename), files.media_type(content.content_type), content.file)


def represent(file: File, base_url: str) -> FileBody:
    """Return the file as clients see it, with its URL in that part of the API."""
    return FileBody(
        id=file.id,
        name=file.name,
        content_type=file.content_type,
        size=file.size,
        etag=file.sha256,
        checksums={"sha256": file.sha256},
        metadata=file.metadata,
        created_at=file.created_at,
        urls=FileUrls(get=f"{base_url}/files/{file.id}"),
    )
