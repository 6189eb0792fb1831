"""Take work whenever there is room for it, and have it carried out by a thread.

What waits stands in the prediction store, and is taken from there. A message of the queue only says that it is worth
looking: should messages be lost, or their consumer stall, the next look is a second away.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from predictions.errors import StoreUnavailable

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""How often it looks for work without having been told of any."""

Work = Callable[[], None]


class Dispatcher:
    """One thread that takes work, and as many as `threads` that carry it out. Start it, and close it at the end."""

    def __init__(self, take: Callable[[], Work | None], threads: int) -> None:
        """`take`: gives the next work to carry out, or None where there is none now; called by one thread alone."""
        self._take = take
        self._room = threading.Semaphore(threads)
        self._pool = ThreadPoolExecutor(threads, "work")
        self._told = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dispatcher", daemon=True)
        self._looked_at: float | None = None

    def start(self) -> None:
        """Begin to take work."""
        self._thread.start()

    def close(self) -> None:
        """Take no more, and wait for what has begun."""
        self._closed.set()
        self._told.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._pool.shutdown()

    def tell(self) -> None:
        """Look now: there is new work, or new room."""
        self._told.set()

    @property
    def is_stuck(self) -> bool:
        """Whether its thread has died."""
        return self._thread.ident is not None and not self._thread.is_alive() and not self._closed.is_set()

    @property
    def silent_seconds(self) -> float:
        """How long ago it last began to look for work; 0 before it has started."""
        return 0.0 if self._looked_at is None else time.monotonic() - self._looked_at

    def _run(self) -> None:
        while not self._closed.is_set():
            self._told.clear()
            while not self._closed.is_set() and self._take_one():
                pass
            self._told.wait(LOOK_SECONDS)

    def _take_one(self) -> bool:
        """Take one piece of work, if there is room and there is any."""
        self._looked_at = time.monotonic()
        if not self._room.acquire(blocking=False):
            return False
        work: Work | None = None
        try:
            work = self._take()
        except StoreUnavailable as error:
            logger.warning("No work can be taken, trying again: %s", error)
        finally:
            if work is None:
                self._room.release()
        if work is None:
            return False
        self._pool.submit(self._carry_out, work)
        return True

    def _carry_out(self, work: Work) -> None:
        try:
            work()
        except StoreUnavailable as error:
            logger.warning("Redis does not say how a piece of work ended; it is done again: %s", error)
        except Exception:
            logger.exception("Work failed in a way that nobody foresaw")
        finally:
            self._room.release()
            self.tell()
