"""Predictions as Replicate's clients create, read, list and cancel them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import ConfigDict, Field, model_validator

from app.auth import Owner
from app.bodies import PredictionPage, PredictionRequest
from app.live.waiting import wait_seconds
from app.replicate.base import BaseUrl
from app.routes.predictions import (
    MISSING,
    REFUSALS,
    UNREADABLE,
    IdempotencyKey,
    PredictionId,
    Prefer,
    answer,
    cancelled,
    create,
    owned,
    page_of,
)
from app.services import InjectedServices
from predictions.models.inputs import Input
from predictions.record.prediction import Prediction, Webhook
from predictions.record.schema import Status, WebhookEvent
from predictions.representation import PredictionBody

router = APIRouter(tags=["predictions"], responses=REFUSALS)

PAGE = 100

ModelOwner = Annotated[str, Path(max_length=200, description="The part before the slash in a model's name.")]
ModelName = Annotated[str, Path(max_length=200, description="The part after it.")]


class V1Request(PredictionRequest):
    """What the clients post. Keys that mean nothing here are dropped before anything is stored or logged: with
    `fileEncodingStrategy` in `run`'s options, the JavaScript client posts itself, token included, inside `input`."""

    model_config = ConfigDict(extra="ignore")

    webhook_completed: Annotated[str | None, Field(max_length=2000, description="The older form of `webhook`.")] = None

    @model_validator(mode="before")
    @classmethod
    def _drop_unknown_inputs(cls, body: Any) -> Any:
        if isinstance(body, dict) and isinstance(body.get("input"), dict):
            known = {name: value for name, value in body["input"].items() if name in Input.model_fields}
            return {**body, "input": known}
        return body

    def webhook_target(self) -> Webhook | None:
        """Where the events go."""
        if self.webhook is None and self.webhook_completed is not None:
            return Webhook(self.webhook_completed, (WebhookEvent.COMPLETED,))
        return super().webhook_target()


@dataclass
class Posted:
    """A request to create a prediction, at whichever of the routes that do."""

    request: Request
    body: V1Request
    base_url: BaseUrl
    owner: Owner
    services: InjectedServices
    prefer: Prefer = None
    idempotency_key: IdempotencyKey = None

    async def answer(self) -> Response:
        """Create it, wait where that is asked for, and answer as the clients want it."""
        prediction = await create(
            self.request,
            self.services,
            self.owner,
            self.body,
            self.base_url,
            idempotency_key=self.idempotency_key,
            stream_url=True,  # the JavaScript client streams without having asked for it
        )
        prediction = await self.services.ended.wait(prediction, _patience(self.prefer))
        return await answer(_unfinished(prediction), self.services, 201)

    async def answer_by(self, model_name: str) -> Response:
        """The same with the current version of the model owner/name; raises ModelNotFound."""
        model = await self.services.models.named(model_name)
        self.body = self.body.model_copy(update={"version": model.name})
        return await self.answer()


InjectedPosted = Annotated[Posted, Depends()]


@router.post("/predictions", status_code=201, response_model=PredictionBody, responses=UNREADABLE)
async def create_prediction(posted: InjectedPosted) -> Response:
    """Create a prediction with the model's `version`, or with the default model."""
    return await posted.answer()


@router.post(
    "/models/{model_owner}/{model_name}/predictions",
    status_code=201,
    response_model=PredictionBody,
    responses=MISSING | UNREADABLE,
)
async def create_prediction_of_model(
    model_owner: ModelOwner, model_name: ModelName, posted: InjectedPosted
) -> Response:
    """Create a prediction with a model's current version."""
    return await posted.answer_by(f"{model_owner}/{model_name}")


@router.get("/predictions/{prediction_id}", response_model=PredictionBody, responses=MISSING)
async def get_prediction(prediction_id: PredictionId, owner: Owner, services: InjectedServices) -> Response:
    """The prediction as it stands."""
    return await answer(await owned(services, owner, prediction_id), services)


@router.get("/predictions")
async def list_predictions(
    base_url: BaseUrl,
    owner: Owner,
    services: InjectedServices,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE)] = PAGE,
) -> PredictionPage:
    """This token's predictions, newest first; `next` is the next page's URL."""
    return await page_of(services, owner, base_url, cursor, limit)


@router.post("/predictions/{prediction_id}/cancel", response_model=PredictionBody, responses=MISSING)
async def cancel_prediction(prediction_id: PredictionId, owner: Owner, services: InjectedServices) -> Response:
    """Stop a prediction; one that has ended stays as it is."""
    return await answer(await cancelled(services, owner, prediction_id), services)


def _patience(prefer: str | None) -> float:
    """Seconds to wait: less than the client does. With `wait=n` the Python client reads for n + 0.5 seconds."""
    seconds = wait_seconds(prefer)
    return max(seconds - 1, seconds / 2)


def _unfinished(prediction: Prediction) -> Prediction:
    """As an answer to whoever waited: they take everything but `starting` for finished, and would see no output."""
    return prediction if prediction.status.is_terminal else replace(prediction, status=Status.STARTING)
