"""Replicate's HTTP API below /v1, over the same predictions, models and files: Replicate's own clients work unmodified.

A prediction has one representation in both parts, but for its URLs: `base_url` of one created here ends in /v1.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.openapi.utils import get_openapi

from app.application import InjectedServices
from app.files import V1
from app.openapi import complete
from app.replicate import account, deployments, files, models, predictions, streams

router = APIRouter(prefix=V1, generate_unique_id_function=lambda route: route.name)
for part in (predictions, models, deployments, files, streams, account):
    router.include_router(part.router)


@router.get("/openapi.json", include_in_schema=False)
async def get_openapi_document(services: InjectedServices) -> dict[str, Any]:
    """Describe this part of the API; the service's own document leaves it out."""
    schema = get_openapi(title="MusicGen Server, as Replicate's clients see it", version="1", routes=router.routes)
    return complete(schema, services.settings)
