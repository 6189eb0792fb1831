"""The periodic work of every worker process: announcement, throughput, lost predictions, due webhooks, retention.

None of it waits for a message. Each step is a single script in Redis, or safe to repeat, so that several workers may do
it at once.
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

PERIOD_SECONDS = 1.0
ANNOUNCEMENT_SECONDS = 10.0
"""How long an announcement holds; it is renewed in every period."""
MAX_DELETION_PERIOD_SECONDS = 30.0
"""The longest time between two deletions of what has expired."""


class Housekeeper:
    """A thread that does the periodic work until it is closed.

    `card`: of the model that `worker` generates with, announced for `queue`; None where it delivers webhooks.
    `measure`: called in every period; returns the command that records the model's throughput, or None for nothing new.
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
        self._measure = measure
        self._closed = threading.Event()
        self._next_deletion = 0.0
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        """Start the thread, which announces the worker at once."""
        self._thread.start()

    def close(self) -> None:
        """Stop, and withdraw this worker's announcement."""
        self._closed.set()
        self._thread.join()
        if self._card is not None:
            try:
                self._store.run(announcements.withdraw(self._worker, queue=self._queue))
            except StoreUnavailable:
                logger.warning("The worker's announcement could not be withdrawn; it expires by itself")

    def _run(self) -> None:
        while not self._closed.is_set():
            for step in (
                self._announce,
                self._record_throughput,
                self._recover_lost_predictions,
                self._enqueue_due_webhooks,
                self._delete_expired,
            ):
                self._try(step)
            self._closed.wait(PERIOD_SECONDS)

    def _try(self, step: Callable[[], None]) -> None:
        try:
            step()
        except (StoreUnavailable, StorageError) as error:
            logger.warning("Housekeeping (%s) failed and is tried again: %s", step.__name__.strip("_"), error)
        except Exception:
            logger.exception("Housekeeping (%s) failed", step.__name__.strip("_"))

    def _announce(self) -> None:
        if self._card is not None:
            self._store.run(announcements.announce(self._worker, self._card, ANNOUNCEMENT_SECONDS, queue=self._queue))

    def _record_throughput(self) -> None:
        if self._measure is not None and (measurement := self._measure()) is not None:
            self._store.run(measurement)

    def _recover_lost_predictions(self) -> None:
        """Requeue, or fail, the predictions whose worker or message was lost."""
        reaped = self._store.run(commands.reap(self._settings.max_attempts, self._settings.requeue_after_seconds))
        if reaped != commands.Reaped(0, 0, 0):
            logger.warning("Predictions whose worker or message was lost: %s", reaped)

    def _enqueue_due_webhooks(self) -> None:
        self._store.run(deliveries.due())

    def _delete_expired(self) -> None:
        """Delete what has been kept long enough: objects first, so that a failure leaves the record to try again."""
        if time.monotonic() < self._next_deletion:
            return
        kept_seconds = self._settings.retention_hours * 3600
        self._next_deletion = time.monotonic() + min(kept_seconds / 10, MAX_DELETION_PERIOD_SECONDS)
        predictions, files = self._store.run(commands.expired(kept_seconds))
        for prediction_id in predictions:
            self._storage.delete_prefix(output_prefix(prediction_id))
            self._store.run(commands.delete(prediction_id))
        for file_id in files:
            self._storage.delete_prefix(file_prefix(file_id))
            self._store.run(file_commands.delete_file(file_id))
