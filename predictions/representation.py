"""A prediction as clients see it, in answers of the API and in webhooks."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import urljoin

from pydantic import BaseModel, ConfigDict, Field, RootModel
from pydantic.json_schema import SkipJsonSchema

from predictions.estimates.simulation import Estimate
from predictions.record.prediction import Prediction, Progress
from predictions.record.schema import Status
from predictions.storage.protocol import AudioStorage


class Output(RootModel[str]):
    """The URL of the audio."""

    model_config = ConfigDict(title="Output", json_schema_extra={"format": "uri"})


class ProgressBody(BaseModel):
    """How far it has come."""

    completed_steps: int = Field(description="Steps done: of decoding, or of a training.")
    total_steps: int = Field(description="Steps in all.")
    fraction: float = Field(description="Completed part, from 0 to 1.")


class EstimateBody(BaseModel):
    """When the prediction will start and finish, from what waits and runs and how fast the workers were lately."""

    model_config = ConfigDict(title="Estimate")

    start_seconds: float = Field(description="Seconds until a worker starts it; 0 once it has started.")
    finish_seconds: float = Field(description="Seconds until it has succeeded.")


class ProvenanceBody(BaseModel):
    """What the prediction was made with."""

    model_config = ConfigDict(title="Provenance", from_attributes=True)

    model_checksum: str | None = Field(description="SHA-256 of the model's configuration and weights.")
    code_version: str | None = Field(description="Version of the worker; after `+` the source's revision, if known.")
    input_audio_sha256: str | None = Field(description="SHA-256 of the input audio file; null without one.")
    base: str | None = Field(
        description="The model that a fine-tune changes, as owner/name:version; null where it is no fine-tune's."
    )
    adapter_checksum: str | None = Field(description="SHA-256 of the fine-tune's adapter; null where there is none.")


def _is_none(value: object) -> bool:
    return value is None


class PredictionUrls(BaseModel):
    """The URLs of the prediction."""

    get: str = Field(description="Read the prediction.")
    cancel: str = Field(description="POST here to cancel it.")
    stream: str | SkipJsonSchema[None] = Field(
        default=None,
        exclude_if=_is_none,
        description="With `stream`: server-sent events, readable without a token.",
    )
    audio: str | SkipJsonSchema[None] = Field(
        default=None,
        exclude_if=_is_none,
        description="With `stream`: the audio while it is being made, readable without a token.",
    )


class PredictionBody(BaseModel):
    """A prediction: its input, its progress, and its result."""

    model_config = ConfigDict(title="Prediction")

    id: str
    status: Status = Field(description="`starting` while it waits; `succeeded`, `failed` and `canceled` are final.")
    input: dict[str, Any] = Field(description="The input with every default filled in.")
    output: Output | None = Field(
        description="URL of the audio once it has succeeded; signed anew for every answer.", examples=[None]
    )
    error: str | None = Field(description="Why it failed, or that its deadline passed.")
    logs: str = Field(description="The worker's log: the seed, and progress in lines as tqdm prints them.")
    metrics: dict[str, Any] = Field(
        description="Once it has succeeded: predict_time, seed, loudness, true_peak and more."
    )
    progress: ProgressBody | None
    queue_position: int | None = Field(
        description="How many predictions are started before this one; null once started."
    )
    estimate: EstimateBody | None = Field(
        description="While it waits or runs. Null in webhooks, without a live worker, and before any has succeeded."
    )
    provenance: ProvenanceBody | None = Field(description="Once a worker has finished it or failed to.")
    rerun_of: str | None = Field(description="Id of the prediction that it repeats.")
    model: str = Field(description="The model, as owner/name.")
    version: str = Field(
        description="Version of the model: the operator's name for it, else a checksum of its weights or adapter."
    )
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    urls: PredictionUrls


def represent(prediction: Prediction, storage: AudioStorage, estimate: Estimate | None = None) -> PredictionBody:
    """The prediction as clients see it; its output's URL is signed now."""
    output, progress, provenance = prediction.output_key, prediction.progress, prediction.provenance
    return PredictionBody(
        id=prediction.id,
        status=prediction.status,
        input=prediction.input,
        output=Output(object_url(prediction, storage, output)) if output else None,
        error=prediction.error,
        logs=prediction.logs,
        metrics=prediction.metrics,
        progress=progress_body(progress) if progress else None,
        queue_position=prediction.queue_position,
        estimate=_estimate(estimate) if estimate else None,
        provenance=ProvenanceBody.model_validate(provenance) if provenance else None,
        rerun_of=prediction.rerun_of,
        model=prediction.model,
        version=prediction.version,
        created_at=prediction.created_at,
        started_at=prediction.started_at,
        completed_at=prediction.completed_at,
        urls=_urls(prediction),
    )


def progress_body(progress: Progress) -> ProgressBody:
    """The progress as clients see it."""
    done, total = progress.completed_steps, progress.total_steps
    return ProgressBody(completed_steps=done, total_steps=total, fraction=round(done / max(total, 1), 4))


def _estimate(estimate: Estimate) -> EstimateBody:
    return EstimateBody(
        start_seconds=round(estimate.start_seconds, 2), finish_seconds=round(estimate.finish_seconds, 2)
    )


def object_url(prediction: Prediction, storage: AudioStorage, key: str) -> str:
    """A URL, signed now, that reads one of the prediction's objects."""
    # The URLs of local storage are paths on the API's host; those of S3 are complete.
    return urljoin(prediction.base_url, storage.url(key))


def _urls(prediction: Prediction) -> PredictionUrls:
    base, token = f"{prediction.base_url}/predictions/{prediction.id}", prediction.stream_token
    urls = PredictionUrls(get=base, cancel=f"{base}/cancel")
    if token is not None:
        # Whoever has these URLs needs no token: players and Replicate's JavaScript client send none.
        urls.stream = f"{prediction.base_url}/streams/{prediction.id}?token={token}"
        if prediction.live:
            urls.audio = f"{base}/audio?token={token}"
    return urls
