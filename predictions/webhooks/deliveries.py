"""Webhook deliveries as they stand in the store, with every attempt at them, and the commands that change them.

    pending ──▶ delivered | failed | superseded | disabled
       └─ every other state, sent again by hand ─▶ pending

One delivery is one webhook-id. An attempt is written down when it begins and again when it ends, so that one whose
process died is seen as well.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from predictions.errors import DeliveryNotFound
from predictions.record.command import Command, pairs, read_time
from predictions.record.schema import DeliveryState, Verdict, WebhookEvent

ATTEMPT_LOST_SECONDS = 30.0
"""An attempt that has not ended by then never will: its process is gone. More than an attempt may take."""

SPACING_SECONDS = 0.5
"""Between two attempts at webhooks of one prediction that tell of its output, or of its logs."""


@dataclass(frozen=True)
class Attempt:
    """One POST to the receiver."""

    number: int
    started_at: datetime
    status: int | None = None
    """The receiver's answer; none where none came."""
    error: str | None = None
    """Why none came; with no status either, the attempt runs or its process died."""
    seconds: float | None = None


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
    """When the next attempt falls due; none where none will be made."""
    attempts: tuple[Attempt, ...] = ()


@dataclass(frozen=True)
class Begun:
    """An attempt that its caller now has to make."""

    delivery_id: str
    number: int
    tries: int
    """Attempts of the present schedule, this one included; sending again by hand begins a new one."""
    prediction_id: str
    event: WebhookEvent


def due(limit: int = 1000) -> Command[int]:
    """Enqueue the webhooks whose next attempt is due, unless as many as `limit` messages wait already."""
    return Command("webhooks/due", {"limit": limit}, int)


def begin(delivery_id: str) -> Command[Begun | None]:
    """Write down that an attempt begins; None where none is due."""

    def read(answer: Any) -> Begun | None:
        if not answer:
            return None
        number, tries, prediction_id, event = answer
        return Begun(delivery_id, number, tries, prediction_id, WebhookEvent(event))

    return Command(
        "webhooks/begin",
        {"id": delivery_id, "lost_seconds": ATTEMPT_LOST_SECONDS, "spacing_seconds": SPACING_SECONDS},
        read,
    )


def end(
    begun: Begun,
    verdict: Verdict,
    *,
    status: int | None,
    error: str | None,
    seconds: float,
    retry_in_seconds: float = 0.0,
) -> Command[bool]:
    """Write down how the attempt ended; false where the prediction has been deleted."""
    outcome = json.dumps({"status": status, "error": error, "seconds": round(seconds, 3)})
    return Command(
        "webhooks/end",
        {
            "id": begun.delivery_id,
            "number": begun.number,
            "outcome": outcome,
            "verdict": verdict,
            "retry_in_seconds": retry_in_seconds,
        },
        bool,
    )


def of(prediction_id: str) -> Command[list[Delivery]]:
    """A prediction's deliveries, oldest first."""
    return Command("webhooks/list", {"id": prediction_id}, lambda answer: [_read(flat) for flat in answer])


def redeliver(prediction_id: str, delivery_id: str) -> Command[Delivery]:
    """Send a webhook again, at once and with all its retries; raises DeliveryNotFound."""

    def read(answer: Any) -> Delivery:
        if not answer:
            raise DeliveryNotFound(delivery_id)
        return _read(answer)

    return Command("webhooks/redeliver", {"id": prediction_id, "delivery": delivery_id}, read)


def _read(flat: list[str]) -> Delivery:
    record = dict(pairs(flat))
    state = DeliveryState(record["state"])
    attempts = [
        Attempt(number, read_time(record[f"started:{number}"]), **json.loads(record.get(f"outcome:{number}", "{}")))
        for number in range(1, int(record["attempts"]) + 1)
    ]
    return Delivery(
        id=record["id"],
        prediction_id=record["prediction"],
        event=WebhookEvent(record["event"]),
        state=state,
        created_at=read_time(record["created_at"]),
        next_attempt_at=read_time(record["due"]) if state is DeliveryState.PENDING else None,
        attempts=tuple(attempts),
    )
