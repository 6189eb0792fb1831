"""A prediction and its life, which a training shares: it is a record of another kind.

    starting ──take──▶ processing ──▶ succeeded | failed
        │                   │ its worker died: back to starting
        └───────cancel──────┴────────▶ canceled

A terminal status never changes. A worker that takes a prediction makes up a random token for its lease and sends it
with every write (a fencing token): once somebody else has taken the prediction, or an id has been deleted and used
again, what the worker writes is refused.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from predictions.record.schema import Kind, Queue, Status, WebhookEvent

ID_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"
"""The ids that clients may choose; `new_id` makes ids of the same form."""


@dataclass(frozen=True)
class Webhook:
    """Where a prediction's webhooks are sent, and at which events."""

    url: str
    events: tuple[WebhookEvent, ...] = tuple(WebhookEvent)


@dataclass(frozen=True)
class Progress:
    """Decoding steps done and in all."""

    completed_steps: int
    total_steps: int


@dataclass(frozen=True)
class Provenance:
    """What a prediction was made with. A worker writes it when it has finished the prediction or failed to."""

    model_checksum: str | None
    """SHA-256 of the model's configuration and weights, in hex."""
    code_version: str | None
    """The worker's version of the package, and its source's revision where that is known."""
    input_audio_sha256: str | None = None
    """SHA-256 of the file behind `input_audio`, in hex; None where there is none or it could not be fetched."""
    base: str | None = None
    """owner/name:version of the model that its fine-tune changes; None where it is no fine-tune's."""
    adapter_checksum: str | None = None
    """SHA-256 of the fine-tune's adapter, in hex; None where it is no fine-tune's."""


@dataclass(frozen=True)
class NewPrediction:
    """A prediction to be created."""

    id: str
    owner: str
    digest: str
    """Digest of the request: tells a repetition from another request with the same id or Idempotency-Key."""
    input: Mapping[str, Any]
    model: str
    version: str
    queue: str
    base_url: str
    """The service's address as the client reached it."""
    base: str | None = None
    """owner/name of the model that its fine-tune changes; None where `model` is the registry's."""
    base_version: str | None = None
    """The version of that model."""
    input_file: str | None = None
    """The id of the uploaded file that `input_audio` names."""
    webhook: Webhook | None = None
    stream_token: str | None = None
    """Grants access to the stream without a bearer token."""
    live: bool = False
    """Whether audio is wanted while it is being made."""
    rerun_of: str | None = None
    """The id of the prediction that this one repeats."""
    origin: str | None = None
    """The id of the prediction at which its chain of reruns began; None where it is no rerun."""
    wanted_audio_sha256: str | None = None
    """SHA-256 that the input audio must have, in hex: that of the repeated prediction."""
    request_id: str | None = None
    """The id of the request that creates it, for the logs."""
    traceparent: str | None = None
    """The trace that the request belongs to (W3C Trace Context); None where nothing is traced."""
    priority: int = 0
    """Among the predictions of its owner, those with a higher one are taken first."""
    cancel_after: float | None = None
    """Seconds from its creation after which it is cancelled, unless it has ended; None for never."""
    kind: Kind = Kind.PREDICTION
    destination: str | None = None
    """Of a training: the model, owner/name, of which its result becomes a version."""

    @property
    def cost(self) -> float:
        """What its turn costs its owner in this queue: seconds of music, or the steps of a training."""
        measure = "duration" if self.kind is Kind.PREDICTION else "steps"
        return float(self.input.get(measure, 0))


@dataclass(frozen=True)
class Prediction:
    """A prediction as it stands in the store."""

    id: str
    owner: str
    status: Status
    input: dict[str, Any]
    model: str
    version: str
    base_url: str
    """The service's address as the client reached it; the URLs of the representation begin with it."""
    created_at: datetime
    base: str | None = None
    """owner/name of the model that its fine-tune changes; None where `model` is the registry's."""
    base_version: str | None = None
    """The version of that model."""
    input_file: str | None = None
    """The id of the uploaded file that `input_audio` names."""
    attempt: int = 0
    """How often a worker has taken it."""
    lease_token: str = ""
    """The fencing token of the last lease; empty before the first."""
    returned_at: datetime | None = None
    """When it last began to wait for another attempt; None where it never did."""
    started_at: datetime | None = None
    completed_at: datetime | None = None
    output_key: str | None = None
    error: str | None = None
    logs: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)
    progress: Progress | None = None
    queue_position: int | None = None
    """How many predictions are taken before this one, where nothing changes meanwhile; None once it has started."""
    webhook: Webhook | None = None
    queue: str = Queue.GENERATION
    """The queue from which the model's workers take."""
    provenance: Provenance | None = None
    rerun_of: str | None = None
    """The id of the prediction that this one repeats."""
    request_id: str = ""
    """The id of the request that created it, for the logs; empty where that is not known."""
    traceparent: str | None = None
    """The trace that this request belongs to (W3C Trace Context); None where it was not traced."""
    tenant: str = ""
    """The name of its tenant when it was created, for the logs; empty where that is not known."""
    origin: str | None = None
    """The id of the prediction at which its chain of reruns began; None where it is no rerun."""
    wanted_audio_sha256: str | None = None
    """SHA-256 that the input audio must have, in hex: that of the repeated prediction."""
    stream_token: str | None = None
    """Grants access to the stream without a bearer token; None where no stream was asked for."""
    live: bool = False
    """Whether audio is wanted while it is being made."""
    kind: Kind = Kind.PREDICTION
    destination: str | None = None
    """Of a training: the model, owner/name, of which its result becomes a version."""
    output: dict[str, Any] | None = None
    """Of a training: what came of it; keys of objects stand in the places of URLs."""

    @property
    def served_model(self) -> str:
        """The name of the model whose workers make it: the base of its fine-tune, or its own model."""
        return self.base or self.model

    @property
    def served_version(self) -> str:
        """The version that this model must have."""
        return self.base_version or self.version

    @property
    def audio_sha256(self) -> str | None:
        """SHA-256 of the input audio as it was or should have been, in hex; None where that is not known."""
        found = self.provenance.input_audio_sha256 if self.provenance else None
        return self.wanted_audio_sha256 or found

    @property
    def first_id(self) -> str:
        """The id that its file names. All reruns share it, so that their files are the same byte by byte."""
        return self.origin or self.id


def new_id() -> str:
    """A new id: 26 lower-case letters and digits with 128 random bits."""
    return base64.b32encode(secrets.token_bytes(16)).decode().rstrip("=").lower()


def now() -> datetime:
    """The present, in UTC."""
    return datetime.now(UTC)


PREDICTIONS_PREFIX = "predictions/"
"""The prefix of all objects of predictions."""


def output_key(prediction_id: str, lease_token: str, extension: str) -> str:
    """The object key of an attempt's output.

    It contains the lease's token: no attempt overwrites or deletes what another one stored, not even one at an earlier
    prediction with the same id.
    """
    return f"{attempt_prefix(prediction_id, lease_token)}output.{extension}"


def attempt_prefix(prediction_id: str, lease_token: str) -> str:
    """The prefix of all objects of one attempt."""
    return f"{output_prefix(prediction_id)}{lease_token}/"


def output_prefix(prediction_id: str) -> str:
    """The prefix of all objects of a prediction."""
    return f"{PREDICTIONS_PREFIX}{prediction_id}/"
