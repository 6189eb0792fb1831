"""Predictions as Replicate's clients create, read, list and cancel them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import ConfigDict, Field, model_validator

from app import files, fine_tunes, predictions
from app.application import InjectedServices
from app.auth import Owner
from app.guard.route import GuardedRoute
from app.predictions import Submission
from app.replicate.parameters import BaseUrl, ModelName, ModelOwner
from app.retries.connection import connection_of
from app.routes.pages import PredictionPage, page_of
from app.routes.parameters import CancelAfter, IdempotencyKey, PredictionId, Prefer, wait_seconds
from app.routes.requests import MusicRequest, Notified
from app.routes.responses import MISSING, REFUSALS, UNREADABLE, answer
from app.services import Services
from predictions.models.inputs import Input
from predictions.record.prediction import Prediction, Webhook
from predictions.record.schema import Status, WebhookEvent
from predictions.representation import PredictionBody

router = APIRouter(tags=["predictions"], responses=REFUSALS, route_class=GuardedRoute)

PAGE = 100


class OlderWebhook(Notified):
    """What older clients say of webhooks."""

    webhook_completed: Annotated[str | None, Field(max_length=2000, description="The older form of `webhook`.")] = None

    def webhook_target(self) -> Webhook | None:
        """Return where the events go, and which of them."""
        if self.webhook is None and self.webhook_completed is not None:
            return Webhook(self.webhook_completed, (WebhookEvent.COMPLETED,))
        return super().webhook_target()

    def require_reachable(self, services: Services) -> None:
        """Raise InvalidInput for a forbidden URL, also where `webhook` wins: the use case looks only at the winner."""
        if self.webhook_completed is not None:
            files.require_reachable(services, "webhook_completed", self.webhook_completed)


class V1Request(OlderWebhook, MusicRequest):
    """What Replicate's clients post.

    Keys that mean nothing here are dropped before anything is stored or logged: with `fileEncodingStrategy` in `run`'s
    options, the JavaScript client posts itself, token included, inside `input`.
    """

    model_config = ConfigDict(extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _drop_unknown_inputs(cls, body: Any) -> Any:
        if isinstance(body, dict) and isinstance(body.get("input"), dict):
            known = {name: value for name, value in body["input"].items() if name in Input.model_fields}
            return {**body, "input": known}
        return body


@dataclass
class Posted:
    """A request to create a prediction, by whichever route it came."""

    request: Request
    body: V1Request
    base_url: BaseUrl
    owner: Owner
    services: InjectedServices
    prefer: Prefer = None
    idempotency_key: IdempotencyKey = None
    cancel_after: CancelAfter = None

    async def answer(self) -> Response:
        """Create the prediction, wait where that is asked for, and answer as the clients expect it."""
        self.body.require_reachable(self.services)
        prediction = await predictions.create(
            self.services,
            self._submission(),
            self.body.input,
            self.body.version,
            connection=connection_of(self.request.scope),
        )
        prediction = await predictions.wait(self.services, prediction, _patience(self.prefer))
        return await answer(self.services, _unfinished(prediction), 201)

    async def answer_by(self, model_name: str) -> Response:
        """Do the same with the current version of the model owner/name; raises ModelNotFound."""
        await fine_tunes.require(self.services, self.owner, model_name)
        self.body = self.body.model_copy(update={"version": model_name})
        return await self.answer()

    def _submission(self) -> Submission:
        submission = self.body.submission(
            self.owner, self.base_url, idempotency_key=self.idempotency_key, cancel_after=self.cancel_after
        )
        # The JavaScript client streams without having asked for it.
        return replace(submission, stream_url=True)


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
    """Read a prediction as it stands."""
    return await answer(services, await predictions.read(services, owner, prediction_id))


@router.get("/predictions")
async def list_predictions(
    base_url: BaseUrl,
    owner: Owner,
    services: InjectedServices,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE)] = PAGE,
) -> PredictionPage:
    """List this token's predictions, newest first; `next` is the next page's URL."""
    return await page_of(services, owner, base_url, cursor, limit)


@router.post("/predictions/{prediction_id}/cancel", response_model=PredictionBody, responses=MISSING)
async def cancel_prediction(prediction_id: PredictionId, owner: Owner, services: InjectedServices) -> Response:
    """Stop a prediction. One that has ended stays as it is."""
    return await answer(services, await predictions.cancel(services, owner, prediction_id))


def _patience(prefer: str | None) -> float:
    """Return the seconds to wait: fewer than the client, which for `wait=n` reads n + 0.5 seconds (the Python one)."""
    seconds = wait_seconds(prefer)
    return max(seconds - 1, seconds / 2)


def _unfinished(prediction: Prediction) -> Prediction:
    """Show an unfinished prediction as `starting`: clients take any other status for finished, and miss the output."""
    return prediction if prediction.status.is_terminal else replace(prediction, status=Status.STARTING)
