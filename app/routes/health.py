"""Whether the service serves, and what."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter, Response

from app.bodies import Health, ModelUsage
from app.services import InjectedServices
from predictions.errors import StoreUnavailable
from predictions.models import announcements
from predictions.models.served import ServedModel, served_models

router = APIRouter(tags=["service"])


@router.get("/health-check", responses={503: {"model": Health, "description": "Redis does not answer."}})
async def health_check(response: Response, services: InjectedServices) -> Health:
    """What serves right now. 200 as long as predictions are accepted or will be when a worker comes back."""
    try:
        deployment = await services.store.run(announcements.deployment())
    except StoreUnavailable:
        response.status_code = 503
        return Health(status="unavailable")
    models = served_models(services.models.registry, deployment)
    usage = [
        ModelUsage(
            name=model.name,
            workers=len(model.state.workers),
            queued=model.state.queued,
            running=model.state.running,
        )
        for model in models
    ]
    return Health(
        status=_status(models),
        model=next(model.state.card for model in models if model.is_default),
        models=usage,
        workers=sum(item.workers for item in usage),
        queued=sum(item.queued for item in usage),
        running=sum(item.running for item in usage),
    )


def _status(models: Sequence[ServedModel]) -> str:
    serving = [bool(model.state.workers) for model in models]
    return "ready" if all(serving) else "degraded" if any(serving) else "no workers"
