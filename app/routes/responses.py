"""What routes answer: predictions and trainings as clients see them, and the responses in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from fastapi import Response

from app import predictions
from app.problems import Problem
from app.routes.parameters import wait_seconds
from app.services import Services
from predictions.record.prediction import Prediction
from predictions.representation import PredictionBody, represent
from predictions.trainings.representation import represent as represent_training

Responses = dict[int | str, dict[str, Any]]

REFUSALS: Responses = {
    401: {"model": Problem, "description": "The token is missing, wrong or expired."},
    403: {"model": Problem, "description": "The token's scopes do not permit this."},
    422: {"model": Problem, "description": "A field is wrong; `errors` names it and what to send instead."},
    429: {"model": Problem, "description": "A limit of the token is reached; try again after `Retry-After` seconds."},
    503: {"model": Problem, "description": "Nothing was accepted; try again after `Retry-After` seconds."},
}
MISSING: Responses = {404: {"model": Problem, "description": "It does not exist, or belongs to another token."}}
UNREADABLE: Responses = {
    400: {"model": Problem, "description": "The body cannot be read."},
    413: {"model": Problem, "description": "The body is too large."},
    415: {"model": Problem, "description": "The body has another Content-Type than this request takes."},
}
NO_ROOM: Responses = {
    507: {"model": Problem, "description": "As much is kept for the token as may be; delete files or predictions."}
}
CREATED: Responses = {
    200: {"model": PredictionBody, "description": "It ended while you waited, or had ended before."},
    202: {"model": PredictionBody, "description": "Accepted; poll `urls.get`."},
    **UNREADABLE,
    **NO_ROOM,
}


async def answer(services: Services, prediction: Prediction, status: int = 200) -> Response:
    """Return the prediction as its client sees it."""
    estimate = await services.forecasts.of(prediction, just_accepted=status == 202)
    # Written by pydantic's own serializer: FastAPI's would validate the body a second time on the hottest path.
    body = represent(prediction, services.storage, estimate).model_dump_json()
    return Response(body, status, media_type="application/json")


async def answer_created(services: Services, prediction: Prediction, prefer: str | None) -> Response:
    """Answer a request that created the prediction or found it created, after waiting where `Prefer` asks for it."""
    prediction = await predictions.wait(services, prediction, wait_seconds(prefer))
    return await answer(services, prediction, 200 if prediction.status.is_terminal else 202)


def answer_training(services: Services, training: Prediction, status: int = 200) -> Response:
    """Return the training as its client sees it."""
    body = represent_training(training, services.storage).model_dump_json()
    return Response(body, status, media_type="application/json")
