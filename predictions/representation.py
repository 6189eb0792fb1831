"""A prediction as clients see it: in answers of the API and in webhooks."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import urljoin

from pydantic import BaseModel, ConfigDict, Field, RootModel

from predictions.prediction import Prediction, Status
from predictions.storage import AudioStorage


class Output(RootModel[str]):
    """The URL of the audio."""

    model_config = ConfigDict(title="Output", json_schema_extra={"format": "uri"})


class ProgressBody(BaseModel):
    """How far the decoding is."""

    completed_steps: int = Field(description="Decoding steps done.")
    total_steps: int = Field(description="Decoding steps in all; fifty make a second of music.")
    fraction: float = Field(description="The part that is done, from 0 to 1.")


class PredictionUrls(BaseModel):
    """Where to go next."""

    get: str = Field(description="Read the prediction.")
    cancel: str = Field(description="POST here to cancel it.")


class PredictionBody(BaseModel):
    """A prediction: what was asked for, how far it is, and what came of it."""

    model_config = ConfigDict(title="Prediction")

    id: str
    status: Status = Field(description="`starting` while it waits; `succeeded`, `failed` and `canceled` are final.")
    input: dict[str, Any] = Field(description="The input with every default filled in.")
    output: Output | None = Field(
        description="URL of the audio once it has succeeded; signed anew at every read.", examples=[None]
    )
    error: str | None = Field(description="Why it failed.")
    logs: str = Field(description="What the worker says: the seed, and progress in lines as tqdm prints them.")
    metrics: dict[str, Any] = Field(
        description="Of a prediction that has succeeded: predict_time, seed, loudness, real_time_factor and more."
    )
    progress: ProgressBody | None
    queue_position: int | None = Field(description="How many predictions wait before this one; none once it started.")
    model: str = Field(description="The model, as owner/name.")
    version: str = Field(
        description="Version of the model; where the operator has not named one, a checksum of its weights."
    )
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    urls: PredictionUrls


def represent(prediction: Prediction, storage: AudioStorage) -> PredictionBody:
    """The prediction with its URLs, the output's signed now."""
    base = f"{prediction.base_url}/predictions/{prediction.id}"
    output = prediction.output_key
    progress = prediction.progress
    return PredictionBody(
        id=prediction.id,
        status=prediction.status,
        input=prediction.input,
        # The local folder's URLs are paths of our own host; those of S3 are whole.
        output=Output(urljoin(prediction.base_url, storage.url(output))) if output else None,
        error=prediction.error,
        logs=prediction.logs,
        metrics=prediction.metrics,
        progress=ProgressBody(
            completed_steps=progress.completed_steps,
            total_steps=progress.total_steps,
            fraction=round(progress.completed_steps / max(progress.total_steps, 1), 4),
        )
        if progress
        else None,
        queue_position=prediction.queue_position,
        model=prediction.model,
        version=prediction.version,
        created_at=prediction.created_at,
        started_at=prediction.started_at,
        completed_at=prediction.completed_at,
        urls=PredictionUrls(get=base, cancel=f"{base}/cancel"),
    )
