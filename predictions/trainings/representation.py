"""A training as clients see it, in answers of the API and in webhooks."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from predictions.record.prediction import Prediction, now
from predictions.record.schema import Status
from predictions.representation import EstimateBody, ProgressBody, ProvenanceBody, object_url, progress_body
from predictions.storage.protocol import AudioStorage


class Sample(BaseModel):
    """The same caption, played without and with the adapter, from the same seed."""

    caption: str
    before: str = Field(description="URL of the music of the base.")
    after: str = Field(description="URL of the music of the trained version.")


class HeldOutLoss(BaseModel):
    """The loss on music that was not trained on, in nats per code."""

    before: float
    after: float


class Trained(BaseModel):
    """What came of a training. In the record, keys of objects stand in the places of URLs."""

    version: str = Field(description="The new version: owner/name:id.")
    weights: str = Field(
        description="URL of a tar with the adapter in PEFT's form and `training.json`, signed anew for every answer."
    )
    held_out_loss: HeldOutLoss
    samples: list[Sample]
    pieces: int = Field(description="Pieces that were trained on or held out.")
    dropped: int = Field(description="Files and pieces that were not used; the log says why.")

    def signed(self, training: Prediction, storage: AudioStorage) -> Trained:
        """The same with URLs, signed now."""

        def url(key: str) -> str:
            return object_url(training, storage, key)

        samples = [
            Sample(caption=each.caption, before=url(each.before), after=url(each.after)) for each in self.samples
        ]
        return self.model_copy(update={"weights": url(self.weights), "samples": samples})


class Row(BaseModel):
    """A piece of a file, or a file that gave none."""

    model_config = ConfigDict(from_attributes=True)

    name: str = Field(description="The file's, as the archive has it.")
    start: float = Field(description="Seconds from the file's beginning.")
    seconds: float
    caption: str | None
    clipped: bool = Field(description="Whether its loudest parts are cut off; it is used all the same.")
    dropped_reason: str | None = Field(description="Why it is not used; null: it is.")


class Inspected(BaseModel):
    """What an inspection found."""

    pieces: int = Field(description="Pieces that a training would use.")
    seconds: float = Field(description="Their length together.")
    dropped: int = Field(description="Files and pieces that it would not use.")
    table: list[Row] = Field(description="All pieces and captions; the first thousand of them.")


class TrainingUrls(BaseModel):
    """The URLs of the training."""

    get: str = Field(description="Read the training.")
    cancel: str = Field(description="POST here to cancel it.")


class TrainingBody(BaseModel):
    """A training: its input, its progress, and its result."""

    model_config = ConfigDict(title="Training")

    id: str
    status: Status = Field(description="`starting` while it waits; `succeeded`, `failed` and `canceled` are final.")
    model: str = Field(description="The base, as owner/name.")
    version: str = Field(description="The base's version.")
    destination: str | None = Field(description="The model, owner/name, of which the result becomes a version.")
    input: dict[str, Any] = Field(description="The input with every default filled in.")
    output: Trained | Inspected | None = Field(description="Once it has succeeded.")
    error: str | None = Field(description="Why it failed, or that its deadline passed.")
    logs: str = Field(description="What was taken and dropped, the losses, and progress in lines as tqdm prints them.")
    metrics: dict[str, Any] = Field(description="Once it has succeeded: predict_time and more.")
    progress: ProgressBody | None
    queue_position: int | None = Field(description="How many trainings are started before this one; null once started.")
    estimate: EstimateBody | None = Field(
        description="While it runs, once it has made a step: until its last step at the pace of those so far. It may "
        "end earlier, where the held-out loss no longer improves."
    )
    provenance: ProvenanceBody | None = Field(description="Once a worker has finished it or failed to.")
    source: Literal["api"] = Field(default="api", description="How it was asked for.")
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    urls: TrainingUrls


def represent(training: Prediction, storage: AudioStorage) -> TrainingBody:
    """The training as clients see it; its output's URLs are signed now."""
    progress, provenance = training.progress, training.provenance
    url = f"{training.base_url}/trainings/{training.id}"
    return TrainingBody(
        id=training.id,
        status=training.status,
        model=training.model,
        version=training.version,
        destination=training.destination,
        input=training.input,
        output=_output(training, storage),
        error=training.error,
        logs=training.logs,
        metrics=training.metrics,
        progress=progress_body(progress) if progress else None,
        queue_position=training.queue_position,
        estimate=_estimate(training),
        provenance=ProvenanceBody.model_validate(provenance) if provenance else None,
        created_at=training.created_at,
        started_at=training.started_at,
        completed_at=training.completed_at,
        urls=TrainingUrls(get=url, cancel=f"{url}/cancel"),
    )


def _estimate(training: Prediction) -> EstimateBody | None:
    progress, started_at = training.progress, training.started_at
    if training.status is not Status.PROCESSING or started_at is None or not progress or not progress.completed_steps:
        return None
    a_step = (now() - started_at).total_seconds() / progress.completed_steps
    seconds = max(0.0, a_step * (progress.total_steps - progress.completed_steps))
    return EstimateBody(start_seconds=0.0, finish_seconds=round(seconds, 2))


def _output(training: Prediction, storage: AudioStorage) -> Trained | Inspected | None:
    if training.output is None:
        return None
    if training.input.get("inspect"):
        return Inspected.model_validate(training.output)
    return Trained.model_validate(training.output).signed(training, storage)
