"""The bodies of requests and answers that are not predictions themselves."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from predictions.inputs import Input
from predictions.model_card import ModelCard
from predictions.prediction import Webhook, WebhookEvent
from predictions.representation import PredictionBody

EXAMPLE: dict[str, Any] = {"input": {"prompt": "warm lo-fi piano with soft drums", "duration": 8}}


class PredictionRequest(BaseModel):
    """A request for a prediction."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EXAMPLE]})

    input: Input
    version: Annotated[
        str | None, Field(description="The model's version; none: the one that is served.", examples=[None])
    ] = None
    stream: Annotated[
        bool,
        Field(description="To be followed live: `urls.stream` and `urls.audio`, and sound while it is made."),
    ] = False
    webhook: Annotated[
        str | None,
        Field(
            max_length=2000,
            description="An http(s) URL to which the prediction is sent when it starts and when it has ended.",
            examples=["https://example.com/hooks/music"],
        ),
    ] = None
    webhook_events_filter: Annotated[
        list[WebhookEvent] | None, Field(min_length=1, description="The events to send; none: all of them.")
    ] = None

    def digest(self) -> str:
        """Tells a repetition of this request from another request."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()

    def webhook_target(self) -> Webhook | None:
        """Where the events go."""
        if self.webhook is None:
            return None
        return Webhook(self.webhook, tuple(self.webhook_events_filter or WebhookEvent))


class PredictionPage(BaseModel):
    """A page of predictions, newest first."""

    previous: str | None = Field(description="Always null: pages are followed forwards.")
    next: str | None = Field(description="URL of the next page, or null on the last one.")
    results: list[PredictionBody]


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


class Health(BaseModel):
    """What serves right now."""

    status: str = Field(
        description="`ready`; `no workers` where none is alive; `unavailable` where Redis does not answer."
    )
    model: ModelCard | None = None
    workers: int = 0
    queued: int = 0
    running: int = 0
