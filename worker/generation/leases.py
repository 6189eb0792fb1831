"""The leases of the predictions that this process works on.

One thread renews them all, writes down progress and logs, and stops the work whose lease is lost: cancelled, deleted,
or given to another worker after this one was thought dead.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from redis.client import PubSub
from redis.exceptions import RedisError

from predictions.errors import LeaseLost, StoreUnavailable
from predictions.record import commands
from predictions.record.command import Command
from predictions.record.prediction import Prediction, Progress
from predictions.record.schema import Channel, Status
from predictions.record.store import PredictionStore

logger = logging.getLogger(__name__)

TICK_SECONDS = 0.25


@dataclass(frozen=True)
class Reached:
    """What an attempt has reached: how far its generation is, and what its log says."""

    progress: Progress | None = None
    logs: str = ""


@dataclass
class Lease:
    """The right to work on one prediction."""

    prediction: Prediction
    """As it was claimed; its `attempt` is the fencing token."""
    _lost: threading.Event = field(default_factory=threading.Event)
    _on_lost: Callable[[], None] = lambda: None
    _report: Callable[[], Reached] = Reached
    _written: Reached = Reached()
    _renewed_at: float = field(default_factory=time.monotonic)

    @property
    def prediction_id(self) -> str:
        """The prediction's id."""
        return self.prediction.id

    @property
    def attempt(self) -> int:
        """The fencing token."""
        return self.prediction.attempt

    def follow(self, report: Callable[[], Reached]) -> None:
        """Write down what `report` says from now on; several threads call it."""
        self._report = report

    def reached(self) -> Reached:
        """What has been reached by now."""
        return self._report()

    def check(self) -> None:
        """Raise LeaseLost where the prediction has been cancelled or taken over."""
        if self._lost.is_set():
            raise LeaseLost(self.prediction_id)

    def when_lost(self, action: Callable[[], None]) -> None:
        """Call `action` as soon as the lease is lost; if it is lost already, at once, and raise LeaseLost."""
        self._on_lost = action
        if self._lost.is_set():
            action()
            raise LeaseLost(self.prediction_id)

    def lose(self) -> None:
        """Mark the lease as lost and stop the work."""
        self._lost.set()
        self._on_lost()

    def renewal(self, lease_seconds: float) -> Command[bool] | None:
        """The command that renews the lease; None where nothing is new and it is not yet time."""
        reached = self.reached()
        if reached == self._written and time.monotonic() - self._renewed_at < lease_seconds / 3:
            return None
        logs = reached.logs if reached.logs != self._written.logs else None
        self._written, self._renewed_at = reached, time.monotonic()
        return commands.renew(self.prediction_id, self.attempt, lease_seconds, progress=reached.progress, logs=logs)


class LeaseKeeper:
    """Renews the leases that this process holds. Start it, and close it at the end."""

    def __init__(self, store: PredictionStore, lease_seconds: float) -> None:
        self._store = store
        self._lease_seconds = lease_seconds
        self._held: dict[str, Lease] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)

    def start(self) -> None:
        """Begin to renew."""
        self._thread.start()

    def close(self) -> None:
        """Stop renewing."""
        self._closed.set()
        self._thread.join()

    @contextmanager
    def hold(self, prediction_id: str) -> Iterator[Lease | None]:
        """Claim the prediction and keep its lease inside the block; gives None where there is nothing to do."""
        prediction = self._store.run(commands.claim(prediction_id, self._lease_seconds))
        if prediction is None:
            yield None
            return
        lease = Lease(prediction)
        with self._lock:
            self._held[prediction_id] = lease
        try:
            yield lease
        finally:
            with self._lock:
                self._held.pop(prediction_id, None)

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                with self._store.subscription() as pubsub:
                    pubsub.subscribe(Channel.ENDED)
                    while not self._closed.is_set():
                        self._listen(pubsub)
                        self._renew_all()
            except (RedisError, StoreUnavailable) as error:
                # A lease that expires meanwhile is seen at its next write.
                logger.warning("Leases cannot be renewed, trying again: %s", error)
                self._closed.wait(TICK_SECONDS)

    def _listen(self, pubsub: PubSub) -> None:
        """For one tick, hear which predictions are cancelled and stop them."""
        until = time.monotonic() + TICK_SECONDS
        while (left := until - time.monotonic()) > 0:
            message = pubsub.get_message(timeout=left)
            if message is None:
                continue
            status, _, prediction_id = message["data"].partition(" ")
            if status == Status.CANCELED and (lease := self._held.get(prediction_id)):
                lease.lose()

    def _renew_all(self) -> None:
        with self._lock:
            held = list(self._held.values())
        for lease in held:
            command = lease.renewal(self._lease_seconds)
            if command is not None and not self._store.run(command):
                lease.lose()
