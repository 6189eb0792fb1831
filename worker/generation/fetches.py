"""The predictions of this process whose input audio is being fetched, apart from those that are generated.

    begun ──▶ waits for its host ──▶ is fetched ──▶ is ready ──▶ handed over to be generated
                                          └ its prediction has ended: out

None of them occupies a thread that generates. Whoever sends audio from a server that drips keeps only its own share of
the places, and what is ready keeps its place until it is handed over: a worker does not fetch far ahead of what it can
generate, for another one may be idle.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from typing import Generic, Protocol, TypeVar

from predictions.addresses import receiver_of
from predictions.errors import LeaseLost
from worker.generation.leases import Lease

logger = logging.getLogger(__name__)

PLACES = 32
"""Predictions that are fetched, or wait between being taken and being generated."""
PLACES_OF_AN_OWNER = 4
FETCHES_FROM_A_HOST = 16
"""At once, of all owners. More than one owner's places, or it could keep the others from a host that they share."""


class HasLease(Protocol):
    """An attempt, as far as it matters here."""

    @property
    def lease(self) -> Lease:
        """The lease on its prediction."""


Attempt = TypeVar("Attempt", bound=HasLease)


class _State(Enum):
    WAITS = auto()
    RUNS = auto()
    READY = auto()


@dataclass(eq=False)
class _Fetch(Generic[Attempt]):
    attempt: Attempt
    host: str
    """The host and port that the audio comes from; empty where it is the service's own storage."""
    state: _State = _State.WAITS


class Fetches(Generic[Attempt]):
    """Has input audio fetched by threads of its own, within the limits above."""

    def __init__(
        self,
        fetch: Callable[[Attempt], bool],
        release: Callable[[Attempt], None],
        when_changed: Callable[[], None],
    ) -> None:
        """`fetch`: fetches an attempt's audio; false where the attempt has ended. `release`: gives an ended one up.

        `when_changed`: called when an attempt is ready or a place is free.
        """
        self._fetch = fetch
        self._release = release
        self._when_changed = when_changed
        self._pool = ThreadPoolExecutor(PLACES, "fetch")
        self._lock = threading.Lock()
        self._held: list[_Fetch[Attempt]] = []
        """In the order in which they were begun."""
        self.is_closed = False

    @property
    def is_full(self) -> bool:
        """Whether there is no place for anybody."""
        with self._lock:
            return len(self._held) >= PLACES

    def full_owners(self) -> list[str]:
        """The owners for whom there is no place."""
        with self._lock:
            counts = Counter(fetch.attempt.lease.prediction.owner for fetch in self._held)
        return [owner for owner, count in counts.items() if count >= PLACES_OF_AN_OWNER]

    def begin(self, attempt: Attempt) -> None:
        """Have its audio fetched, as soon as its host's share allows; give it up where this is closed."""
        prediction = attempt.lease.prediction
        host = "" if prediction.input_file is not None else receiver_of(prediction.input["input_audio"])
        fetch = _Fetch(attempt, host)
        with self._lock:
            self._held.append(fetch)
            is_closed = self.is_closed
        if is_closed:
            attempt.lease.lose()
        self._let_go_when_lost(fetch)
        self._start_waiting()

    def next_ready(self) -> Attempt | None:
        """Hand over the attempt that has been ready longest; None where there is none."""
        with self._lock:
            for fetch in self._held:
                if fetch.state is _State.READY:
                    self._held.remove(fetch)
                    return fetch.attempt
        return None

    def close(self) -> None:
        """Stop all fetches and give up what is held."""
        with self._lock:
            self.is_closed = True
            held = list(self._held)
        for fetch in held:
            fetch.attempt.lease.lose()
        self._pool.shutdown()

    def _start_waiting(self) -> None:
        """Start every fetch whose host has a place."""
        with self._lock:
            if self.is_closed:
                return
            from_hosts = Counter(fetch.host for fetch in self._held if fetch.state is _State.RUNS)
            for fetch in self._held:
                if fetch.state is _State.WAITS and (not fetch.host or from_hosts[fetch.host] < FETCHES_FROM_A_HOST):
                    fetch.state = _State.RUNS
                    from_hosts[fetch.host] += 1
                    self._pool.submit(self._run, fetch)

    def _run(self, fetch: _Fetch[Attempt]) -> None:
        is_fetched = False
        try:
            is_fetched = self._fetch(fetch.attempt)
        except Exception:
            logger.exception("Fetching input audio failed in a way that nobody foresaw")
        if is_fetched:
            with self._lock:
                fetch.state = _State.READY
            self._let_go_when_lost(fetch)
        else:
            self._remove(fetch)
            self._release(fetch.attempt)
        self._start_waiting()
        self._when_changed()

    def _let_go_when_lost(self, fetch: _Fetch[Attempt]) -> None:
        """Let it go as soon as its lease is lost, while it waits or is ready."""

        def let_go() -> None:
            with self._lock:
                if fetch not in self._held or fetch.state is _State.RUNS:
                    return
                self._held.remove(fetch)
            self._release(fetch.attempt)
            self._when_changed()

        with suppress(LeaseLost):  # where it is lost already, it has been let go
            fetch.attempt.lease.when_lost(let_go)

    def _remove(self, fetch: _Fetch[Attempt]) -> None:
        with self._lock:
            self._held.remove(fetch)
