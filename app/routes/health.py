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
    registry = services.models.registry
    served = {
        model.queue: deployment.models[model.queue] for model in registry.models if model.queue in deployment.models
    }
    alive = sum(bool(model.workers) for model in served.values())
    default = served.get(registry.default.queue)
    return Health(
        status="ready" if alive == len(registry.models) else "degraded" if alive else "no workers",
        model=default.card if default else None,
        workers=sum(len(model.workers) for model in served.values()),
        queued=sum(model.queued for model in served.values()),
        running=deployment.running,
    )
