"""Webhook deliveries as they stand in the store, with every attempt at them, and the commands that change them.

    pending ──▶ delivered | failed | superseded | disabled
       ▲                          │
       └────────── redeliver ─────┘

One delivery is one webhook-id. An attempt is written down when it begins and again when it ends, so that an attempt
whose process died is on record too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from predictions.errors import DeliveryNotFound
from predictions.record.command import Arguments, Command, pairs, read_time
from predictions.record.schema import DeliveryHash, DeliveryState, Field, Verdict, WebhookEvent
from predictions.webhooks.schedule import ATTEMPT_LOST_SECONDS, SPACING_SECONDS


@dataclass(frozen=True)
class DeliveryAttempt:
    """One POST to the receiver."""

    number: int
    started_at: datetime
    status: int | None = None
    """The receiver's HTTP status; None where no answer came."""
    error: str | None = None
    """Why no answer came. Without a status and an error, the attempt is running or its process died."""
    seconds: float | None = None
    """How long the answer took."""


@dataclass(frozen=True)
class Delivery:
    """One webhook of a prediction, and every attempt at it."""

    id: str
    """The webhook-id."""
    prediction_id: str
    event: WebhookEvent
    state: DeliveryState
    created_at: datetime
    next_attempt_at: datetime | None
    """When the next attempt falls due; None where none will be made."""
    attempts: tuple[DeliveryAttempt, ...] = ()


@dataclass(frozen=True)
class DueDelivery:
    """A webhook whose next attempt is due, and the lane in which it waits."""

    id: str
    """The webhook-id."""
    owner: str
    """Of the prediction."""
    host: str
    """The receiver's host and port."""


@dataclass(frozen=True)
class StartedAttempt:
    """An attempt that its caller now has to make."""

    delivery_id: str
    number: int
    tries: int
    """Attempts of the present schedule, this one included; a redelivery begins a new schedule."""
    prediction_id: str
    event: WebhookEvent


def due(
    *,
    owners: Sequence[str] = (),
    hosts: Sequence[str] = (),
    lanes: Sequence[tuple[str, str]] = (),
    each_lane: int = 100,
    limit: int = 100,
) -> Command[list[DueDelivery]]:
    """Webhooks whose next attempt is due: owners in the order of what has been due longest, and so their hosts.

    `owners`, `hosts` and `lanes` (owner and host) are passed over. At most `each_lane` of one lane are returned.
    """
    arguments: Arguments = {
        "owners": owners,
        "hosts": hosts,
        "lanes": [part for lane in lanes for part in lane],
        "each_lane": each_lane,
        "limit": limit,
    }
    return Command("webhooks/due", arguments, lambda answer: [DueDelivery(*item) for item in answer])


def begin(due: DueDelivery, token: str) -> Command[StartedAttempt | None]:
    """Write down that an attempt begins; None where none is due. `token`: random text, new for each attempt."""

    def read(answer: Any) -> StartedAttempt | None:
        if not answer:
            return None
        number, tries, prediction_id, event = answer
        return StartedAttempt(due.id, number, tries, prediction_id, WebhookEvent(event))

    arguments: Arguments = {
        "webhook_id": due.id,
        "owner": due.owner,
        "host": due.host,
        "token": token,
        "lost_seconds": ATTEMPT_LOST_SECONDS,
        "spacing_seconds": SPACING_SECONDS,
    }
    return Command("webhooks/begin_delivery", arguments, read)


def end(
    attempt: StartedAttempt,
    verdict: Verdict,
    *,
    status: int | None,
    error: str | None,
    seconds: float,
    retry_in_seconds: float = 0.0,
) -> Command[bool]:
    """Write down how the attempt ended; false where the prediction has been deleted."""
    outcome = json.dumps({"status": status, "error": error, "seconds": round(seconds, 3)})
    arguments: Arguments = {
        "webhook_id": attempt.delivery_id,
        "attempt": attempt.number,
        "outcome": outcome,
        "verdict": verdict,
        "retry_in_seconds": retry_in_seconds,
    }
    return Command("webhooks/end_delivery", arguments, bool)


def of(prediction_id: str) -> Command[list[Delivery]]:
    """A prediction's deliveries, oldest first."""
    return Command("webhooks/list", {"id": prediction_id}, lambda answer: [_read(flat) for flat in answer])


def redeliver(prediction_id: str, delivery_id: str) -> Command[Delivery]:
    """Send a webhook again, at once and with all its retries; raises DeliveryNotFound."""

    def read(answer: Any) -> Delivery:
        if not answer:
            raise DeliveryNotFound(delivery_id)
        return _read(answer)

    return Command("webhooks/redeliver", {"id": prediction_id, "webhook_id": delivery_id}, read)


def _read(flat: list[str]) -> Delivery:
    fields = dict(pairs(flat))
    record = cast(DeliveryHash, fields)
    state = DeliveryState(record["state"])
    return Delivery(
        id=record["id"],
        prediction_id=record["prediction"],
        event=WebhookEvent(record["event"]),
        state=state,
        created_at=read_time(record["created_at"]),
        next_attempt_at=read_time(record["due"]) if state is DeliveryState.PENDING else None,
        attempts=tuple(_read_attempt(fields, number) for number in range(1, int(record["attempts"]) + 1)),
    )


def _read_attempt(fields: Mapping[str, str], number: int) -> DeliveryAttempt:
    started_at = read_time(fields[Field.attempt_started(number)])
    return DeliveryAttempt(number, started_at, **json.loads(fields.get(Field.attempt_outcome(number), "{}")))
