"""Create, read, list, cancel and delete predictions."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from app import predictions
from app.application import BaseUrl, InjectedServices
from app.auth import Owner
from app.guard.route import GuardedRoute
from app.problems import Problem
from app.retries.connection import connection_of
from app.routes.pages import PredictionPage, page_of
from app.routes.parameters import CancelAfter, IdempotencyKey, PredictionId, Prefer
from app.routes.requests import PredictionRequest
from app.routes.responses import CREATED, MISSING, REFUSALS, answer, answer_created
from predictions.representation import PredictionBody

router = APIRouter(tags=["predictions"], responses=REFUSALS, route_class=GuardedRoute)


@router.post("/predictions", status_code=202, response_model=PredictionBody, responses=CREATED)
async def create_prediction(
    request: Request,
    body: PredictionRequest,
    owner: Owner,
    services: InjectedServices,
    base_url: BaseUrl,
    prefer: Prefer = None,
    idempotency_key: IdempotencyKey = None,
    cancel_after: CancelAfter = None,
) -> Response:
    """Ask for music.

    The answer comes at once, with `urls.get` to poll. With `Prefer: wait` it comes with the music.
    """
    submission = body.submission(owner, base_url, idempotency_key=idempotency_key, cancel_after=cancel_after)
    connection = connection_of(request.scope)
    prediction = await predictions.create(services, submission, body.input, body.version, connection=connection)
    return await answer_created(services, prediction, prefer)


@router.put(
    "/predictions/{prediction_id}",
    status_code=202,
    response_model=PredictionBody,
    responses=CREATED | {409: {"model": Problem, "description": "A prediction with another body has this id."}},
)
async def create_prediction_with_id(
    prediction_id: PredictionId,
    body: PredictionRequest,
    owner: Owner,
    services: InjectedServices,
    base_url: BaseUrl,
    prefer: Prefer = None,
    cancel_after: CancelAfter = None,
) -> Response:
    """Ask for music under an id of your own. Repeating the request changes nothing."""
    submission = body.submission(owner, base_url, prediction_id=prediction_id, cancel_after=cancel_after)
    prediction = await predictions.create(services, submission, body.input, body.version)
    return await answer_created(services, prediction, prefer)


@router.get("/predictions/{prediction_id}", response_model=PredictionBody, responses=MISSING)
async def get_prediction(prediction_id: PredictionId, owner: Owner, services: InjectedServices) -> Response:
    """Read a prediction as it stands."""
    return await answer(services, await predictions.read(services, owner, prediction_id))


@router.get("/predictions")
async def list_predictions(
    owner: Owner,
    services: InjectedServices,
    base_url: BaseUrl,
    cursor: Annotated[str | None, Query(max_length=200, description="From `next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="The most predictions on a page.")] = 50,
) -> PredictionPage:
    """List this token's predictions, newest first."""
    return await page_of(services, owner, base_url, cursor, limit)


@router.post("/predictions/{prediction_id}/cancel", response_model=PredictionBody, responses=MISSING)
async def cancel_prediction(prediction_id: PredictionId, owner: Owner, services: InjectedServices) -> Response:
    """Stop a prediction that waits or runs. One that has ended stays as it is."""
    return await answer(services, await predictions.cancel(services, owner, prediction_id))


@router.delete("/predictions/{prediction_id}", status_code=204, responses=MISSING)
async def delete_prediction(prediction_id: PredictionId, owner: Owner, services: InjectedServices) -> None:
    """Delete a prediction and its audio now. One that waits or runs is cancelled first."""
    await predictions.delete(services, owner, prediction_id)
