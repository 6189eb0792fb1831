"""The bodies of requests and answers that are not predictions themselves."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from predictions.models.card import Abilities, ModelCard
from predictions.models.inputs import Input
from predictions.record.prediction import Webhook
from predictions.record.schema import DeliveryState, WebhookEvent
from predictions.representation import PredictionBody

EXAMPLE: dict[str, Any] = {"input": {"prompt": "warm lo-fi piano with soft drums", "duration": 8}}


class Subscription(BaseModel):
    """How a prediction is to be told of."""

    model_config = ConfigDict(extra="forbid")

    stream: Annotated[
        bool,
        Field(description="To be followed live: `urls.stream` and `urls.audio`, and sound while it is made."),
    ] = False
    webhook: Annotated[
        str | None,
        Field(
            max_length=2000,
            description="An http(s) URL to which the prediction is sent at the events of `webhook_events_filter`.",
            examples=["https://example.com/hooks/music"],
        ),
    ] = None
    webhook_events_filter: Annotated[
        list[WebhookEvent] | None,
        Field(
            min_length=1,
            description="The events to send; none: all of them. `output` and `logs`: twice a second at most.",
        ),
    ] = None

    def digest(self) -> str:
        """Tells a repetition of this request from another request."""
        # Without what was left out: a model's defaults for it may differ from those of the schema.
        given = self.model_dump(mode="json", exclude_unset=True)
        return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()

    def webhook_target(self) -> Webhook | None:
        """Where the events go."""
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
                "Which model: `owner/name:version`, a version alone, or `owner/name` for its current version; none: "
                "the default model. `GET /models` lists them."
            ),
            examples=[None],
        ),
    ] = None


class RerunRequest(Subscription):
    """How the repetition is to be told of; nothing of this is taken over from the prediction that is repeated."""


class PredictionPage(BaseModel):
    """A page of predictions, newest first."""

    previous: str | None = Field(description="Always null: pages are followed forwards.")
    next: str | None = Field(description="URL of the next page, or null on the last one.")
    results: list[PredictionBody]


class AttemptBody(BaseModel):
    """One POST to the receiver."""

    model_config = ConfigDict(title="WebhookAttempt", from_attributes=True)

    number: int
    started_at: datetime
    status: int | None = Field(description="The receiver's answer; null where none came.")
    error: str | None = Field(description="Why none came. With no status either, it runs now or was interrupted.")
    seconds: float | None = Field(description="How long the answer took.")


class DeliveryBody(BaseModel):
    """One webhook and every attempt to deliver it."""

    model_config = ConfigDict(title="WebhookDelivery", from_attributes=True)

    id: str = Field(description="The `webhook-id` that the receiver sees.")
    event: WebhookEvent
    state: DeliveryState = Field(
        description="`failed`: after the last retry; `superseded`: a newer one says more; `disabled`: after a 410."
    )
    created_at: datetime
    next_attempt_at: datetime | None = Field(description="Null where none will be made.")
    attempts: list[AttemptBody]


class DeliveryList(BaseModel):
    """A prediction's webhooks, oldest first."""

    results: list[DeliveryBody]


class FileUrls(BaseModel):
    """Where the file is."""

    get: str = Field(description="The file's record; also what to send as `input_audio`.")


class FileBody(BaseModel):
    """An uploaded audio file."""

    model_config = ConfigDict(title="File")

    id: str
    name: str
    content_type: str
    size: int = Field(description="Bytes.")
    etag: str
    checksums: dict[str, str]
    metadata: dict[str, Any]
    created_at: datetime
    urls: FileUrls


class ModelUsage(BaseModel):
    """What serves a model right now."""

    name: str = Field(description="owner/name")
    workers: int = Field(description="Live workers; none: its predictions wait.")
    queued: int
    running: int


class ModelBody(ModelUsage):
    """A model: its versions, what it can do, and what it does where a prediction does not say."""

    model_config = ConfigDict(title="Model")

    is_default: bool = Field(description="Whether it serves the predictions that name no `version`.")
    versions: list[str] = Field(description="The versions that are served; none before its first worker is up.")
    abilities: Abilities | None = Field(description="Null before its first worker is up.")
    defaults: dict[str, Any] = Field(description="What a prediction gets for the inputs that it leaves out.")


class ModelList(BaseModel):
    """All models of this deployment."""

    results: list[ModelBody]


class Health(BaseModel):
    """What serves right now."""

    status: str = Field(
        description=(
            "`ready`; `degraded` where a model has no live worker; `no workers` where none has; `unavailable` where "
            "Redis does not answer."
        )
    )
    model: ModelCard | None = Field(None, description="The default model, as its workers announced it.")
    models: list[ModelUsage] = []
    workers: int = 0
    queued: int = 0
    running: int = 0
