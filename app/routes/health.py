"""Tell whether the service is up, and what serves its models."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from app.application import InjectedServices
from app.routes.models import ModelUsage, usage
from predictions.errors import StoreUnavailable
from predictions.models.card import ModelCard
from predictions.models.served import ServedModel

router = APIRouter(tags=["service"])


class Health(BaseModel):
    """What serves right now."""

    status: str = Field(
        description=(
            "`ready`; `degraded` if some model has no live worker; `no workers` if none has; `unavailable` if Redis "
            "does not answer."
        )
    )
    model: ModelCard | None = Field(None, description="The default model, as its workers announced it.")
    models: list[ModelUsage] = []
    workers: int = 0
    queued: int = 0
    running: int = 0


@router.get("/health-check", responses={503: {"model": Health, "description": "Redis does not answer."}})
async def health_check(response: Response, services: InjectedServices) -> Health:
    """Tell what serves right now. 200 means that predictions are accepted, or will be once a worker is back."""
    try:
        models = await services.models.read()
    except StoreUnavailable:
        response.status_code = 503
        return Health(status="unavailable")
    used = [usage(model) for model in models]
    return Health(
        status=_status(models),
        model=next(model.state.card for model in models if model.is_default),
        models=used,
        workers=sum(item.workers for item in used),
        queued=sum(item.queued for item in used),
        running=sum(item.running for item in used),
    )


def _status(models: Sequence[ServedModel]) -> str:
    serving = [bool(model.state.workers) for model in models]
    return "ready" if all(serving) else "degraded" if any(serving) else "no workers"
