"""Replicate's HTTP API below /v1, over the same predictions, trainings, models and files.

Replicate's own clients work unmodified.

A prediction has one representation in both parts, but for its URLs: `base_url` of one created here ends in /v1.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.openapi.utils import get_openapi

from app.application import Application
from app.files import V1
from app.openapi import complete
from app.replicate import account, deployments, files, models, predictions, streams, trainings

router = APIRouter(prefix=V1, generate_unique_id_function=lambda route: route.name)
for part in (predictions, models, trainings, deployments, files, streams, account):
    router.include_router(part.router)


@router.get("/openapi.json", include_in_schema=False)
async def get_openapi_document(request: Request) -> Response:
    """Describe this part of the API; the service's own document leaves it out."""
    application = request.app
    assert isinstance(application, Application)

    def build() -> dict[str, Any]:
        title = "MusicGen Server, as Replicate's clients see it"
        schema = get_openapi(title=title, version="1", routes=router.routes)
        return complete(schema, application.services.settings)

    return await application.document(f"{V1}/openapi.json", build)
