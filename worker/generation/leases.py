"""The leases of the predictions that this process works on.

One thread renews them all, writes down progress and logs, and stops the work whose lease is lost: cancelled, deleted,
or given to another worker after this one was thought dead.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from redis.client import PubSub
from redis.exceptions import RedisError

from predictions.errors import LeaseLost, StoreUnavailable
from predictions.observability import life
from predictions.record import commands
from predictions.record.prediction import Prediction, Progress, new_id
from predictions.record.schema import Channel, Status
from predictions.record.store import PredictionStore

logger = logging.getLogger(__name__)

TICK_SECONDS = 0.25
TAKE_PATIENCE_SECONDS = 1.0
"""Short, for whoever takes tries again anyway, and must notice when the process is to end."""


@dataclass(frozen=True)
class Reached:
    """What an attempt has reached: how far its generation is, and what its log says."""

    progress: Progress | None = None
    logs: str = ""


@dataclass
class Lease:
    """The right to work on one prediction."""

    prediction: Prediction
    """As it was taken."""
    _lost: threading.Event = field(default_factory=threading.Event)
    _on_lost: Callable[[], object] = lambda: None
    _report: Callable[[], Reached] = Reached
    _written: Reached = Reached()
    _renewed_at: float = field(default_factory=time.monotonic)

    @property
    def prediction_id(self) -> str:
        """The prediction's id."""
        return self.prediction.id

    @property
    def token(self) -> str:
        """The fencing token."""
        return self.prediction.lease_token

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

    def when_lost(self, action: Callable[[], object]) -> None:
        """Call `action` as soon as the lease is lost; if it is lost already, at once, and raise LeaseLost."""
        self._on_lost = action
        if self._lost.is_set():
            action()
            raise LeaseLost(self.prediction_id)

    @contextmanager
    def stopping(self, stop: Callable[[], object]) -> Iterator[None]:
        """Call `stop` as soon as the lease is lost inside the block, which then ends with LeaseLost in any case."""
        self.when_lost(stop)
        try:
            yield
        finally:
            self.when_lost(lambda: None)

    def pause(self, seconds: float) -> None:
        """Wait so long. Raises LeaseLost as soon as the lease is lost."""
        self._lost.wait(seconds)
        self.check()

    def lose(self, reason: str | None = None) -> None:
        """Mark the lease as lost, and stop the work; `reason`: that of `life.lease_lost`, None where it is given up."""
        if reason is not None and not self._lost.is_set():
            life.lease_lost(self.prediction, reason)
        self._lost.set()
        self._on_lost()

    def renew(self, store: PredictionStore, lease_seconds: float, *, at_once: bool) -> None:
        """Renew it where that is due, or `at_once`, and write down what is new.

        It is lost where the prediction has ended or somebody else has taken it. Raises StoreUnavailable.
        """
        reached = self.reached()
        is_due = at_once or time.monotonic() - self._renewed_at > lease_seconds / 3
        if reached == self._written and not is_due:
            return
        logs = reached.logs if reached.logs != self._written.logs else None
        command = commands.renew(self.prediction_id, self.token, lease_seconds, progress=reached.progress, logs=logs)
        if not store.run(command, patience=0.0):
            self.lose("refused")
        self._written, self._renewed_at = reached, time.monotonic()


class LeaseKeeper:
    """Takes predictions of one queue, and renews their leases. Start it, and close it at the end."""

    def __init__(self, store: PredictionStore, queue: str, lease_seconds: float) -> None:
        self._store = store
        self._queue = queue
        self._lease_seconds = lease_seconds
        self._held: dict[str, Lease] = {}
        """By token: an id may have been deleted and used again while the work on its first prediction goes on."""
        self._next_token = new_id()
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

    @property
    def is_stuck(self) -> bool:
        """Whether its thread has died."""
        return not self._thread.is_alive()

    def take(self, *, no_audio: bool = False, no_audio_of: Sequence[str] = ()) -> Lease | None:
        """Take the next prediction and keep its lease until it is released; None where there is none to take now.

        `no_audio`: one without input audio; `no_audio_of`: one without, where it is of these owners.
        """
        with self._lock:
            held = {token: lease.prediction_id for token, lease in self._held.items()}
        command = commands.take(
            self._queue, self._next_token, self._lease_seconds, held, no_audio=no_audio, no_audio_of=no_audio_of
        )
        began = time.monotonic()
        # With the same token until there is an answer: should it be lost, the next call gets what was taken.
        prediction = self._store.run(command, patience=TAKE_PATIENCE_SECONDS)
        self._next_token = new_id()
        if prediction is None:
            return None
        lease = Lease(prediction)
        with self._lock:
            self._held[lease.token] = lease
        life.taken(prediction, time.monotonic() - began)
        return lease

    def release(self, lease: Lease) -> None:
        """Renew the lease no more: its work has ended."""
        with self._lock:
            del self._held[lease.token]
        life.released(lease.prediction)

    def _run(self) -> None:
        is_broken = False
        while not self._closed.is_set():
            try:
                with self._store.subscription() as pubsub:
                    pubsub.subscribe(Channel.ENDED)
                    # What was cancelled while nobody listened is seen by its refusal.
                    self._renew_all(at_once=True)
                    is_broken = False
                    while not self._closed.is_set():
                        self._listen(pubsub)
                        self._renew_all()
            except (RedisError, OSError, StoreUnavailable) as error:
                # A lease that runs out meanwhile can be taken up again, unless somebody else has taken the prediction.
                if not is_broken:
                    logger.warning("Leases cannot be renewed, trying again until they can: %s", error)
                is_broken = True
                self._closed.wait(TICK_SECONDS)

    def _listen(self, pubsub: PubSub) -> None:
        """For one tick, hear which predictions are cancelled and stop them."""
        until = time.monotonic() + TICK_SECONDS
        while (left := until - time.monotonic()) > 0:
            message = pubsub.get_message(timeout=left)
            if message is None:
                continue
            status, _, prediction_id = message["data"].partition(" ")
            if status == Status.CANCELED:
                for lease in self._leases():
                    if lease.prediction_id == prediction_id:
                        lease.lose("canceled")

    def _renew_all(self, *, at_once: bool = False) -> None:
        for lease in self._leases():
            lease.renew(self._store, self._lease_seconds, at_once=at_once)

    def _leases(self) -> list[Lease]:
        with self._lock:
            return list(self._held.values())
