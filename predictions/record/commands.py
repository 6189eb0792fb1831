"""What can be done to a prediction's record: each command is one Lua script, so that it happens whole or not at all."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, cast

from predictions.errors import PredictionNotFound
from predictions.record.command import Command, pairs, read_time
from predictions.record.events import Chunk, Event
from predictions.record.prediction import NewPrediction, Prediction, Progress, Provenance, Webhook
from predictions.record.schema import (
    GENERATION_QUEUE,
    EventName,
    Outcome,
    PredictionFields,
    PredictionRequestFields,
    PredictionResultFields,
    Status,
    WebhookEvent,
)

FIRST_EVENT = "0-0"
"""Stands before every event's id."""

WORKERS_DIED = "Its worker died @ATTEMPTS@ times; it is not tried again."
"""Why a prediction failed that `reap` has given up; @ATTEMPTS@ is filled in there."""


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
class Cursor:
    """The place in an owner's list after which the next page begins."""

    score: str
    prediction_id: str


FIRST_PAGE = Cursor("+inf", "")


def create(
    new: NewPrediction,
    *,
    idempotency_key: str = "",
    remember_seconds: int,
    max_queued: int,
    take_offered: bool = False,
) -> Command[Created]:
    """Create and enqueue: both or neither.

    `idempotency_key` is remembered for `remember_seconds`; "": there is none. `max_queued`: how many may wait for the
    same model. `take_offered`: a prediction whose answer was lost (`offer`) will do, if its request was identical.
    """
    return Command(
        "record/create",
        {
            "record": _fields(new),
            "idempotency_key": idempotency_key,
            "remember_seconds": remember_seconds,
            "max_queued": max_queued,
            "take_offered": take_offered,
        },
        lambda answer: Created(Outcome(answer[0]), _read_prediction(answer[1:]) if answer[1] else None),
    )


def offer(owner: str, digest: str, prediction_id: str, seconds: int) -> Command[bool]:
    """Let the next identical request have the prediction, whose answer was lost."""
    return Command("record/offer", {"owner": owner, "digest": digest, "id": prediction_id, "seconds": seconds}, bool)


def get(prediction_id: str) -> Command[Prediction]:
    """The prediction as it stands; raises PredictionNotFound."""

    def read(answer: Any) -> Prediction:
        if not answer:
            raise PredictionNotFound(prediction_id)
        return _read_prediction(answer)

    return Command("record/get", {"id": prediction_id}, read)


def list_page(owner: str, cursor: Cursor, limit: int) -> Command[tuple[list[Prediction], Cursor | None]]:
    """A page of an owner's predictions, newest first, and the cursor of the next page, if there is one."""

    def read(answer: Any) -> tuple[list[Prediction], Cursor | None]:
        page = [_read_prediction(item) for item in answer[:limit]]
        if len(answer) <= limit:
            return page, None
        last = dict(pairs(answer[limit - 1][0]))
        return page, Cursor(last["created_at"], last["id"])

    arguments = {"owner": owner, "score": cursor.score, "last": cursor.prediction_id, "limit": limit}
    return Command("record/list", arguments, read)


def claim(prediction_id: str, lease_seconds: float) -> Command[Prediction | None]:
    """Take the lease: the prediction, whose `attempt` is the fencing token; None where there is nothing to take."""
    return Command(
        "record/claim",
        {"id": prediction_id, "lease_seconds": lease_seconds},
        lambda answer: _read_prediction(answer) if answer else None,
    )


def renew(
    prediction_id: str,
    attempt: int,
    lease_seconds: float,
    *,
    progress: Progress | None = None,
    logs: str | None = None,
) -> Command[bool]:
    """Renew the lease and write down progress; false where the lease is lost."""
    fields: PredictionResultFields = {}
    if progress is not None:
        fields["progress"] = _steps(progress)
    if logs is not None:
        fields["logs"] = logs
    arguments = {
        "id": prediction_id,
        "attempt": attempt,
        "lease_seconds": lease_seconds,
        "fields": list(fields.items()),
    }
    return Command("record/renew", arguments, bool)


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
    fields: PredictionResultFields = {
        "output_key": output_key,
        "metrics": json.dumps(metrics),
        "logs": logs,
        "progress": _steps(progress),
    }
    return _finish(prediction_id, attempt, Status.SUCCEEDED, fields, provenance)


def fail(
    prediction_id: str, attempt: int, *, error: str, logs: str, provenance: Provenance | None = None
) -> Command[bool]:
    """End with an error; false where the lease is lost."""
    return _finish(prediction_id, attempt, Status.FAILED, {"error": error, "logs": logs}, provenance)


def announce_chunk(prediction_id: str, chunk: Chunk) -> Command[bool]:
    """Tell that a chunk is stored; false where the lease is lost."""
    return Command("record/chunk", {"id": prediction_id, "attempt": chunk.attempt, "chunk": chunk.to_json()}, bool)


def events(prediction_id: str, after: str = FIRST_EVENT) -> Command[list[Event] | None]:
    """The events after one; None where the prediction is gone."""

    def read(answer: Any) -> list[Event] | None:
        if answer is None:
            return None
        entries = ((entry, dict(pairs(flat))) for entry, flat in answer)
        return [Event(entry, EventName(fields["event"]), fields["data"]) for entry, fields in entries]

    return Command("record/events", {"id": prediction_id, "after": after}, read)


def cancel(prediction_id: str) -> Command[bool]:
    """Cancel; false where it has ended already."""
    return Command("record/cancel", {"id": prediction_id}, bool)


def delete(prediction_id: str) -> Command[bool]:
    """Forget an ended prediction; false where it still waits or runs."""
    return Command("record/delete", {"id": prediction_id}, bool)


def reap(max_attempts: int, requeue_after_seconds: float, limit: int = 100) -> Command[Reaped]:
    """Bring back predictions whose lease or message was lost."""
    arguments = {
        "max_attempts": max_attempts,
        "requeue_after_seconds": requeue_after_seconds,
        "error": WORKERS_DIED,
        "limit": limit,
    }
    return Command("record/reap", arguments, lambda answer: Reaped(*answer))


def expired(retention_seconds: float, limit: int = 100) -> Command[tuple[list[str], list[str]]]:
    """The ids of ended predictions and of files that have been kept long enough."""
    return Command(
        "record/expired",
        {"retention_seconds": retention_seconds, "limit": limit},
        lambda answer: (answer[0], answer[1]),
    )


def _fields(new: NewPrediction) -> PredictionRequestFields:
    fields: PredictionRequestFields = {
        "id": new.id,
        "owner": new.owner,
        "digest": new.digest,
        "input": json.dumps(new.input),
        "model": new.model,
        "version": new.version,
        "queue": new.queue,
        "base_url": new.base_url,
    }
    if new.input_file is not None:
        fields["input_file"] = new.input_file
    if new.stream_token is not None:
        fields["stream_token"] = new.stream_token
    if new.live:
        fields["live"] = "1"
    if new.rerun_of is not None:
        fields["rerun_of"] = new.rerun_of
    if new.wanted_audio_sha256 is not None:
        fields["wanted_audio_sha256"] = new.wanted_audio_sha256
    if new.webhook is not None:
        fields["webhook"], fields["webhook_events"] = new.webhook.url, ",".join(new.webhook.events)
    return fields


def _finish(
    prediction_id: str, attempt: int, status: Status, fields: PredictionResultFields, provenance: Provenance | None
) -> Command[bool]:
    if provenance is not None:
        fields["provenance"] = json.dumps(asdict(provenance))
    arguments = {"id": prediction_id, "attempt": attempt, "status": status, "fields": list(fields.items())}
    return Command("record/finish", arguments, bool)


def _steps(progress: Progress) -> str:
    return json.dumps([progress.completed_steps, progress.total_steps])


def _read_prediction(answer: Any) -> Prediction:
    flat, position = answer
    record = cast(PredictionFields, dict(pairs(flat)))
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
        created_at=read_time(record["created_at"]),
        attempt=int(record["attempt"]),
        started_at=read_time(record["started_at"]) if "started_at" in record else None,
        completed_at=read_time(record["completed_at"]) if "completed_at" in record else None,
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
