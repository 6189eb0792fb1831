"""Whether the service can be used right now."""

from __future__ import annotations

from fastapi import APIRouter, Response

from app.bodies import Health
from app.services import InjectedServices
from predictions import commands
from predictions.errors import StoreUnavailable

router = APIRouter(tags=["service"])


@router.get("/health-check", responses={503: {"model": Health, "description": "Redis does not answer."}})
async def health_check(response: Response, services: InjectedServices) -> Health:
    """What serves right now. 200 as long as predictions are accepted or will be when a worker comes back."""
    try:
        deployment = await services.store.run(commands.deployment())
    except StoreUnavailable:
        response.status_code = 503
        return Health(status="unavailable")
    return Health(
        status="ready" if deployment.workers else "no workers",
        model=deployment.model,
        workers=len(deployment.workers),
        queued=deployment.queued,
        running=deployment.running,
    )
