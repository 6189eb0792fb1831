"""Send webhooks: signed attempts, each recorded with its outcome.

A receiver that does not answer keeps its attempts waiting. So each owner and each host has its share of the attempts
that are made at once, and what is due beyond that is passed over until a place is free.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from predictions.errors import PredictionNotFound, StorageError
from predictions.observability import life
from predictions.record import commands
from predictions.record.prediction import Prediction, new_id, now
from predictions.record.schema import Kind, Verdict
from predictions.record.store import PredictionStore
from predictions.representation import PredictionBody, represent
from predictions.settings import Settings
from predictions.storage.protocol import AudioStorage
from predictions.trainings.representation import TrainingBody
from predictions.trainings.representation import represent as represent_training
from predictions.webhooks import body, deliveries, schedule, secrets, signing
from predictions.webhooks.deliveries import DueDelivery, StartedAttempt
from worker.network import outbound
from worker.shares import Places, Shares

PLACES = Places(total=32, each_owner=8, each_host=16, each_lane=4)
"""Attempts at once: most of the time each waits for its receiver."""
TAKE_PATIENCE_SECONDS = 1.0
"""Short, for whoever takes tries again anyway, and must notice when the process is to end."""


@dataclass(frozen=True)
class Response:
    """The receiver's response to one attempt, or the reason why there is none."""

    status: int | None = None
    """None where the receiver could not be reached."""
    retry_after: str | None = None
    """The response's Retry-After header."""
    error: str | None = None
    """Why there is no response."""
    seconds: float = 0.0
    """How long the attempt took."""


class WebhookSender:
    """Sends the webhooks of predictions and trainings. Needs no model and no torch."""

    def __init__(self, store: PredictionStore, storage: AudioStorage, settings: Settings) -> None:
        self._store = store
        self._storage = storage
        self._settings = settings
        self._keys = signing.SigningKeys(settings)
        self._shares = Shares(PLACES)
        self._due: deque[DueDelivery] = deque()
        """Deliveries that were due when they were last read, and for which there were places then."""
        self._next_token = new_id()

    def take(self) -> Callable[[], None] | None:
        """Begin an attempt at the next delivery; returns what makes it, or None where none is due or has a place."""
        if not self._due:
            self._read_due()
        while self._due:
            due = self._due[0]
            if self._shares.take(due.owner, due.host):
                attempt = None
                try:
                    attempt = self._begin(due)
                finally:
                    if attempt is None:
                        self._shares.give_back(due.owner, due.host)
                if attempt is not None:
                    return partial(self._make, attempt, due)
            else:
                # Read again once there is a place for it.
                self._due.popleft()
        return None

    def _read_due(self) -> None:
        busy = self._shares.busy()
        command = deliveries.due(owners=busy.owners, hosts=busy.hosts, lanes=busy.lanes, each_lane=PLACES.each_lane)
        due = self._store.run(command, patience=TAKE_PATIENCE_SECONDS)
        self._due.extend(due)

    def _begin(self, due: DueDelivery) -> StartedAttempt | None:
        # With the same token until there is an answer: should it be lost, the next call gets what was begun.
        attempt = self._store.run(deliveries.begin(due, self._next_token), patience=TAKE_PATIENCE_SECONDS)
        self._next_token = new_id()
        self._due.popleft()
        return attempt

    def _make(self, attempt: StartedAttempt, due: DueDelivery) -> None:
        try:
            self._send(attempt)
        finally:
            self._shares.give_back(due.owner, due.host)

    def _send(self, attempt: StartedAttempt) -> None:
        """Make the attempt, and record its outcome."""
        try:
            # Read only now: a change made after this attempt began gets a webhook of its own.
            prediction = self._store.run(commands.get(attempt.prediction_id))
        except PredictionNotFound:
            return
        keys = self._keys.of(prediction.owner, self._store.run(secrets.secret_state(prediction.owner)))
        with life.webhook_attempt_at(prediction, attempt.delivery_id, attempt.number):
            self._record(attempt, self._post(prediction, attempt, keys))

    def _post(self, prediction: Prediction, attempt: StartedAttempt, keys: Sequence[str]) -> Response:
        assert prediction.webhook is not None
        started = time.monotonic()
        try:
            content = self._body(body.prediction_at(attempt.event, prediction)).model_dump_json().encode()
            status, headers = outbound.post(
                prediction.webhook.url,
                content,
                {**signing.signed_headers(keys, attempt.delivery_id, now(), content), **life.trace_headers()},
                timeout_seconds=schedule.TIMEOUT_SECONDS,
                allowed_networks=self._settings.outbound_allow,
            )
        except (outbound.RequestError, StorageError) as error:
            return Response(error=str(error), seconds=time.monotonic() - started)
        return Response(status, headers.get("retry-after"), seconds=time.monotonic() - started)

    def _body(self, prediction: Prediction) -> PredictionBody | TrainingBody:
        if prediction.kind is Kind.TRAINING:
            return represent_training(prediction, self._storage)
        return represent(prediction, self._storage)

    def _record(self, attempt: StartedAttempt, response: Response) -> None:
        verdict, delay = _verdict(response, attempt.tries)
        self._store.run(
            deliveries.end(
                attempt,
                verdict,
                status=response.status,
                error=response.error,
                seconds=response.seconds,
                retry_in_seconds=delay,
            )
        )
        life.webhook_attempted(
            attempt.prediction_id,
            attempt.delivery_id,
            attempt.number,
            verdict,
            seconds=response.seconds,
            status=response.status,
            error=response.error,
        )


def _verdict(response: Response, tries: int) -> tuple[Verdict, float]:
    """What follows from the response to the last of `tries` attempts; for a retry, also the seconds until it."""
    if response.status == 410:
        return Verdict.GONE, 0.0
    if response.status is not None and schedule.is_delivered(response.status):
        return Verdict.DELIVERED, 0.0
    delay = schedule.retry_delay(tries, response.retry_after)
    return (Verdict.FAILED, 0.0) if delay is None else (Verdict.RETRY, delay)
