"""Deliver webhooks: one signed attempt, written down with what follows from it."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from predictions.errors import PredictionNotFound, StorageError
from predictions.record import commands
from predictions.record.prediction import Prediction, now
from predictions.record.schema import Verdict
from predictions.record.store import PredictionStore
from predictions.representation import represent
from predictions.settings import Settings
from predictions.storage.protocol import AudioStorage
from predictions.webhooks import body, deliveries, schedule, signing
from predictions.webhooks.deliveries import Begun
from worker.network import outbound

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """What a receiver answered, or why it did not."""

    status: int | None = None
    retry_after: str | None = None
    error: str | None = None


class Courier:
    """Delivers webhooks; needs no model."""

    def __init__(self, store: PredictionStore, storage: AudioStorage, settings: Settings) -> None:
        self._store = store
        self._storage = storage
        self._settings = settings
        self._keys = signing.signing_keys(settings)

    def deliver(self, delivery_id: str) -> None:
        """Make one attempt at the delivery, unless none is due."""
        begun = self._store.run(deliveries.begin(delivery_id))
        if begun is None:
            return
        try:
            # Read after the attempt has begun: what is written later owes a webhook of its own.
            prediction = self._store.run(commands.get(begun.prediction_id))
        except PredictionNotFound:
            return
        started = time.monotonic()
        answer = self._post(prediction, begun)
        self._settle(begun, answer, time.monotonic() - started)

    def _post(self, prediction: Prediction, begun: Begun) -> Answer:
        assert prediction.webhook is not None
        try:
            content = represent(body.prediction_at(begun.event, prediction), self._storage).model_dump_json().encode()
            status, headers = outbound.post(
                prediction.webhook.url,
                content,
                signing.signed_headers(self._keys, begun.delivery_id, now(), content),
                timeout_seconds=schedule.TIMEOUT_SECONDS,
                allowed_networks=self._settings.outbound_allow,
            )
        except (outbound.DownloadError, StorageError) as error:
            return Answer(error=str(error))
        return Answer(status, headers.get("retry-after"))

    def _settle(self, begun: Begun, answer: Answer, seconds: float) -> None:
        verdict, delay = _verdict(answer, begun.tries)
        self._store.run(
            deliveries.end(
                begun, verdict, status=answer.status, error=answer.error, seconds=seconds, retry_in_seconds=delay
            )
        )
        again = f" in {delay:.0f} s" if verdict is Verdict.RETRY else ""
        outcome = answer.error or f"status {answer.status}"
        logger.info("Webhook %s, attempt %d: %s: %s%s", begun.delivery_id, begun.number, outcome, verdict, again)


def _verdict(answer: Answer, tries: int) -> tuple[Verdict, float]:
    """What follows from the answer to the last of so many tries, and for a retry the seconds until then."""
    if answer.status == 410:
        return Verdict.GONE, 0.0
    if answer.status is not None and schedule.is_delivered(answer.status):
        return Verdict.DELIVERED, 0.0
    delay = schedule.retry_delay(tries, answer.retry_after)
    return (Verdict.FAILED, 0.0) if delay is None else (Verdict.RETRY, delay)
