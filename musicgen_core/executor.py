"""Where computing happens: tasks are handed to the one thread that holds the device, and waited for.

OpenMP keeps a pool of threads for each thread that ever computed in parallel. Where all pools together have more
threads than there are cores, libgomp puts a waiting thread to sleep at once instead of letting it spin for a moment,
and a decoding step, which joins its threads more than a hundred times, takes up to twice as long. So a loaded model
computes in its engine's thread alone (docs/decisions/0008-one-thread-computes.md).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")

Resumable = Generator[None, None, T]
"""Work in stretches: it can be left alone for a while at each `yield`."""


class Executor(Protocol):
    """Carries out tasks, in whichever thread it has for them."""

    def execute(self, work: Callable[[], T], /) -> T:
        """Do the work and wait for it; returns what it returns, raises what it raises."""


class CallerThread:
    """An Executor that does the work at once, in the caller's own thread."""

    def execute(self, work: Callable[[], T], /) -> T:
        """Do the work."""
        return work()


class PassingThread:
    """An Executor whose thread ends with each task, and takes its OpenMP pool along."""

    def execute(self, work: Callable[[], T], /) -> T:
        """Do the work in a thread of its own and wait for it."""
        task = Task(work)
        # A daemon, so that an interrupt need not wait for it.
        threading.Thread(target=task.carry_out, name="musicgen-passing", daemon=True).start()
        return task.result()


class Task(Generic[T]):
    """Work that one thread asks for and another one does."""

    def __init__(self, work: Callable[[], T], on_error: Callable[[BaseException], None] = lambda _: None) -> None:
        """`on_error`: hears what the work raises, or why it is not done, where nobody waits for the result."""
        self._work = work
        self._on_error = on_error
        self._future: Future[T] = Future()

    def carry_out(self) -> None:
        """Do the work; what it raises is for whoever asked."""
        try:
            result = self._work()
        except BaseException as error:
            self.refuse(error)
        else:
            self._future.set_result(result)

    def refuse(self, error: BaseException) -> None:
        """Give up the work: `result` raises the error."""
        self._future.set_exception(error)
        self._on_error(error)

    def result(self) -> T:
        """Wait for the work and return its result; raises what the work raised, or why it was refused."""
        return self._future.result()


def in_one_stretch(work: Callable[[], T]) -> Resumable[T]:
    """Work that cannot be left alone."""
    yield from ()
    return work()


def run_to_end(work: Resumable[T], executor: Executor | None = None, between: Callable[[], None] = lambda: None) -> T:
    """The result of resumable work, a stretch at a time.

    `executor`: has each stretch done; None: the caller's thread. `between`: called before each further stretch; an
    exception that it raises ends the work.
    """
    executor = executor or CallerThread()
    end = object()
    result: list[T] = []

    def stretch() -> object:
        try:
            return next(work)
        except StopIteration as ended:
            result.append(ended.value)
            return end

    while executor.execute(stretch) is not end:
        between()
    return result[0]
