"""Serve the local folder's objects under their signed, expiring URLs. S3 serves its objects itself."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import FileResponse

from predictions.storage.local import LocalStorage


def objects_router(storage: LocalStorage) -> APIRouter:
    """Return the route, bound to the folder that it serves."""
    router = APIRouter()

    @router.api_route("/objects/{key:path}", methods=["GET", "HEAD"], include_in_schema=False)
    def get_object(key: str, expires: Annotated[str, Query()], signature: Annotated[str, Query()]) -> FileResponse:
        """Read an object, or the range of its bytes that is asked for."""
        path, content_type = storage.verify(key, expires, signature)
        return FileResponse(path, media_type=content_type, headers={"Cache-Control": "private"})

    return router
