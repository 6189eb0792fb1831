"""Every operation on the store, described but not performed.

A Command names a Lua script, its arguments, and how to read its answer. `predictions.record.store` runs commands,
with a blocking client for the workers and an asyncio client for the API, so that the operations are written once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Generic, TypeVar

from predictions.errors import FileNotFound, PredictionNotFound
from predictions.files.record import File
from predictions.models.card import ModelCard
from predictions.record.events import Chunk, Event, EventName
from predictions.record.messages import GENERATE_TEMPLATE, GENERATION_QUEUE, WEBHOOK_TEMPLATE
from predictions.record.prediction import Prediction, Progress, Provenance, Status, Webhook, WebhookEvent

T = TypeVar("T")

ENDED_CHANNEL = "musicgen:ended-channel"
"""Where "{status} {id}" of every prediction that ends is published."""

EVENTS_CHANNEL = "musicgen:events-channel"
"""Where the id of every prediction that has a new event is published."""

FIRST_EVENT = "0-0"
"""Stands before every event's id."""

Argument = str | int | float


@dataclass(frozen=True)
class Command(Generic[T]):
    """One Lua script, its arguments, and the reader of its answer."""

    script: str
    arguments: tuple[Argument, ...]
    read: Callable[[Any], T]


class Outcome(StrEnum):
    """What became of a request to create a prediction."""

    CREATED = "created"
    REPLAYED = "replayed"
    """The same request came before; its prediction stands."""
    CONFLICT = "conflict"
    """The id is taken by another prediction."""
    MISMATCH = "mismatch"
    """The Idempotency-Key came before with another body."""
    FULL = "full"
    """Too many predictions wait already."""


@dataclass(frozen=True)
class Created:
    """The answer to `create`."""

    outcome: Outcome
    prediction: Prediction | None
    """The one that now stands under the id or the key; none where there is none."""


@dataclass(frozen=True)
class Reaped:
    """The answer to `reap`, in numbers of predictions."""

    requeued: int
    failed: int
    hinted: int


@dataclass(frozen=True)
class QueueState:
    """What serves a queue's model right now."""

    card: ModelCard | None = None
    """What its workers announced last; none where none ever has."""
    workers: tuple[str, ...] = ()
    """The names of those that are alive."""
    queued: int = 0
    running: int = 0


@dataclass(frozen=True)
class Cursor:
    """The place in an owner's list after which the next page begins."""

    score: str
    prediction_id: str


FIRST_PAGE = Cursor("+inf", "")


def create(
    *,
    prediction_id: str,
    owner: str,
    digest: str,
    input_json: str,
    input_file: str | None,
    model: str,
    version: str,
    queue: str,
    base_url: str,
    webhook: Webhook | None,
    idempotency_key: str,
    remember_seconds: int,
    max_queued: int,
    stream_token: str | None = None,
    live: bool = False,
    take_offered: bool = False,
    rerun_of: str | None = None,
    wanted_audio_sha256: str | None = None,
) -> Command[Created]:
    """Create and enqueue; `digest` tells a repeated request from another one with the same id or key.

    `stream_token`: opens its stream to whoever has the URL. `live`: its sound is wanted while it is made.
    `take_offered`: an identical request's prediction whose answer was lost (`offer`) will do. `rerun_of`: what it
    repeats, and `wanted_audio_sha256` what that one's input audio was.
    """
    fields: list[Argument] = ["input", input_json, "model", model, "version", version, "base_url", base_url]
    if input_file is not None:
        fields += ["input_file", input_file]
    if stream_token is not None:
        fields += ["stream_token", stream_token]
    if live:
        fields += ["live", "1"]
    for name, value in (("rerun_of", rerun_of), ("wanted_audio_sha256", wanted_audio_sha256)):
        if value is not None:
            fields += [name, value]
    if webhook is not None:
        fields += ["webhook", webhook.url, "webhook_events", ",".join(webhook.events)]
    return Command(
        "create",
        (
            prediction_id,
            owner,
            digest,
            idempotency_key,
            remember_seconds,
            max_queued,
            GENERATE_TEMPLATE,
            queue,
            int(take_offered),
            *fields,
        ),
        lambda answer: Created(Outcome(answer[0]), _read_prediction(answer[1:]) if answer[1] else None),
    )


def offer(owner: str, digest: str, prediction_id: str, seconds: int) -> Command[bool]:
    """Let the next identical request have the prediction, whose answer was lost."""
    return Command("offer", (owner, digest, prediction_id, seconds), bool)


def get(prediction_id: str) -> Command[Prediction]:
    """The prediction as it stands; raises PredictionNotFound."""

    def read(answer: Any) -> Prediction:
        if not answer:
            raise PredictionNotFound(prediction_id)
        return _read_prediction(answer)

    return Command("get", (prediction_id,), read)


def list_page(owner: str, cursor: Cursor, limit: int) -> Command[tuple[list[Prediction], Cursor | None]]:
    """A page of an owner's predictions, newest first, and the cursor of the next page, if there is one."""

    def read(answer: Any) -> tuple[list[Prediction], Cursor | None]:
        page = [_read_prediction(item) for item in answer[:limit]]
        if len(answer) <= limit:
            return page, None
        last = dict(_pairs(answer[limit - 1][0]))
        return page, Cursor(last["created_at"], last["id"])

    return Command("list", (owner, cursor.score, cursor.prediction_id, limit), read)


def claim(prediction_id: str, lease_seconds: float) -> Command[int]:
    """Take the lease; the answer is the attempt, which is the fencing token, or 0 where there is nothing to take."""
    return Command("claim", (prediction_id, lease_seconds, WEBHOOK_TEMPLATE), int)


def renew(
    prediction_id: str,
    attempt: int,
    lease_seconds: float,
    *,
    progress: Progress | None = None,
    logs: str | None = None,
) -> Command[bool]:
    """Renew the lease and write down progress; false where the lease is lost."""
    fields: list[Argument] = []
    if progress is not None:
        fields += ["progress", json.dumps([progress.completed_steps, progress.total_steps])]
    if logs is not None:
        fields += ["logs", logs]
    return Command("renew", (prediction_id, attempt, lease_seconds, WEBHOOK_TEMPLATE, *fields), bool)


def succeed(
    prediction_id: str,
    attempt: int,
    *,
    output_key: str,
    metrics: dict[str, Any],
    logs: str,
    progress: Progress,
    provenance: Provenance | None = None,
) -> Command[bool]:
    """End with an output; false where the lease is lost."""
    fields = ("output_key", output_key, "metrics", json.dumps(metrics), "logs", logs, *_made_with(provenance))
    steps = ("progress", json.dumps([progress.completed_steps, progress.total_steps]))
    return Command("finish", (prediction_id, attempt, Status.SUCCEEDED, WEBHOOK_TEMPLATE, *fields, *steps), bool)


def fail(
    prediction_id: str, attempt: int, *, error: str, logs: str, provenance: Provenance | None = None
) -> Command[bool]:
    """End with an error; false where the lease is lost."""
    fields = ("error", error, "logs", logs, *_made_with(provenance))
    return Command("finish", (prediction_id, attempt, Status.FAILED, WEBHOOK_TEMPLATE, *fields), bool)


def _made_with(provenance: Provenance | None) -> tuple[str, ...]:
    return () if provenance is None else ("provenance", json.dumps(provenance.__dict__))


def announce_chunk(prediction_id: str, chunk: Chunk) -> Command[bool]:
    """Tell that a chunk is stored; false where the lease is lost."""
    return Command("chunk", (prediction_id, chunk.attempt, chunk.to_json()), bool)


def events(prediction_id: str, after: str = FIRST_EVENT) -> Command[list[Event] | None]:
    """The events after one; None where the prediction is gone."""

    def read(answer: Any) -> list[Event] | None:
        if answer is None:
            return None
        entries = ((entry, dict(_pairs(flat))) for entry, flat in answer)
        return [Event(entry, EventName(fields["event"]), fields["data"]) for entry, fields in entries]

    return Command("events", (prediction_id, after), read)


def cancel(prediction_id: str) -> Command[bool]:
    """Cancel; false where it has ended already."""
    return Command("cancel", (prediction_id, WEBHOOK_TEMPLATE), bool)


def delete(prediction_id: str) -> Command[bool]:
    """Forget an ended prediction; false where it still waits or runs."""
    return Command("delete", (prediction_id,), bool)


def reap(max_attempts: int, requeue_after_seconds: float, limit: int = 100) -> Command[Reaped]:
    """Bring back predictions whose lease or message was lost."""
    arguments = (max_attempts, requeue_after_seconds, GENERATE_TEMPLATE, WEBHOOK_TEMPLATE, limit)
    return Command("reap", arguments, lambda answer: Reaped(*answer))


def announce(worker: str, model: ModelCard, alive_seconds: float, *, queue: str) -> Command[bool]:
    """A worker's sign of life, with the queue it takes from and the model it serves."""
    return Command("announce", (worker, queue, model.model_dump_json(), alive_seconds), bool)


def withdraw(worker: str, *, queue: str) -> Command[bool]:
    """A worker's farewell."""
    return Command("withdraw", (worker, queue), bool)


def deployment() -> Command[dict[str, QueueState]]:
    """Of each queue that generates: which model is served, by which workers, and what waits."""

    def read(answer: Any) -> dict[str, QueueState]:
        return {
            queue: QueueState(ModelCard.model_validate_json(card) if card else None, tuple(workers), queued, running)
            for queue, card, workers, queued, running in answer
        }

    return Command("deployment", (), read)


def put_file(
    file_id: str,
    *,
    owner: str,
    name: str,
    content_type: str,
    size: int,
    sha256: str,
    metadata: Mapping[str, Any] | None = None,
) -> Command[File]:
    """Remember an uploaded file, whose bytes are stored already."""
    fields: list[Argument] = ["owner", owner, "name", name, "content_type", content_type, "size", size]
    fields += ["sha256", sha256, "metadata", json.dumps(metadata or {})]
    return Command("put_file", (file_id, *fields), _read_file)


def get_file(file_id: str) -> Command[File]:
    """An uploaded file's record; raises FileNotFound."""

    def read(answer: Any) -> File:
        if not answer:
            raise FileNotFound(file_id)
        return _read_file(answer)

    return Command("get_file", (file_id,), read)


def list_files(owner: str, limit: int) -> Command[list[File]]:
    """An owner's uploaded files, newest first."""
    return Command("list_files", (owner, limit), lambda answer: [_read_file(flat) for flat in answer])


def delete_file(file_id: str) -> Command[bool]:
    """Forget an uploaded file."""
    return Command("delete_file", (file_id,), bool)


def expired(retention_seconds: float, limit: int = 100) -> Command[tuple[list[str], list[str]]]:
    """The ids of ended predictions and of files that have been kept long enough."""
    return Command("expired", (retention_seconds, limit), lambda answer: (answer[0], answer[1]))


def _pairs(flat: list[str]) -> list[tuple[str, str]]:
    return list(zip(flat[::2], flat[1::2], strict=True))


def _read_prediction(answer: Any) -> Prediction:
    flat, position = answer
    record = dict(_pairs(flat))
    progress, webhook = record.get("progress"), record.get("webhook")
    events = record.get("webhook_events", "")
    return Prediction(
        id=record["id"],
        owner=record["owner"],
        status=Status(record["status"]),
        input=json.loads(record["input"]),
        model=record.get("model", ""),
        version=record["version"],
        base_url=record["base_url"],
        input_file=record.get("input_file"),
        created_at=_time(record["created_at"]),
        attempt=int(record["attempt"]),
        started_at=_time(record["started_at"]) if "started_at" in record else None,
        completed_at=_time(record["completed_at"]) if "completed_at" in record else None,
        output_key=record.get("output_key"),
        error=record.get("error"),
        logs=record.get("logs", ""),
        metrics=json.loads(record.get("metrics", "{}")),
        queue=record.get("queue", GENERATION_QUEUE),
        provenance=Provenance(**json.loads(record["provenance"])) if "provenance" in record else None,
        rerun_of=record.get("rerun_of"),
        wanted_audio_sha256=record.get("wanted_audio_sha256"),
        stream_token=record.get("stream_token"),
        live="live" in record,
        progress=Progress(*json.loads(progress)) if progress else None,
        queue_position=position if position >= 0 else None,
        webhook=Webhook(webhook, tuple(WebhookEvent(event) for event in events.split(","))) if webhook else None,
    )


def _read_file(flat: list[str]) -> File:
    record = dict(_pairs(flat))
    return File(
        id=record["id"],
        owner=record["owner"],
        name=record["name"],
        content_type=record["content_type"],
        size=int(record["size"]),
        sha256=record["sha256"],
        created_at=_time(record["created_at"]),
        metadata=json.loads(record.get("metadata", "{}")),
    )


def _time(seconds: str) -> datetime:
    return datetime.fromtimestamp(float(seconds), UTC)
