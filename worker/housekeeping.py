"""The periodic work of every worker process: announcement, throughput, deadlines, lost predictions, deletions.

None of it waits for a message. Each step is a single script in Redis, or safe to repeat, so that several workers may do
it at once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

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
from worker.leftovers import delete_leftovers

logger = logging.getLogger(__name__)

PERIOD_SECONDS = 1.0
ANNOUNCEMENT_SECONDS = 10.0
"""How long an announcement holds; it is renewed in every period."""
MAX_DELETION_PERIOD_SECONDS = 30.0
"""The longest time between two deletions of what has expired."""
OVERDUE_AT_ONCE = 100
"""How many overdue predictions one command cancels; it holds up Redis meanwhile."""
SWEEP_SECONDS = 3600.0
"""The time between two searches for objects that belong to nobody."""
LEFTOVER_SECONDS = 3600.0
"""Such an object is deleted at this age: whoever stored it has written that down by then, or never will."""


class Housekeeper:
    """Threads that do the periodic work until it is closed.

    `card`: of the model that `worker` generates with, announced for `queue`; None where it delivers webhooks.
    `measure`: called in every period; returns the command that records the model's throughput, or None for nothing new.
    `hear_of_hints`: told in every period how many messages wait in the queue.
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
        hear_of_hints: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._storage = storage
        self._settings = settings
        self._worker = worker
        self._queue = queue
        self._card = card
        self._measure = measure
        self._hear_of_hints = hear_of_hints
        self._closed = threading.Event()
        self._failing: set[str] = set()
        """The steps that failed the last time."""
        self._next_deletion = 0.0
        # Not at once: a service that starts anew every minute should not list its whole storage every time.
        self._next_sweep = time.monotonic() + SWEEP_SECONDS
        # Deletions take as long as the storage does; the announcement must not wait for them.
        self._threads = [
            threading.Thread(target=self._repeat, args=(steps,), name=name, daemon=True)
            for name, steps in (
                (
                    "housekeeping",
                    (
                        self._announce,
                        self._record_throughput,
                        self._count_hints,
                        self._cancel_overdue,
                        self._recover_lost,
                    ),
                ),
                ("deletions", (self._delete_expired, self._delete_leftovers)),
            )
        ]

    def start(self) -> None:
        """Start the threads, which announce the worker at once."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop, and withdraw this worker's announcement."""
        self._closed.set()
        for thread in self._threads:
            thread.join()
        try:
            self._store.run(announcements.withdraw(self._worker, queue=self._queue), patience=0.0)
        except StoreUnavailable:
            logger.warning("The worker's announcement could not be withdrawn; it expires by itself")

    @property
    def is_stuck(self) -> bool:
        """Whether one of its threads has died."""
        return not all(thread.is_alive() for thread in self._threads)

    def _repeat(self, steps: Sequence[Callable[[], None]]) -> None:
        while not self._closed.is_set():
            for step in steps:
                self._try(step)
            self._closed.wait(PERIOD_SECONDS)

    def _try(self, step: Callable[[], None]) -> None:
        name = step.__name__.strip("_")
        try:
            step()
        except (StoreUnavailable, StorageError) as error:
            # Once, and not every second for as long as Redis is away.
            level = logging.DEBUG if name in self._failing else logging.WARNING
            logger.log(level, "Housekeeping (%s) failed and is tried again: %s", name, error)
            self._failing.add(name)
        except Exception:
            logger.exception("Housekeeping (%s) failed", name)
        else:
            self._failing.discard(name)

    def _announce(self) -> None:
        command = announcements.announce(self._worker, self._card, ANNOUNCEMENT_SECONDS, queue=self._queue)
        self._store.run(command, patience=0.0)

    def _record_throughput(self) -> None:
        if self._measure is not None and (measurement := self._measure()) is not None:
            self._store.run(measurement, patience=0.0)

    def _count_hints(self) -> None:
        self._hear_of_hints(self._store.run(commands.hints(self._queue), patience=0.0))

    def _cancel_overdue(self) -> None:
        """Cancel the predictions that are past their deadline."""
        while self._store.run(commands.cancel_overdue(OVERDUE_AT_ONCE), patience=0.0) == OVERDUE_AT_ONCE:
            pass

    def _recover_lost(self) -> None:
        """Requeue, or fail, the predictions whose worker was lost."""
        reaped = self._store.run(commands.reap(self._settings.max_attempts), patience=0.0)
        if reaped != commands.Reaped(0, 0):
            logger.warning("Predictions whose worker was lost: %s", reaped)

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

    def _delete_leftovers(self) -> None:
        if time.monotonic() < self._next_sweep:
            return
        self._next_sweep = time.monotonic() + SWEEP_SECONDS
        if deleted := delete_leftovers(self._store, self._storage, LEFTOVER_SECONDS):
            logger.warning("Objects that belonged to nobody and are deleted: %d", deleted)
