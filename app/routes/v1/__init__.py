"""Replicate's HTTP API below /v1, over the same predictions, models and files: its own clients work unmodified.

A prediction has one representation in both parts, but for its URLs: `base_url` of one created here ends in /v1.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.openapi.utils import get_openapi

from app.routes.v1 import account, deployments, files, models, predictions, streams

PREFIX = "/v1"

router = APIRouter(prefix=PREFIX, include_in_schema=False)
for part in (predictions, models, deployments, files, streams, account):
    router.include_router(part.router)


@router.get("/openapi.json")
async def get_openapi_document() -> dict[str, Any]:
    """The description of this part; that of the service itself leaves it out."""
    described = APIRouter(prefix=PREFIX)
    for part in (predictions, models, deployments, files, streams, account):
        described.include_router(part.router)
    return get_openapi(title="MusicGen Server as Replicate", version="1", routes=described.routes)
