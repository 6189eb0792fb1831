"""Places for work that waits for servers of clients: some in all, fewer for each owner, and fewer for each host.

A server that hangs takes up the places of its host, and a client with many such servers those of its owner. The others'
work goes on.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True)
class Places:
    """How many places there are at most."""

    total: int
    each_owner: int
    each_host: int
    """For all owners together. More than `each_owner`, or one owner could keep the others from a host they share."""
    each_lane: int
    """For one owner at one host."""


@dataclass(frozen=True)
class Busy:
    """Owners and hosts for which there is no place at present, and such pairs of both."""

    owners: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    lanes: tuple[tuple[str, str], ...] = ()


class Shares:
    """Who has which places. Safe to share between threads."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._lock = threading.Lock()
        self._taken: Counter[tuple[str, str]] = Counter()
        """By owner and host."""

    def take(self, owner: str, host: str) -> bool:
        """Take a place, to be given back; false where there is none for this owner at this host."""
        with self._lock:
            busy = self._busy()
            is_full = self._taken.total() >= self._places.total
            if is_full or owner in busy.owners or host in busy.hosts or (owner, host) in busy.lanes:
                return False
            self._taken[owner, host] += 1
            return True

    def give_back(self, owner: str, host: str) -> None:
        """Give a place back."""
        with self._lock:
            self._taken[owner, host] -= 1
            self._taken = +self._taken

    def busy(self) -> Busy:
        """For whom there is no place now."""
        with self._lock:
            return self._busy()

    def _busy(self) -> Busy:
        owners: Counter[str] = Counter()
        hosts: Counter[str] = Counter()
        for (owner, host), count in self._taken.items():
            owners[owner] += count
            hosts[host] += count
        return Busy(
            tuple(owner for owner, count in owners.items() if count >= self._places.each_owner),
            tuple(host for host, count in hosts.items() if count >= self._places.each_host),
            tuple(lane for lane, count in self._taken.items() if count >= self._places.each_lane),
        )
