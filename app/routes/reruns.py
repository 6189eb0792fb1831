"""Repeat a prediction: the same input, seed included, by the same version of its model."""

from __future__ import annotations

from fastapi import APIRouter, Response

from app import predictions
from app.application import BaseUrl, InjectedServices
from app.auth import Owner
from app.guard.route import GuardedRoute
from app.problems import Problem
from app.routes.parameters import CancelAfter, IdempotencyKey, PredictionId, Prefer
from app.routes.requests import RerunRequest
from app.routes.responses import CREATED, MISSING, REFUSALS, Responses, answer_created
from predictions.representation import PredictionBody

router = APIRouter(tags=["predictions"], responses=REFUSALS | MISSING, route_class=GuardedRoute)

NOT_REPEATABLE: Responses = {
    409: {
        "model": Problem,
        "description": "It has not ended, its version is no longer served, or its uploaded audio has been deleted.",
    }
}


@router.post(
    "/predictions/{prediction_id}/rerun",
    status_code=202,
    response_model=PredictionBody,
    responses=CREATED | NOT_REPEATABLE,
)
async def rerun_prediction(
    prediction_id: PredictionId,
    owner: Owner,
    services: InjectedServices,
    base_url: BaseUrl,
    body: RerunRequest | None = None,
    prefer: Prefer = None,
    idempotency_key: IdempotencyKey = None,
    cancel_after: CancelAfter = None,
) -> Response:
    """Repeat a prediction that has ended, as a new one. On the same machine a success gives the same bytes."""
    submission = (body or RerunRequest()).submission(
        owner, base_url, idempotency_key=idempotency_key, cancel_after=cancel_after
    )
    return await answer_created(services, await predictions.rerun(services, submission, prediction_id), prefer)
