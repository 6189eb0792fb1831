"""Commands on a prediction's record. Each is one Lua script, so that it happens completely or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

from predictions.addresses import receiver_of
from predictions.errors import PredictionNotFound
from predictions.record.command import UNLIMITED, Arguments, Command, flat, pairs, read_time
from predictions.record.events import Chunk, Event
from predictions.record.prediction import NewPrediction, Prediction, Progress, Provenance, Webhook
from predictions.record.schema import (
    Cause,
    EventEntry,
    EventName,
    Kind,
    Outcome,
    PredictionHash,
    Queue,
    Status,
    WebhookEvent,
)
from predictions.tenants import Tenant

FIRST_EVENT = "0-0"
"""Smaller than every event's id."""

ALL_OBJECTS = "*"

WORKER_DIED = "Its worker died %d times while it worked on nothing else; it is not tried again."
"""The error of a prediction that kills its workers; %d is how often."""

DEADLINE_PASSED = "It was cancelled because it had not ended by its deadline, which the header Cancel-After had set."
"""The error of a prediction that is cancelled at its deadline."""

NO_LIMIT = -1


@dataclass(frozen=True)
class Created:
    """The answer to `create`."""

    outcome: Outcome
    prediction: Prediction | None
    """The prediction that now has the id or the key; None where there is none."""
    retry_after: int = 0
    """Of USED_UP: in how many seconds the same request can be accepted."""


@dataclass(frozen=True)
class Reaped:
    """How many predictions `reap` brought back or gave up."""

    requeued: int
    """They wait again."""
    failed: int
    """They have killed as many workers as are allowed."""


@dataclass(frozen=True)
class Cursor:
    """The place in an owner's list after which the next page begins."""

    score: str
    prediction_id: str


FIRST_PAGE = Cursor("+inf", "")


def create(
    new: NewPrediction,
    *,
    tenant: Tenant | None = None,
    idempotency_key: str = "",
    remember_seconds: int,
    max_queued: int,
    max_stored_bytes: int = UNLIMITED,
    take_offered: bool = False,
) -> Command[Created]:
    """Create a prediction and have it wait for its tenant's turn: both or neither.

    `tenant`: whose it is, with the share and the limits that hold for it from now on; None for an equal share and no
    limits. `idempotency_key` ("" for none) is remembered for `remember_seconds`. `max_queued` is how many may wait for
    the same model; none is created where `max_stored_bytes` are kept for the owner already. With `take_offered`, a
    prediction whose answer was lost (`offer`) will do, if its request was identical.
    """
    tenant = tenant or Tenant(new.owner, new.owner)
    limits = tenant.limits
    is_prediction = new.kind is Kind.PREDICTION
    fields: PredictionHash = {
        "kind": None if is_prediction else new.kind,
        "destination": new.destination,
        "input": json.dumps(new.input),
        "model": new.model,
        "version": new.version,
        "base": new.base,
        "base_version": new.base_version,
        "base_url": new.base_url,
        "input_file": new.input_file,
        "needs_audio": "1" if new.input.get("input_audio") is not None else None,
        "stream_token": new.stream_token,
        "live": "1" if new.live else None,
        "rerun_of": new.rerun_of,
        "request_id": new.request_id,
        "traceparent": new.traceparent,
        "tenant": tenant.name,
        "origin": new.origin,
        "wanted_audio_sha256": new.wanted_audio_sha256,
        "webhook": new.webhook.url if new.webhook else None,
        "webhook_host": receiver_of(new.webhook.url) if new.webhook else None,
        "webhook_events": ",".join(new.webhook.events) if new.webhook else None,
    }
    return Command(
        "record/create",
        {
            "id": new.id,
            "kind": new.kind,
            "owner": new.owner,
            "digest": new.digest,
            "queue": new.queue,
            "fields": flat(fields),
            "idempotency_key": idempotency_key,
            "remember_seconds": remember_seconds,
            "max_queued": max_queued,
            "max_stored_bytes": max_stored_bytes,
            "take_offered": take_offered,
            "seconds": new.cost,
            "priority": new.priority,
            "cancel_after": new.cancel_after or 0,
            "weight": tenant.weight,
            "running_limit": NO_LIMIT if limits.running is None else limits.running,
            "waiting_limit": NO_LIMIT if limits.waiting is None else limits.waiting,
            "day_limit": limits.seconds_a_day if is_prediction and limits.seconds_a_day is not None else NO_LIMIT,
        },
        _read_created,
    )


def _read_created(answer: Any) -> Created:
    outcome, record, position, retry_after = answer
    return Created(Outcome(outcome), _read_prediction((record, position)) if record else None, retry_after)


def offer(owner: str, digest: str, prediction_id: str, seconds: int) -> Command[bool]:
    """Offer a prediction whose answer was lost to the next identical request, for this many seconds."""
    return Command("record/offer", {"owner": owner, "digest": digest, "id": prediction_id, "seconds": seconds}, bool)


def get(prediction_id: str) -> Command[Prediction]:
    """The prediction as it stands; raises PredictionNotFound."""

    def read(answer: Any) -> Prediction:
        if not answer:
            raise PredictionNotFound(prediction_id)
        return _read_prediction(answer)

    return Command("record/get", {"id": prediction_id}, read)


def list_page(
    owner: str, cursor: Cursor, limit: int, kind: Kind = Kind.PREDICTION
) -> Command[tuple[list[Prediction], Cursor | None]]:
    """A page of an owner's records of one kind, newest first, and the cursor of the next page, if there is one."""

    def read(answer: Any) -> tuple[list[Prediction], Cursor | None]:
        page = [_read_prediction(item) for item in answer[:limit]]
        if len(answer) <= limit:
            return page, None
        last = dict(pairs(answer[limit - 1][0]))
        return page, Cursor(last["created_at"], last["id"])

    arguments: Arguments = {
        "owner": owner,
        "kind": kind,
        "score": cursor.score,
        "last_id": cursor.prediction_id,
        "limit": limit,
    }
    return Command("record/list_page", arguments, read)


def take(
    queue: str,
    token: str,
    lease_seconds: float,
    held: Mapping[str, str] | None = None,
    limit: int = 100,
    *,
    no_audio: bool = False,
    no_audio_of: Sequence[str] = (),
) -> Command[Prediction | None]:
    """Take the next prediction, and its lease; None where there is none to take now.

    Next is what comes back from a worker that died, then the first one of the tenant that was given least music for its
    weight, where it may have another running (docs/decisions/0023). What is past its deadline is cancelled, not taken.

    `token`: random text, new for each lease; with it the holder proves its right to write. `held`: the ids of the
    predictions that the same worker works on, by the tokens of its leases. A prediction with which a worker has died is
    never taken beside others. `limit`: how many of those past their deadline are cancelled on the way. `no_audio`: pass
    over predictions whose input audio has to be fetched; `no_audio_of`: those of these owners.
    """
    held = held or {}
    arguments: Arguments = {
        "queue": queue,
        "token": token,
        "lease_seconds": lease_seconds,
        "beside": list(held.values()),
        "held": list(held),
        "limit": limit,
        "overdue_error": DEADLINE_PASSED,
        "no_audio": no_audio,
        "no_audio_of": no_audio_of,
    }
    return Command("record/take", arguments, lambda answer: _read_prediction(answer) if answer else None)


def renew(
    prediction_id: str,
    token: str,
    lease_seconds: float,
    *,
    progress: Progress | None = None,
    logs: str | None = None,
) -> Command[bool]:
    """Renew the lease and write down progress and logs; false where the lease is lost."""
    fields: PredictionHash = {}
    if progress is not None:
        fields["progress"] = _steps(progress)
    if logs is not None:
        fields["logs"] = logs
    arguments: Arguments = {
        "id": prediction_id,
        "token": token,
        "lease_seconds": lease_seconds,
        "fields": flat(fields),
    }
    return Command("record/renew", arguments, bool)


def succeed(
    prediction_id: str,
    token: str,
    *,
    output_key: str | None = None,
    output: Mapping[str, Any] | None = None,
    metrics: dict[str, Any],
    logs: str,
    progress: Progress,
    provenance: Provenance | None = None,
    stored_bytes: int = 0,
) -> Command[bool]:
    """End with an output; false where the lease is lost.

    `output_key`: the object that a prediction made; `output`: what came of a training. `stored_bytes`: what the attempt
    leaves in storage.
    """
    fields: PredictionHash = {
        "output_key": output_key,
        "output": None if output is None else json.dumps(output),
        "stored_bytes": str(stored_bytes),
        "metrics": json.dumps(metrics),
        "logs": logs,
        "provenance": _made_with(provenance),
        "progress": _steps(progress),
    }
    return _finish(prediction_id, token, Status.SUCCEEDED, "", fields)


def fail(
    prediction_id: str,
    token: str,
    *,
    error: str,
    logs: str,
    provenance: Provenance | None = None,
    cause: Cause = Cause.INTERNAL,
) -> Command[bool]:
    """End with an error; false where the lease is lost."""
    fields: PredictionHash = {"error": error, "logs": logs, "provenance": _made_with(provenance)}
    return _finish(prediction_id, token, Status.FAILED, cause, fields)


def _finish(
    prediction_id: str, token: str, status: Status, cause: Cause | Literal[""], fields: PredictionHash
) -> Command[bool]:
    arguments: Arguments = {
        "id": prediction_id,
        "token": token,
        "status": status,
        "cause": cause,
        "fields": flat(fields),
    }
    return Command("record/finish", arguments, bool)


def _steps(progress: Progress) -> str:
    return json.dumps([progress.completed_steps, progress.total_steps])


def _made_with(provenance: Provenance | None) -> str | None:
    return None if provenance is None else json.dumps(asdict(provenance))


def give_back(prediction_id: str, token: str, *, suspect: bool) -> Command[bool]:
    """Have the prediction tried again; false where the lease is lost.

    `suspect`: whether it may be the cause of what happened; then it is tried alone.
    """
    return Command("record/give_back", {"id": prediction_id, "token": token, "suspect": suspect}, bool)


def announce_chunk(prediction_id: str, chunk: Chunk) -> Command[bool]:
    """Announce a chunk of audio that is stored; false where the lease is lost."""
    arguments: Arguments = {
        "id": prediction_id,
        "token": chunk.token,
        "index": chunk.index,
        "chunk": chunk.to_json(),
    }
    return Command("record/announce_chunk", arguments, bool)


def events(prediction_id: str, after: str = FIRST_EVENT) -> Command[list[Event] | None]:
    """The events after the one with this id; None where the prediction is gone."""

    def read(answer: Any) -> list[Event] | None:
        if answer is None:
            return None
        entries = ((entry, cast(EventEntry, dict(pairs(flat)))) for entry, flat in answer)
        return [Event(entry, EventName(fields["event"]), fields["data"]) for entry, fields in entries]

    return Command("record/events", {"id": prediction_id, "after": after}, read)


def cancel(prediction_id: str) -> Command[bool]:
    """Cancel a prediction; false where it has ended already."""
    return Command("record/cancel", {"id": prediction_id}, bool)


def cancel_overdue(limit: int = 100) -> Command[int]:
    """Cancel predictions that are past their deadline; `limit` of them mean that there may be more."""
    return Command("record/cancel_overdue", {"limit": limit, "error": DEADLINE_PASSED}, int)


def delete(prediction_id: str) -> Command[bool]:
    """Delete an ended prediction's record and all that belongs to it; false where it still waits or runs."""
    return Command("record/delete", {"id": prediction_id}, bool)


def reap(max_deaths: int, limit: int = 100) -> Command[Reaped]:
    """Bring back predictions whose lease has ended, and fail those with which workers died `max_deaths` times."""
    arguments: Arguments = {"max_deaths": max_deaths, "limit": limit, "error": WORKER_DIED}
    return Command("record/reap", arguments, lambda answer: Reaped(*answer))


def hints(queue: str) -> Command[int]:
    """How many messages wait in a queue."""
    return Command("record/hints", {"queue": queue}, int)


def wanted(prediction_ids: Sequence[str]) -> Command[list[str]]:
    """For each prediction, the lease token whose objects are wanted: ALL_OBJECTS for all, empty where it is gone."""
    return Command("record/wanted", {"ids": prediction_ids}, list)


def expired(retention_seconds: float, limit: int = 100) -> Command[tuple[list[str], list[str]]]:
    """The ids of ended predictions and of files that have been kept long enough."""
    arguments: Arguments = {"retention_seconds": retention_seconds, "limit": limit}
    return Command("record/expired", arguments, lambda answer: (answer[0], answer[1]))


def _read_prediction(answer: Any) -> Prediction:
    flat, position = answer
    record = cast(PredictionHash, dict(pairs(flat)))
    started_at, completed_at, progress = record.get("started_at"), record.get("completed_at"), record.get("progress")
    returned_at = record.get("returned_at")
    provenance, output = record.get("provenance"), record.get("output")
    return Prediction(
        id=record["id"],
        owner=record["owner"],
        status=Status(record["status"]),
        input=json.loads(record["input"]),
        model=record.get("model", ""),
        version=record["version"],
        base=record.get("base"),
        base_version=record.get("base_version"),
        base_url=record["base_url"],
        input_file=record.get("input_file"),
        created_at=read_time(record["created_at"]),
        attempt=int(record["attempt"]),
        lease_token=record.get("lease_token") or "",
        returned_at=read_time(returned_at) if returned_at else None,
        started_at=read_time(started_at) if started_at else None,
        completed_at=read_time(completed_at) if completed_at else None,
        output_key=record.get("output_key"),
        error=record.get("error"),
        logs=record.get("logs", ""),
        metrics=json.loads(record.get("metrics", "{}")),
        queue=record.get("queue", Queue.GENERATION),
        provenance=Provenance(**json.loads(provenance)) if provenance else None,
        rerun_of=record.get("rerun_of"),
        request_id=record.get("request_id") or "",
        traceparent=record.get("traceparent"),
        tenant=record.get("tenant") or "",
        origin=record.get("origin"),
        wanted_audio_sha256=record.get("wanted_audio_sha256"),
        stream_token=record.get("stream_token"),
        live="live" in record,
        progress=Progress(*json.loads(progress)) if progress else None,
        queue_position=position if position >= 0 else None,
        webhook=_read_webhook(record),
        kind=Kind(record.get("kind") or Kind.PREDICTION),
        destination=record.get("destination"),
        output=json.loads(output) if output else None,
    )


def _read_webhook(record: PredictionHash) -> Webhook | None:
    url, events = record.get("webhook"), record.get("webhook_events") or ""
    return Webhook(url, tuple(WebhookEvent(event) for event in events.split(","))) if url else None
