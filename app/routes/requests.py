"""The bodies of requests for predictions."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from app.predictions import Submission
from predictions.errors import FieldError, InvalidInput
from predictions.models.inputs import Input
from predictions.record.prediction import Webhook
from predictions.record.schema import WebhookEvent

EXAMPLE: dict[str, Any] = {"input": {"prompt": "warm lo-fi piano with soft drums", "duration": 8}}


class Subscription(BaseModel):
    """How the client wants to follow a prediction."""

    model_config = ConfigDict(extra="forbid")

    stream: Annotated[
        bool,
        Field(description="Follow it live: it gets `urls.stream` and `urls.audio`, and its sound while it is made."),
    ] = False
    webhook: Annotated[
        str | None,
        Field(
            max_length=2000,
            description="An http(s) URL that the prediction is sent to at the events of `webhook_events_filter`.",
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
    ) -> Submission:
        """Return what the use cases need of the request beside the input."""
        return Submission(
            owner=owner,
            base_url=base_url,
            digest=self.digest(),
            prediction_id=prediction_id,
            idempotency_key=idempotency_key,
            webhook=self.webhook_target(),
            live=self.stream,
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


class PredictionRequest(Subscription):
    """A request for a prediction."""

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


class RerunRequest(Subscription):
    """How the client wants to follow the rerun; nothing of this is taken over from the original prediction."""
