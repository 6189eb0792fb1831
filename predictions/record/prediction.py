"""A prediction and its life.

    starting ──claim──▶ processing ──▶ succeeded | failed
        │                   │ lease lost: back to starting, at most `max_attempts` times
        └───────cancel──────┴────────▶ canceled

A terminal status never changes. Each claim counts up `attempt`, which is also the fencing token of its lease: a write
that carries an older attempt is refused.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from predictions.record.schema import GENERATION_QUEUE, Status, WebhookEvent

STEPS_PER_SECOND = 50
"""Decoding steps that a second of music takes."""
DELAY_STEPS = 3
"""Further steps of a piece, for the codebooks that come behind the first."""

ID_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"
"""What a client may choose as an id; one of ours fits it too."""


@dataclass(frozen=True)
class Webhook:
    """Where a prediction's events are sent to, and which of them."""

    url: str
    events: tuple[WebhookEvent, ...] = tuple(WebhookEvent)


@dataclass(frozen=True)
class Progress:
    """Decoding steps done and to do; one step makes a fiftieth of a second of music."""

    completed_steps: int
    total_steps: int


@dataclass(frozen=True)
class Provenance:
    """What a prediction was made with, written when a worker has finished it or failed to."""

    model_checksum: str | None
    """SHA-256 over the model's configuration and weights, in hex."""
    code_version: str | None
    """Of the worker: the package's version, and the source's revision where it is known."""
    input_audio_sha256: str | None = None
    """Of the file that `input_audio` stands for; none where there is none, or it was not reached."""


@dataclass(frozen=True)
class NewPrediction:
    """What is asked of the store when a prediction is created."""

    id: str
    owner: str
    digest: str
    """Tells a repetition of its request from another request with the same id or Idempotency-Key."""
    input: Mapping[str, Any]
    model: str
    version: str
    queue: str
    base_url: str
    """The service's address as its client reached it."""
    input_file: str | None = None
    """The uploaded file that `input_audio` stands for."""
    webhook: Webhook | None = None
    stream_token: str | None = None
    """Opens its stream to whoever has the URL."""
    live: bool = False
    """Whether its sound is wanted while it is made."""
    rerun_of: str | None = None
    """The prediction that it repeats."""
    wanted_audio_sha256: str | None = None
    """What the input audio of that one was."""


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
    """The service's address as its client reached it; the URLs of the representation begin with it."""
    created_at: datetime
    input_file: str | None = None
    """The uploaded file that `input_audio` stands for."""
    attempt: int = 0
    started_at: datetime | None = None
    completed_at: datetime | None = None
    output_key: str | None = None
    error: str | None = None
    logs: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)
    progress: Progress | None = None
    queue_position: int | None = None
    """How many predictions wait before this one; none once it has started."""
    webhook: Webhook | None = None
    queue: str = GENERATION_QUEUE
    """From which its model's workers take."""
    provenance: Provenance | None = None
    rerun_of: str | None = None
    """The prediction that it repeats."""
    wanted_audio_sha256: str | None = None
    """What its input audio must be: that of the prediction that it repeats."""
    stream_token: str | None = None
    """Opens its stream to whoever has the URL; none where no such URL was asked for."""
    live: bool = False
    """Whether its sound is wanted while it is made."""

    @property
    def audio_sha256(self) -> str | None:
        """What its input audio was, or should have been; none where that is not known."""
        found = self.provenance.input_audio_sha256 if self.provenance else None
        return self.wanted_audio_sha256 or found


def new_id() -> str:
    """26 lower-case letters and digits, 128 random bits."""
    return base64.b32encode(secrets.token_bytes(16)).decode().rstrip("=").lower()


def now() -> datetime:
    """The present, in UTC."""
    return datetime.now(UTC)


def output_key(prediction_id: str, attempt: int, extension: str) -> str:
    """The object key of an attempt's output; attempts never write over each other."""
    return f"predictions/{prediction_id}/{attempt}/output.{extension}"


def output_prefix(prediction_id: str) -> str:
    """The prefix of all objects of a prediction."""
    return f"predictions/{prediction_id}/"
