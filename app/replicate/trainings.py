"""Trainings as Replicate's clients create, read, list and cancel them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import ConfigDict, Field

from app import predictions, trainings
from app.application import InjectedServices
from app.auth import Owner
from app.guard.route import GuardedRoute
from app.replicate.parameters import BaseUrl, ModelName, ModelOwner
from app.replicate.predictions import PAGE, OlderWebhook
from app.retries.connection import connection_of
from app.routes.pages import TrainingPage, page_of_trainings
from app.routes.parameters import CancelAfter, IdempotencyKey, TrainingId
from app.routes.responses import MISSING, REFUSALS, UNREADABLE, answer_training
from app.trainings import Order
from predictions.models.registry import NAME
from predictions.record.schema import Kind
from predictions.trainings.inputs import TrainingInput
from predictions.trainings.representation import TrainingBody

router = APIRouter(tags=["trainings"], responses=REFUSALS, route_class=GuardedRoute)

VersionId = Annotated[str, Path(max_length=200, description="The version of the base.")]


class V1TrainingRequest(OlderWebhook):
    """What Replicate's clients post."""

    model_config = ConfigDict(extra="ignore")

    destination: Annotated[
        str,
        Field(
            pattern=f"^{NAME}$",
            max_length=200,
            description="Your model, `owner/name`, of which the result becomes a version.",
        ),
    ]
    input: TrainingInput


@router.post(
    "/models/{model_owner}/{model_name}/versions/{version_id}/trainings",
    status_code=201,
    response_model=TrainingBody,
    responses=MISSING | UNREADABLE,
)
async def create_training(
    request: Request,
    model_owner: ModelOwner,
    model_name: ModelName,
    version_id: VersionId,
    body: V1TrainingRequest,
    owner: Owner,
    services: InjectedServices,
    base_url: BaseUrl,
    idempotency_key: IdempotencyKey = None,
    cancel_after: CancelAfter = None,
) -> Response:
    """Train a version of a model on a dataset; the result becomes a version of the destination."""
    body.require_reachable(services)
    submission = body.submission(owner, base_url, idempotency_key=idempotency_key, cancel_after=cancel_after)
    base = await services.models.named(f"{model_owner}/{model_name}")
    order = Order(body.input, base, version_id, body.destination)
    training = await trainings.create(services, submission, order, connection_of(request.scope))
    return answer_training(services, training, 201)


@router.get("/trainings/{training_id}", response_model=TrainingBody, responses=MISSING)
async def get_training(training_id: TrainingId, owner: Owner, services: InjectedServices) -> Response:
    """Read a training as it stands."""
    return answer_training(services, await predictions.read(services, owner, training_id, Kind.TRAINING))


@router.get("/trainings")
async def list_trainings(
    base_url: BaseUrl,
    owner: Owner,
    services: InjectedServices,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE)] = PAGE,
) -> TrainingPage:
    """List this token's trainings, newest first; `next` is the next page's URL."""
    return await page_of_trainings(services, owner, base_url, cursor, limit)


@router.post("/trainings/{training_id}/cancel", response_model=TrainingBody, responses=MISSING)
async def cancel_training(training_id: TrainingId, owner: Owner, services: InjectedServices) -> Response:
    """Stop a training. One that has ended stays as it is."""
    return answer_training(services, await predictions.cancel(services, owner, training_id, Kind.TRAINING))
