"""The connections of an API process: how many there may be, and for how long one may keep it waiting.

A connection **waits** while nothing is being done for it: its client has not sent the whole headers of a request, or
nothing at all since the last answer. One that waits costs its client nothing and takes a file descriptor here, so where
there are too many, the one that has waited longest is closed for the sake of a new one.
"""

from __future__ import annotations

import asyncio
import ipaddress
import resource
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from predictions.addresses import IPNetwork
from predictions.settings import Settings

RESERVED_DESCRIPTORS = 96
"""For Redis, storage and files that are being read."""
WANTED_DESCRIPTORS = 65_536
MAX_CONNECTIONS = 10_000


@dataclass(frozen=True)
class Patience:
    """For how many seconds a client may keep its connection waiting."""

    header: float = 10.0
    """From the opening of a connection, or the last answer, to the end of a request's headers."""
    body: float = 20.0
    """The time in which MIN_BODY_BYTES of a body must arrive."""
    linger: float = 30.0
    """How long the rest of a refused body is read, so that its client gets to read why."""
    unread: float = 300.0
    """How long a client may read nothing of its answer. A player that is paused reads nothing for a while."""
    sweep: float = 1.0
    """How often it is looked for connections that wait for too long."""


MIN_BODY_BYTES = 20 * 1024


class Guarded(Protocol):
    """What the registry needs of a connection."""

    address: str

    def is_overdue(self, now: float) -> bool:
        """Whether its client has kept it waiting for too long."""

    def close_overdue(self) -> None:
        """Close it, with an answer where that is possible."""


class Connections:
    """The open connections of a process; what opens and closes them tells it."""

    def __init__(
        self,
        most: int,
        most_of_address: int,
        proxies: Sequence[IPNetwork] = (),
        patience: Patience = Patience(),
    ) -> None:
        self.most, self.most_of_address, self.patience = most, most_of_address, patience
        self._proxies = proxies
        self._open: set[Guarded] = set()
        self._of_address: Counter[str] = Counter()
        # In the order in which they began to wait.
        self._waiting: dict[Guarded, None] = {}
        self._sweep: asyncio.TimerHandle | None = None

    def open(self, connection: Guarded) -> bool:
        """Take a new connection in; false where it must be refused, because all others are being served."""
        if not self._make_room(connection):
            return False
        self._open.add(connection)
        self._of_address[connection.address] += 1
        self._waiting[connection] = None
        if self._sweep is None:
            self._look_again()
        return True

    def close(self, connection: Guarded) -> None:
        """Forget a connection."""
        if connection in self._open:
            self._open.remove(connection)
            self._waiting.pop(connection, None)
            self._of_address[connection.address] -= 1
            if not self._of_address[connection.address]:
                del self._of_address[connection.address]

    def wait(self, connection: Guarded) -> None:
        """Note that nothing is being done for the connection."""
        if connection in self._open:
            self._waiting[connection] = None

    def serve(self, connection: Guarded) -> None:
        """Note that a request has come by the connection."""
        self._waiting.pop(connection, None)

    @property
    def serving(self) -> int:
        """How many connections something is being done for."""
        return len(self._open) - len(self._waiting)

    def _make_room(self, new: Guarded) -> bool:
        if self._of_address[new.address] >= self.most_of_address and not self._is_proxy(new.address):
            return self._close_longest_waiting(new.address)
        return len(self._open) < self.most or self._close_longest_waiting(None)

    def _close_longest_waiting(self, address: str | None) -> bool:
        for connection in self._waiting:
            if address is None or connection.address == address:
                self.close(connection)
                connection.close_overdue()
                return True
        return False

    def _is_proxy(self, address: str) -> bool:
        with suppress(ValueError):
            ip = ipaddress.ip_address(address)
            return any(ip in network for network in self._proxies if network.version == ip.version)
        return False

    def _close_overdue(self) -> None:
        now = time.monotonic()
        for connection in [item for item in self._open if item.is_overdue(now)]:
            connection.close_overdue()
        self._sweep = None
        if self._open:
            self._look_again()

    def _look_again(self) -> None:
        self._sweep = asyncio.get_running_loop().call_later(self.patience.sweep, self._close_overdue)


def connections_for(settings: Settings) -> Connections:
    """Return the registry that the settings ask for, within what the process may open."""
    most = settings.max_connections or default_most(raise_descriptor_limit())
    return Connections(most, settings.max_connections_per_address or max(most // 4, 1), settings.proxies)


def raise_descriptor_limit() -> int:
    """Return how many files the process may open, after asking for as many as are wanted and permitted."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, WANTED_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return wanted
    return WANTED_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


def default_most(descriptors: int) -> int:
    """Return how many connections fit into that many descriptors, when each may have a temporary file of its own."""
    return max(8, min(MAX_CONNECTIONS, (descriptors - RESERVED_DESCRIPTORS) // 2))
