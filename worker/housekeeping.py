"""What has to happen whether or not a message arrives: sign of life, reaping, retries of webhooks, retention.

Every worker process does it; each step is one script in Redis, so that several at once do no harm.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from predictions.errors import StorageError, StoreUnavailable
from predictions.files import commands as file_commands
from predictions.files.record import file_prefix
from predictions.models import announcements
from predictions.models.card import Announcement
from predictions.record import commands
from predictions.record.command import Command
from predictions.record.prediction import output_prefix
from predictions.record.store import PredictionStore
from predictions.settings import Settings
from predictions.storage.protocol import AudioStorage
from predictions.webhooks import deliveries

logger = logging.getLogger(__name__)

TICK_SECONDS = 1.0
ALIVE_SECONDS = 10.0
MAX_RETENTION_PERIOD_SECONDS = 30.0


class Housekeeper:
    """A thread that keeps house; with a `card`, it announces that `worker` takes from `queue` and generates with it.

    `measure`: asked each time for a measurement to write down, if there is one.
    """

    def __init__(
        self,
        store: PredictionStore,
        storage: AudioStorage,
        settings: Settings,
        *,
        worker: str,
        queue: str,
        card: Announcement | None = None,
        measure: Callable[[], Command[bool] | None] | None = None,
    ) -> None:
        self._store = store
        self._storage = storage
        self._settings = settings
        self._worker = worker
        self._queue = queue
        self._card = card
        self._take_measure = measure
        self._closed = threading.Event()
        self._next_retention = 0.0
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        """Begin, with a sign of life at once."""
        self._thread.start()

    def close(self) -> None:
        """Stop, and withdraw this worker's announcement."""
        self._closed.set()
        self._thread.join()
        if self._card is not None:
            try:
                self._store.run(announcements.withdraw(self._worker, queue=self._queue))
            except StoreUnavailable:
                logger.warning("Could not withdraw; the announcement expires by itself")

    def _run(self) -> None:
        while not self._closed.is_set():
            for step in (self._announce, self._measure, self._reap, self._send_webhooks, self._retain):
                self._try(step)
            self._closed.wait(TICK_SECONDS)

    def _try(self, step: Callable[[], None]) -> None:
        try:
            step()
        except (StoreUnavailable, StorageError) as error:
            logger.warning("Housekeeping (%s) failed, trying again: %s", step.__name__, error)
        except Exception:
            logger.exception("Housekeeping (%s) failed", step.__name__)

    def _announce(self) -> None:
        if self._card is not None:
            self._store.run(announcements.announce(self._worker, self._card, ALIVE_SECONDS, queue=self._queue))

    def _measure(self) -> None:
        if self._take_measure is not None and (measured := self._take_measure()) is not None:
            self._store.run(measured)

    def _reap(self) -> None:
        reaped = self._store.run(commands.reap(self._settings.max_attempts, self._settings.requeue_after_seconds))
        if reaped != commands.Reaped(0, 0, 0):
            logger.warning("Brought back what nobody worked on: %s", reaped)

    def _send_webhooks(self) -> None:
        self._store.run(deliveries.due())

    def _retain(self) -> None:
        """Delete what has been kept long enough; objects first, so that a failure leaves the record to try again."""
        if time.monotonic() < self._next_retention:
            return
        kept_seconds = self._settings.retention_hours * 3600
        self._next_retention = time.monotonic() + min(kept_seconds / 10, MAX_RETENTION_PERIOD_SECONDS)
        predictions, files = self._store.run(commands.expired(kept_seconds))
        for prediction_id in predictions:
            self._storage.delete_prefix(output_prefix(prediction_id))
            self._store.run(commands.delete(prediction_id))
        for file_id in files:
            self._storage.delete_prefix(file_prefix(file_id))
            self._store.run(file_commands.delete_file(file_id))
