"""Deliver webhooks: one signed attempt, and the time of the next one written down."""

from __future__ import annotations

import logging

from predictions import commands, webhook
from predictions.errors import PredictionNotFound
from predictions.prediction import Prediction, WebhookEvent, now
from predictions.representation import represent
from predictions.settings import Settings
from predictions.storage import AudioStorage
from predictions.store import PredictionStore
from worker import outbound

logger = logging.getLogger(__name__)


class Courier:
    """Delivers webhooks; needs no model."""

    def __init__(self, store: PredictionStore, storage: AudioStorage, settings: Settings) -> None:
        self._store = store
        self._storage = storage
        self._settings = settings
        self._key = webhook.signing_key(settings.require_secret())

    def deliver(self, delivery: str) -> None:
        """Make one attempt at "{prediction id}:{event}", unless it is not owed any more."""
        prediction_id, _, name = delivery.rpartition(":")
        event = WebhookEvent(name)
        attempts = self._store.run(commands.webhook_attempts(prediction_id, event))
        if attempts is None:
            return
        try:
            prediction = self._store.run(commands.get(prediction_id))
        except PredictionNotFound:
            return
        status, retry_after, outcome = self._attempt(prediction, event)
        delivered = status is not None and webhook.is_delivered(status)
        delay = None if delivered else webhook.retry_delay(attempts + 1, status, retry_after)
        self._store.run(commands.webhook_attempted(prediction_id, event, outcome, delay))
        again = "" if delivered else " given up" if delay is None else f" again in {delay:.0f} s"
        logger.info("Webhook %s of %s: %s%s", event, prediction_id, outcome, again)

    def _attempt(self, prediction: Prediction, event: WebhookEvent) -> tuple[int | None, str | None, str]:
        """Status, Retry-After and a word for the record; the status is None where no answer came."""
        assert prediction.webhook is not None
        body = represent(prediction, self._storage).model_dump_json().encode()
        headers = webhook.signed_headers(self._key, webhook.webhook_id(prediction.id, event), now(), body)
        try:
            status, answer = outbound.post(
                prediction.webhook.url,
                body,
                headers,
                timeout_seconds=webhook.TIMEOUT_SECONDS,
                allowed_networks=self._settings.outbound_allow,
            )
        except outbound.DownloadError as error:
            return None, None, str(error)
        return status, answer.get("retry-after"), f"status {status}"
