"""Who may use the device next: the engine's steps and the diffusion's take turns.

Both would keep all cores or the whole GPU busy, and side by side on a CPU they are slower than one after the other. An
ordinary lock is not enough: whoever gives it up and asks again at once, as both loops do, gets it again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Line:
    """A lock that is given in the order of asking."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._asked = 0
        self._served = 0

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait in line, and hold the lock inside the block."""
        with self._changed:
            ticket = self._asked
            self._asked += 1
            self._changed.wait_for(lambda: self._served == ticket)
        try:
            yield
        finally:
            with self._changed:
                self._served += 1
                self._changed.notify_all()


class DeviceTurns:
    """The turns on one device: never more than one diffusion step between two steps of the engine.

    Diffusions stand in a line of their own first: the engine finds at most one before it, whatever their number.
    """

    def __init__(self) -> None:
        self._device = Line()
        self._diffusions = Line()

    @contextmanager
    def engine_step(self) -> Iterator[None]:
        """A turn for one step of the engine."""
        with self._device.turn():
            yield

    @contextmanager
    def diffusion_step(self) -> Iterator[None]:
        """A turn for one step of one diffusion, or one window of a long one's."""
        with self._diffusions.turn(), self._device.turn():
            yield
