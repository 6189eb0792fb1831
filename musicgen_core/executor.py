"""Whose thread computes: work is handed to the one that holds the device, and waited for.

OpenMP keeps a pool of threads for each thread that ever computed in parallel. Where all pools together have more
threads than there are cores, libgomp puts a waiting thread to sleep at once instead of letting it wait a moment, and a
decoding step, which joins its threads more than a hundred times, takes up to twice as long. So a loaded model computes
in the engine's thread alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")

Pausing = Generator[None, None, T]
"""Work that can be left alone for a while at each `yield`."""


class Run(Protocol):
    """Does some work, wherever that is to be done, and gives back what it gives or raises what it raises."""

    def __call__(self, work: Callable[[], T], /) -> T:
        """Do it and wait for it."""


class Errand(Generic[T]):
    """Work that one thread asks for and another one does."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._future: Future[T] = Future()

    def do(self) -> None:
        """Do it; what it raises is for the one who asked."""
        try:
            result = self._work()
        except BaseException as error:
            self._future.set_exception(error)
        else:
            self._future.set_result(result)

    def refuse(self, error: Exception) -> None:
        """It will not be done."""
        self._future.set_exception(error)

    def result(self) -> T:
        """Wait for what came of it."""
        return self._future.result()


def here(work: Callable[[], T], /) -> T:
    """A `Run`: at once, in the caller's own thread."""
    return work()


def apart(work: Callable[[], T], /) -> T:
    """A `Run`: in a thread that ends with it, and takes its OpenMP pool along."""
    errand = Errand(work)
    # A daemon, so that an interrupt need not wait for it.
    threading.Thread(target=errand.do, name="musicgen-apart", daemon=True).start()
    return errand.result()


def work_off(work: Pausing[T], run: Run = here, pause: Callable[[], None] = lambda: None) -> T:
    """The result of work that pauses: each stretch goes through `run`, and `pause` is called in between."""
    end = object()
    result: list[T] = []

    def stretch() -> object:
        try:
            return next(work)
        except StopIteration as ended:
            result.append(ended.value)
            return end

    while run(stretch) is not end:
        pause()
    return result[0]
