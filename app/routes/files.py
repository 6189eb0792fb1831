"""Upload an audio file, to be named as `input_audio` afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Request, UploadFile
from starlette.concurrency import run_in_threadpool

from app import files
from app.auth import Owner
from app.bodies import FileBody, FileUrls
from app.problems import Problem
from app.routes.predictions import MISSING, REFUSALS, UNREADABLE
from app.services import InjectedServices, Services
from predictions.files import commands as file_commands
from predictions.files.record import File, file_prefix
from predictions.record.prediction import ID_PATTERN

router = APIRouter(tags=["files"], responses=REFUSALS)

TOO_LARGE: dict[int | str, dict[str, Any]] = {413: {"model": Problem, "description": "The file is too large."}}

FileId = Annotated[str, Path(pattern=ID_PATTERN, description="The file's id.")]


@router.post("/files", status_code=201, responses=TOO_LARGE | UNREADABLE)
async def upload_file(request: Request, content: UploadFile, owner: Owner, services: InjectedServices) -> FileBody:
    """Send an audio file as the form's part `content`; name its `urls.get` as `input_audio`."""
    return represent(await keep(services, owner, content), services.base_url(request))


@router.get("/files/{file_id}", responses=MISSING)
async def get_file(request: Request, file_id: FileId, owner: Owner, services: InjectedServices) -> FileBody:
    """An uploaded file's record."""
    return represent(await files.owned_file(services, owner, file_id), services.base_url(request))


@router.delete("/files/{file_id}", status_code=204, responses=MISSING)
async def delete_file(file_id: FileId, owner: Owner, services: InjectedServices) -> None:
    """Delete an uploaded file now; otherwise it goes when its time is over."""
    await remove(services, owner, file_id)


async def keep(services: Services, owner: str, content: UploadFile, metadata: Mapping[str, Any] | None = None) -> File:
    """Store what was uploaded; raises 413, 422."""
    limit = services.settings.max_input_audio_bytes
    data = await content.read(limit + 1)
    if len(data) > limit:
        raise HTTPException(413, f"The file is larger than {limit} bytes; send a shorter or compressed one.")
    if not data:
        raise HTTPException(422, "The file is empty; send an audio file as the part `content`.")
    content_type = content.content_type or "application/octet-stream"
    name = (content.filename or "")[:255]
    return await files.store_file(services, owner, name, content_type, data, metadata)


async def remove(services: Services, owner: str, file_id: str) -> None:
    """Delete a file's bytes and its record; raises FileNotFound."""
    await files.owned_file(services, owner, file_id)
    await run_in_threadpool(services.storage.delete_prefix, file_prefix(file_id))
    await services.store.run(file_commands.delete_file(file_id))


def represent(file: File, base_url: str) -> FileBody:
    """The file as clients see it, with its URL in that part of the API."""
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
