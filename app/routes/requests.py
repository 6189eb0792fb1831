"""The bodies of requests for predictions and trainings."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, field_validator

from app.predictions import Submission
from app.routes.parameters import deadline_seconds
from predictions.errors import FieldError, InvalidInput
from predictions.models.inputs import Input
from predictions.models.registry import NAME
from predictions.record.prediction import Webhook
from predictions.record.schema import WebhookEvent
from predictions.trainings.inputs import TrainingInput

EXAMPLE: dict[str, Any] = {"input": {"prompt": "warm lo-fi piano with soft drums", "duration": 8}}

TRAINING_EXAMPLE: dict[str, Any] = {
    "destination": "me/my-songs",
    "input": {"dataset": "https://example.com/my-songs.zip", "description": "a kalimba in a tresillo"},
}


class Prioritized(BaseModel):
    """What a client may say of the order of its own predictions."""

    priority: Annotated[
        int,
        Field(
            ge=-10,
            le=10,
            strict=True,
            description="Of this token's predictions that wait, those with a higher priority are started first.",
        ),
    ] = 0


class Notified(BaseModel):
    """Where the client wants to be told of what becomes of its request."""

    model_config = ConfigDict(extra="forbid")

    webhook: Annotated[
        str | None,
        Field(
            max_length=2000,
            description="An http(s) URL that it is sent to at the events of `webhook_events_filter`.",
            examples=["https://example.com/hooks/music"],
        ),
    ] = None
    webhook_events_filter: Annotated[
        list[WebhookEvent] | None,
        Field(
            min_length=1,
            max_length=len(WebhookEvent),
            json_schema_extra={"uniqueItems": True},
            description="The events to send; all of them if left out. `output` and `logs`: at most twice a second.",
        ),
    ] = None

    @field_validator("webhook_events_filter")
    @classmethod
    def _name_each_once(cls, events: list[WebhookEvent] | None) -> list[WebhookEvent] | None:
        if events is not None and len(set(events)) < len(events):
            raise InvalidInput(FieldError("webhook_events_filter", "names an event twice", "name each event once"))
        return events

    def submission(
        self,
        owner: str,
        base_url: str,
        *,
        prediction_id: str | None = None,
        idempotency_key: str | None = None,
        cancel_after: str | None = None,
    ) -> Submission:
        """Return what the use cases need of the request beside the input; raises InvalidInput for `cancel_after`."""
        return Submission(
            owner=owner,
            base_url=base_url,
            digest=self.digest(),
            prediction_id=prediction_id,
            idempotency_key=idempotency_key,
            webhook=self.webhook_target(),
            live=self.stream if isinstance(self, Subscription) else False,
            priority=self.priority if isinstance(self, Prioritized) else 0,
            cancel_after=deadline_seconds(cancel_after),
        )

    def digest(self) -> str:
        """Return a hash that tells a repetition of this request from another request."""
        # Without what was left out: a model's defaults for it may differ from those of the schema.
        given = self.model_dump(mode="json", exclude_unset=True)
        return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()

    def webhook_target(self) -> Webhook | None:
        """Return where the events go, and which of them."""
        if self.webhook is None:
            return None
        return Webhook(self.webhook, tuple(self.webhook_events_filter or WebhookEvent))


class Subscription(Notified):
    """How the client wants to follow a prediction."""

    stream: Annotated[
        StrictBool,
        Field(description="Follow it live: it gets `urls.stream` and `urls.audio`, and its sound while it is made."),
    ] = False


class MusicRequest(Subscription):
    """What every request for music says."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EXAMPLE]})

    input: Input
    version: Annotated[
        str | None,
        Field(
            max_length=300,
            description=(
                "The model: `owner/name:version`, a version alone, or `owner/name` for its current version; the "
                "default model if left out. `GET /models` lists them."
            ),
            examples=[None],
        ),
    ] = None


class PredictionRequest(MusicRequest, Prioritized):
    """A request for a prediction."""


class TrainingRequest(Notified, Prioritized):
    """A request for a training."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [TRAINING_EXAMPLE]})

    input: TrainingInput
    destination: Annotated[
        str | None,
        Field(
            pattern=f"^{NAME}$",
            max_length=200,
            description="Your model, `owner/name`, of which the result becomes a version. An inspection needs none.",
        ),
    ] = None
    version: Annotated[
        str | None,
        Field(
            max_length=300,
            description=(
                "The base: `owner/name:version`, a version alone, or `owner/name` for its current version; the default "
                "model if left out."
            ),
            examples=[None],
        ),
    ] = None


class RerunRequest(Subscription, Prioritized):
    """How the client wants to follow the rerun; nothing of this is taken over from the original prediction."""
