"""Create, read, list, cancel and delete trainings."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from app import predictions, trainings
from app.application import BaseUrl, InjectedServices
from app.auth import Owner
from app.guard.route import GuardedRoute
from app.retries.connection import connection_of
from app.routes.pages import TrainingPage, page_of_trainings
from app.routes.parameters import CancelAfter, IdempotencyKey, TrainingId
from app.routes.requests import TrainingRequest
from app.routes.responses import MISSING, NO_ROOM, REFUSALS, UNREADABLE, Responses, answer_training
from app.trainings import Order
from predictions.record.schema import Kind
from predictions.trainings.representation import TrainingBody

router = APIRouter(tags=["trainings"], responses=REFUSALS, route_class=GuardedRoute)

ACCEPTED: Responses = {
    202: {"model": TrainingBody, "description": "Accepted; poll `urls.get`."},
    **UNREADABLE,
    **NO_ROOM,
}


@router.post("/trainings", status_code=202, response_model=TrainingBody, responses=ACCEPTED)
async def create_training(
    request: Request,
    body: TrainingRequest,
    owner: Owner,
    services: InjectedServices,
    base_url: BaseUrl,
    idempotency_key: IdempotencyKey = None,
    cancel_after: CancelAfter = None,
) -> Response:
    """Ask for a training, or with `"inspect": true` for the table of what it would be trained on.

    It takes minutes to hours: poll `urls.get`, or name a `webhook`.
    """
    submission = body.submission(owner, base_url, idempotency_key=idempotency_key, cancel_after=cancel_after)
    base = await services.models.for_version(body.version)
    order = Order(body.input, base, None, body.destination)
    training = await trainings.create(services, submission, order, connection_of(request.scope))
    return answer_training(services, training, 202)


@router.get("/trainings/{training_id}", response_model=TrainingBody, responses=MISSING)
async def get_training(training_id: TrainingId, owner: Owner, services: InjectedServices) -> Response:
    """Read a training as it stands."""
    return answer_training(services, await predictions.read(services, owner, training_id, Kind.TRAINING))


@router.get("/trainings")
async def list_trainings(
    owner: Owner,
    services: InjectedServices,
    base_url: BaseUrl,
    cursor: Annotated[str | None, Query(max_length=200, description="From `next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="The most trainings on a page.")] = 50,
) -> TrainingPage:
    """List this token's trainings, newest first."""
    return await page_of_trainings(services, owner, base_url, cursor, limit)


@router.post("/trainings/{training_id}/cancel", response_model=TrainingBody, responses=MISSING)
async def cancel_training(training_id: TrainingId, owner: Owner, services: InjectedServices) -> Response:
    """Stop a training that waits or runs, within a step. One that has ended stays as it is."""
    return answer_training(services, await predictions.cancel(services, owner, training_id, Kind.TRAINING))


@router.delete("/trainings/{training_id}", status_code=204, responses=MISSING)
async def delete_training(training_id: TrainingId, owner: Owner, services: InjectedServices) -> None:
    """Delete a training and its samples now; the version that it made stays. One that runs is cancelled first."""
    await predictions.delete(services, owner, training_id, Kind.TRAINING)
