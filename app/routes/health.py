"""Tell whether the service is up, and what serves its models."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from app.application import InjectedServices
from app.routes.models import ModelUsage, usage
from app.routes.responses import Responses
from predictions.errors import StoreUnavailable
from predictions.models.card import ModelCard
from predictions.models.served import ServedModel

router = APIRouter(tags=["service"])


class Health(BaseModel):
    """What serves right now."""

    status: str = Field(
        description=(
            "`ready`; `degraded` if some model has no live worker, or nobody delivers webhooks; `no workers` if no "
            "model has any; `unavailable` if Redis does not answer."
        )
    )
    model: ModelCard | None = Field(None, description="The default model, as its workers announced it.")
    models: list[ModelUsage] = []
    workers: int = Field(0, description="Live workers that generate.")
    webhook_workers: int = Field(0, description="Live workers that deliver webhooks.")
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
        status=_status(models, services.models.webhook_workers),
        model=next(model.state.card for model in models if model.is_default),
        models=used,
        webhook_workers=services.models.webhook_workers,
        workers=sum(item.workers for item in used),
        queued=sum(item.queued for item in used),
        running=sum(item.running for item in used),
    )


def _status(models: Sequence[ServedModel], webhook_workers: int) -> str:
    serving = [bool(model.state.workers) for model in models]
    if not any(serving):
        return "no workers"
    return "ready" if all(serving) and webhook_workers else "degraded"


class Probe(BaseModel):
    """What a probe finds."""

    status: str = Field(description="`ok` or `failing`.")
    wrong: dict[str, str] = Field({}, description="What is wrong, by part.")


def _found(response: Response, wrong: dict[str, str]) -> Probe:
    response.status_code = 503 if wrong else 200
    return Probe(status="failing" if wrong else "ok", wrong=wrong)


FAILING: Responses = {503: {"model": Probe, "description": "`wrong` says what fails."}}


@router.get("/health/live")
async def health_live() -> Probe:
    """Tell that the process answers. Where it does not, start it again."""
    return Probe(status="ok")


@router.get("/health/ready", responses=FAILING)
async def health_ready(response: Response, services: InjectedServices) -> Probe:
    """Tell whether predictions are accepted now: Redis answers and takes writes. Where it does not, 503."""
    return _found(response, await services.readiness.wrong())


@router.get("/health/startup", responses=FAILING)
async def health_startup(response: Response, services: InjectedServices) -> Probe:
    """Tell whether the process has been ready since its start; then it stays so."""
    wrong = {} if services.readiness.was_ready else await services.readiness.wrong()
    return _found(response, wrong)
