"""Who waits and who runs in which slot. Pure bookkeeping: knows neither tensors, time nor threads."""

import heapq
from collections import deque
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Scheduler(Generic[Item]):
    """First come, first served, over a fixed number of slots.

    The lowest free slot is filled first, so that the slots in use stay close together: a step computes all slots up to
    the highest one in use. Not thread-safe: its owner locks.
    """

    def __init__(self, slots: int) -> None:
        if slots < 1:
            raise ValueError(f"at least one slot is needed, got {slots}")
        self._free = list(range(slots))  # a heap
        self._waiting: deque[Item] = deque()
        self._running: dict[int, Item] = {}

    @property
    def running(self) -> Mapping[int, Item]:
        """Slot -> item, a live read-only view in order of admission."""
        return MappingProxyType(self._running)

    @property
    def waiting(self) -> tuple[Item, ...]:
        """The items without a slot, the next one first."""
        return tuple(self._waiting)

    @property
    def idle(self) -> bool:
        """Whether nothing runs and nothing waits."""
        return not self._running and not self._waiting

    def submit(self, item: Item) -> None:
        """Put an item at the end of the line."""
        self._waiting.append(item)

    def admit(self, may_enter: Callable[[Item], bool] = lambda _: True) -> tuple[int, Item] | None:
        """Give the lowest free slot to the next waiting item: (slot, item), or None where either lacks.

        `may_enter`: whether there is all that the next one needs besides; if not, those behind it wait with it.
        """
        if not self._free or not self._waiting or not may_enter(self._waiting[0]):
            return None
        slot, item = heapq.heappop(self._free), self._waiting.popleft()
        self._running[slot] = item
        return slot, item

    def release(self, slot: int) -> Item:
        """Free a running item's slot and return the item. Raises KeyError where the slot is free."""
        item = self._running.pop(slot)
        heapq.heappush(self._free, slot)
        return item

    def withdraw(self, item: Item) -> None:
        """Take a waiting item out of the line. Raises ValueError where it does not wait."""
        self._waiting.remove(item)
