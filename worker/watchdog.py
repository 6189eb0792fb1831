"""End the process when a part of it is stuck: whoever started it starts it again, and what it held is taken over."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

logger = logging.getLogger(__name__)

PERIOD_SECONDS = 1.0
EXIT_STATUS = 70
"""EX_SOFTWARE of sysexits.h."""


class Watchdog:
    """A thread that looks after the parts of the process. Start it, and close it before the parts are closed."""

    def __init__(self, exit_process: Callable[[int], object] = os._exit) -> None:
        self._exit = exit_process
        self._parts: list[tuple[str, Callable[[], bool], Callable[[], None]]] = []
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def watch(self, part: str, is_stuck: Callable[[], bool], before_exit: Callable[[], None] = lambda: None) -> None:
        """Look after a part. `before_exit`: finishes what can be finished without it."""
        self._parts.append((part, is_stuck, before_exit))

    def stuck(self) -> list[str]:
        """The parts that are stuck; any thread may ask."""
        return [part for part, is_stuck, _ in self._parts if is_stuck()]

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed.wait(PERIOD_SECONDS):
            for part, is_stuck, before_exit in self._parts:
                if is_stuck():
                    logger.critical("The %s is stuck: this process ends with status %d", part, EXIT_STATUS)
                    before_exit()
                    self._exit(EXIT_STATUS)
                    return
